# SPDX-License-Identifier: Apache-2.0
"""The agent as a process, with a private bus, a simulated BlueZ and a cloud around it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tls
from bluez_sim import BluezSim
from cloud import Cloud
from private_bus import PrivateBus

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / os.environ.get("PROGRAMS", "build/cc")
DAEMON = PROGRAMS / "blecon-hotspotd"
CTL = PROGRAMS / "blecon-hotspotctl"

# What the tests wait for takes moments; these are the defaults with shorter waits.
QUICK = {
    "uplink": {"report_interval_s": 1, "backoff_min_ms": 100, "backoff_max_s": 1,
               "connect_timeout_s": 5},
    "devices": {"lost_after_s": 60},
    "relay": {"retry_min_s": 1, "retry_max_s": 2},
}


async def until(condition: Callable[[], Any], timeout_s: float = 10.0, what: str = "") -> Any:
    """Wait until condition() is true and return what it returned; AssertionError in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what or condition}"
        await asyncio.sleep(0.02)


def render(options: dict[str, Any], indent: str = "") -> str:
    """Options as libconfig text."""
    lines = []
    for name, value in options.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}: {{", render(value, indent + "\t"), f"{indent}}};"]
        elif isinstance(value, (bool, str)):
            lines.append(f"{indent}{name} = {json.dumps(value)};")
        else:
            lines.append(f"{indent}{name} = {value};")
    return "\n".join(lines)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """base with changes, group by group."""
    merged = dict(base)
    for name, value in changes.items():
        merged[name] = merge(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged


class Agent:
    """One blecon-hotspotd in a directory of its own."""

    def __init__(self, directory: Path, bus_address: str, options: dict[str, Any]) -> None:
        self.directory = directory
        self.socket = directory / "status.sock"
        self.config = directory / "agent.conf"
        self.log_path = directory / "agent.log"
        self.key = directory / "state/hotspot.key"
        self.process: subprocess.Popen[bytes] | None = None
        self._bus_address = bus_address
        self.options = merge({"state_dir": str(directory / "state"),
                              "status_socket": str(self.socket)}, options)

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.config.write_text(render(self.options))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [DAEMON, "--foreground", "--log-level", "debug", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self._bus_address})
        await until(lambda: self.socket.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    async def stop(self) -> int:
        """End it in good order; its exit code."""
        assert self.process
        self.process.terminate()
        try:
            await until(lambda: self.process.poll() is not None, 15, "the agent to end")
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_path.read_text(errors="replace")

    async def ask(self, request: str) -> dict[str, Any]:
        """What the status socket answers."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 26)
        writer.write(request.encode() + b"\n")
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        return json.loads(line)

    async def status(self) -> dict[str, Any]:
        return await self.ask("status")

    async def devices(self) -> dict[str, dict[str, Any]]:
        """The device table, by Device URL."""
        return {d["device_url"]: d for d in (await self.ask("devices"))["devices"]}

    async def wait_for_status(self, condition: Callable[[dict[str, Any]], Any],
                              timeout_s: float = 10.0) -> dict[str, Any]:
        """The first status for which condition is true."""
        async def look() -> dict[str, Any] | None:
            status = await self.status()
            return status if condition(status) else None
        return await until(look, timeout_s)

    async def wait_for_log(self, text: str, timeout_s: float = 10.0) -> None:
        await until(lambda: text in self.log, timeout_s, f"{text!r} in the log")


class Lab:
    """A bus, a simulated BlueZ with one adapter, a cloud, and an agent between them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bus = PrivateBus(directory / "bus")
        self.sim: BluezSim
        self.cloud: Cloud
        self.agent: Agent
        self.ca = tls.make_ca(directory)
        self.pair = tls.make_server_cert(directory, ca=self.ca)

    async def scanning(self, timeout_s: float = 10.0) -> None:
        """Wait until BlueZ scans for the agent and the agent knows."""
        await self.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning", timeout_s)

    async def up(self, timeout_s: float = 10.0) -> None:
        await self.agent.wait_for_status(lambda s: s["uplink"]["state"] == "up", timeout_s)


@asynccontextmanager
async def running_lab(directory: Path, options: dict[str, Any] | None = None,
                      cloud: dict[str, Any] | None = None, start_cloud: bool = True,
                      start_sim: bool = True, start_agent: bool = True) -> AsyncIterator[Lab]:
    """A lab that runs, and ends whatever happens. A sanitizer's report fails the test."""
    lab = Lab(directory)
    lab.bus.start()
    lab.sim = BluezSim(lab.bus.address)
    lab.sim.add_adapter(0, "00:AA:01:00:00:00")
    lab.cloud = Cloud(*lab.pair, **{"state": directory / "cloud", "record_raw": True,
                                    **(cloud or {})})
    try:
        if start_sim:
            await lab.sim.start()
        await lab.cloud.start()
        url = lab.cloud.url
        if not start_cloud:
            await lab.cloud.stop()
        lab.agent = Agent(directory, lab.bus.address, merge(
            merge(QUICK, {"uplink": {"url": url, "ca_file": str(lab.ca.cert)}}), options or {}))
        try:
            if start_agent:
                await lab.agent.start()
            yield lab
        finally:
            if lab.agent.process and lab.agent.process.poll() is None:
                await lab.agent.stop()
        assert "Sanitizer" not in lab.agent.log and "runtime error" not in lab.agent.log
        if lab.agent.process:
            assert lab.agent.process.returncode == 0, lab.agent.log
    finally:
        await lab.cloud.stop()
        await lab.sim.stop()
        lab.bus.stop()
