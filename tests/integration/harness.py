# SPDX-License-Identifier: Apache-2.0
"""The agent as a process, with a private bus, a simulated BlueZ and a cloud around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import cbor2

import tls
from bluez_l2cap import preload_environment
from bluez_sim import BluezSim
from cloud import Cloud
from private_bus import PrivateBus, die_with

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
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


figures: list[str] = []     # async_tests.py prints them at the end of the run


def show(figure: str) -> None:
    """A measured value for people, whether the test passes or not."""
    figures.append(figure)


ports = iter(random.sample(range(20000, 32000), 5000))


def free_port() -> int:
    """One that no other test takes while its server is down: not of those for outgoing connections."""
    for port in ports:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port left")


class Ended(NamedTuple):
    """A program that has ended."""

    code: int
    out: str
    err: str


async def run(program: str | Path, *arguments: str | Path, **environment: str) -> Ended:
    """Run a program to its end."""
    process = await asyncio.create_subprocess_exec(
        program, *map(str, arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, **environment})
    try:
        out, err = await asyncio.wait_for(process.communicate(), 15)
    except TimeoutError:
        process.kill()
        raise
    assert not has_sanitizer_report(err.decode()), err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


def has_sanitizer_report(text: str) -> bool:
    return "Sanitizer" in text or "runtime error" in text


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
        elif isinstance(value, (bool, str, list)):
            lines.append(f"{indent}{name} = {json.dumps(value, ensure_ascii=False)};")
        else:
            lines.append(f"{indent}{name} = {value};")
    return "\n".join(lines)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """base with changes, group by group."""
    merged = dict(base)
    for name, value in changes.items():
        merged[name] = merge(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The cloud of a test is not behind the proxy of whoever runs it."""
    return {name: value for name, value in environment.items()
            if not name.lower().endswith("_proxy")}


class Agent:
    """One blecon-hotspotd in a directory of its own."""

    def __init__(self, directory: Path, bus_address: str, options: dict[str, Any]) -> None:
        self.directory = directory
        self.socket = directory / "status.sock"
        self.config = directory / "agent.conf"
        self.log_path = directory / "agent.log"
        self.key = directory / "state/hotspot.key"
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [DAEMON, "--foreground", "--log-level", "debug"]
        self.prepare = die_with(os.getpid())    # in the process that is to be the agent
        # The bus has another GUID after a restart, and a client would insist on the first one.
        self.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus_address.partition(",guid=")[0]}
        self.options = merge({"state_dir": str(directory / "state"),
                              "status_socket": str(self.socket)}, options)

    def write_config(self) -> Path:
        self.config.write_text(render(self.options))
        return self.config

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.write_config()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**without_proxy(os.environ), **self.environment}, preexec_fn=self.prepare)
        while self.process.poll() is None and not await self.answers():
            await asyncio.sleep(0.02)
        assert self.process.poll() is None, self.log

    async def answers(self) -> bool:
        """Whether its status socket takes a connection."""
        try:
            _, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> int:
        """End it in good order; its exit code."""
        assert self.process
        self.process.terminate()
        try:
            await until(lambda: self.process.poll() is not None, 15, "the agent to end")
        finally:
            self.process.kill()
            self.process.wait()
        assert not has_sanitizer_report(self.log), self.log[-8000:]
        return self.process.returncode

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def rss_kb(self) -> int:
        """Memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    async def ask(self, request: str) -> dict[str, Any]:
        """What the status socket answers."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 26)
        writer.write(request.encode() + b"\n")
        # Python 3.11's wait_for() can lose a cancellation, and whoever asks may be cancelled.
        async with asyncio.timeout(5):
            line = await reader.readline()
        writer.close()
        return json.loads(line)

    async def status(self) -> dict[str, Any]:
        return await self.ask("status")

    async def devices(self) -> dict[str, dict[str, Any]]:
        """The device table, by Device URL."""
        return {d["device_url"]: d for d in (await self.ask("devices"))["devices"]}

    async def wait_for_status(self, condition: Callable[[dict[str, Any]], Any],
                              timeout_s: float = 10.0, what: str = "") -> dict[str, Any]:
        """The first status for which condition is true."""
        status: dict[str, Any] = {}

        async def look() -> dict[str, Any] | None:
            nonlocal status
            status = await self.status()
            return status if condition(status) else None
        try:
            return await until(look, timeout_s, what)
        except AssertionError as err:
            err.add_note(f"last status: {status}")
            raise

    async def wait_for_log(self, text: str, timeout_s: float = 10.0, count: int = 1) -> str:
        """Wait for a line with this text; the count-th of them.

        The same line is not written again at once, but a debug line, and in `events`.
        """
        def lines() -> list[str]:
            return [line for line in self.log.splitlines() if text in line]
        await until(lambda: len(lines()) >= count, timeout_s, f"{text!r} in the log")
        return lines()[count - 1]


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

    async def scanning(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait until BlueZ scans for the agent and the agent knows."""
        return await self.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "scanning", timeout_s, "scanning")

    async def up(self, timeout_s: float = 10.0) -> dict[str, Any]:
        return await self.agent.wait_for_status(lambda s: s["uplink"]["state"] == "up", timeout_s,
                                                "uplink up")

    async def working(self) -> None:
        """Wait until it scans and the uplink is up."""
        await self.scanning()
        await self.up()

    async def all_told(self, timeout_s: float = 10.0) -> None:
        """Silence the radio, wait until nothing is pending, and see that each advert counted once.
        """
        for peer in self.sim.peers:
            self.sim.set_interval(peer, None)
        await self.agent.wait_for_status(
            lambda s: s["sightings"]["adverts"] == self.sim.delivered.total(), timeout_s,
            f"all {self.sim.delivered.total()} adverts heard")
        await self.agent.wait_for_status(
            lambda s: s["sightings"]["pending"] == 0 and "unacknowledged_s" not in s["sightings"],
            timeout_s, "nothing pending")
        assert self.cloud.totals() == dict(self.sim.delivered)

    async def restart_bus(self) -> None:
        """Kill dbus-daemon, and with it bluetoothd; start both again."""
        os.kill(self.bus.pid, signal.SIGKILL)
        self.bus.stop()
        with contextlib.suppress(Exception):    # it has lost its bus, and would wait for it
            await asyncio.wait_for(self.sim.stop(), 0.5)
        await self.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "no-bus")
        self.bus.start()
        self.sim.bus_address = self.bus.address
        await self.sim.start()


@asynccontextmanager
async def running_lab(directory: Path, options: dict[str, Any] | None = None,
                      cloud: dict[str, Any] | None = None, start_cloud: bool = True,
                      start_sim: bool = True, start_agent: bool = True,
                      pair: Callable[[Path, tls.Ca], tls.Pair] | None = None,
                      ) -> AsyncIterator[Lab]:
    """A lab that runs, and ends whatever happens. A sanitizer's report fails the test.

    options: of the agent, over QUICK. cloud: arguments of Cloud. pair: makes the cloud's
    certificate, instead of a good one.
    """
    directory.mkdir(exist_ok=True)
    lab = Lab(directory)
    lab.bus.start()
    lab.sim = BluezSim(lab.bus.address, l2cap_path=directory / "l2cap.sock")
    lab.sim.add_adapter(0, "00:AA:01:00:00:00")
    lab.cloud = Cloud(*(pair(directory, lab.ca) if pair else lab.pair),
                      **{"state": directory / "cloud", "record_raw": True, "port": free_port(),
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
        lab.agent.environment |= preload_environment(PROGRAMS, directory / "l2cap.sock",
                                                     "sanitize" in PROGRAMS.name)
        try:
            if start_agent:
                await lab.agent.start()
            yield lab
        except Exception as err:
            lines = [line for line in lab.agent.log.splitlines() if ": advert of " not in line]
            err.add_note("\n".join(["the agent's log ends with:", *lines[-40:]]))
            raise
        finally:
            if lab.agent.process and lab.agent.process.poll() is None:
                await lab.agent.stop()
        assert not has_sanitizer_report(lab.agent.log), lab.agent.log[-8000:]
        if lab.agent.process:
            assert lab.agent.process.returncode == 0, lab.agent.log[-8000:]
        assert not lab.sim.errors, lab.sim.errors
    finally:
        await lab.cloud.stop()
        await lab.sim.stop()
        lab.bus.stop()


class Recorder:
    """A TCP proxy that keeps every byte that passes."""

    def __init__(self, port: int) -> None:
        self.port = 0                       # listens here
        self.recorded: list[bytes] = []
        self._target = port
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Recorder:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, to_writer}
        await asyncio.gather(self._copy(reader, to_writer), self._copy(to_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.recorded.append(data)
                writer.write(data)
                await writer.drain()
        writer.close()


SHADOW = 1 << 32    # a sanitizer's shadow memory: larger than anything else, and no data in it


def memory_of(pid: int) -> Iterator[bytes]:
    """All of a process's memory that can be read, region by region, while it is stopped."""
    maps = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)$",
                      Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for first, end, name in maps:
            start, size = int(first, 16), int(end, 16) - int(first, 16)
            if size < SHADOW and name not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                yield read_region(mem, start, size)


def read_region(mem: Any, start: int, size: int) -> bytes:
    mem.seek(start)
    parts = []
    while size > 0:
        try:
            parts.append(mem.read(min(size, 1 << 24)))
        except OSError:     # past the end of a mapped file
            break
        size -= len(parts[-1])
    return b"".join(parts)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def no_cloud(status: dict[str, Any]) -> str:
    """The summary where nothing but the way to the cloud is wrong: why, and what to do."""
    error, advice = status["uplink"]["error"], status["uplink"]["advice"]
    return f"Not working: no cloud: {error}{'' if error[-1] in '.?!' else '.'} {advice}"


def messages(lab: Lab, direction: str, kind: int) -> list[list[Any]]:
    """The fields of all messages of one type on the WebSocket."""
    decoded = [cbor2.loads(m) for d, m in lab.cloud.raw if d == direction and isinstance(m, bytes)]
    return [m[1:] for m in decoded if m[0] == kind]
