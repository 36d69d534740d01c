#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The whole thing at work on this machine: devices, agent, cloud.

    demo.py --programs build/cc

Ends with Ctrl-C, or by itself after DEMO_SECONDS. RADIO=real uses this machine's BlueZ and the
Blecon devices around it instead of a simulated radio with simulated devices. With DEMO_SECONDS the
exit code is 0 only if everything it is there to show was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tls
from bluez_l2cap import preload_environment
from bluez_sim import BluezSim
from cloud import Cloud, describe, heard
from device import URL_PREFIX, VirtualDevice
from private_bus import PrivateBus, die_with

SIMULATED_DEVICES = 5
ASK_EVERY_S = 15
WIDE = 132                  # columns in which every line with a Device URL fits
DEVICE_URL = re.compile(rf"(?:with )?(?:{re.escape(URL_PREFIX)})?"
                        r"([0-9a-f]{4})[0-9a-f]{4}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOG_PREFIX = re.compile(r"^[0-9-]+T[0-9:.]+Z (?:info +)?")      # a warning or an error says so
COLOURS = {"cloud": 36, "device": 33, "agent": 32, "demo": 35}


def say(who: str, text: str) -> None:
    """A line of one of the parts. In a narrow terminal little is left of a Device URL."""
    label = f"{who:>6} |"
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < WIDE:
        text = DEVICE_URL.sub(r"\1…", text)
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        label = f"\033[{COLOURS[who]}m{label}\033[0m"
    print(f"{label} {text}", flush=True)


class Demo:
    def __init__(self, programs: Path, directory: Path, real: bool) -> None:
        self.programs = programs
        self.directory = directory
        self.real = real
        self.socket = directory / "status.sock"
        self.stopping = asyncio.Event()
        self.seen: set[str] = set()
        self.devices: list[VirtualDevice] = []

    async def run(self, seconds: float | None) -> int:
        """Run until told to stop or for that long; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        if seconds is not None:
            loop.call_later(seconds, self.stopping.set)
        pair = tls.make_server_cert(self.directory)
        cloud = Cloud(*pair, host="127.0.0.1", handler=heard, on_event=self._on_cloud,
                      keep_events=False, settings={"hotspot_name": "demo hub"})
        await cloud.start()
        say("demo", f"the cloud listens on {cloud.url}; " +
            (f"the demo ends in {seconds:.0f} s" if seconds is not None else "Ctrl-C ends the demo"))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(cloud.stop)
            environment = await self._start_radio(stack, cloud)
            await self._start_agent(stack, cloud.url, environment)
            tasks = [asyncio.create_task(self._show_status())]
            if self.devices:
                tasks.append(asyncio.create_task(self._let_devices_ask()))
            await self.stopping.wait()
            for task in tasks:
                task.cancel()
            say("demo", "ending")
        return self._verdict(seconds is not None)

    async def _start_radio(self, stack: contextlib.AsyncExitStack, cloud: Cloud) -> dict[str, str]:
        """Returns what the agent's environment needs for it."""
        if self.real:
            say("demo", "the radio is this machine's: RADIO=real")
            return {}
        bus = stack.enter_context(PrivateBus(self.directory / "bus"))
        l2cap_path = self.directory / "l2cap.sock"
        sim = BluezSim(bus.address, l2cap_path=l2cap_path)
        sim.add_adapter(0, "00:AA:01:00:00:00")
        await sim.start()
        stack.push_async_callback(sim.stop)
        for number in range(SIMULATED_DEVICES):
            device = VirtualDevice(cloud.device_public_key)
            device.l2cap = number % 2 == 0      # as they take turns: L2CAP, GATT, …
            device.on_event = lambda name, details, d=device: self._on_device(d, name, details)
            self.devices.append(device)
            sim.add_device(device, rssi=-48 - 9 * number, interval_s=1.0)
        say("demo", f"the radio is simulated, with {SIMULATED_DEVICES} devices; RADIO=real takes "
                    "this machine's")
        return {"DBUS_SYSTEM_BUS_ADDRESS": bus.address,
                **preload_environment(self.programs, l2cap_path,
                                      sanitized="sanitize" in self.programs.name)}

    async def _start_agent(self, stack: contextlib.AsyncExitStack, url: str,
                           environment: dict[str, str]) -> None:
        config = self.directory / "blecon-hotspot.conf"
        config.write_text(
            f'state_dir = {json.dumps(str(self.directory / "state"))};\n'
            f"status_socket = {json.dumps(str(self.socket))};\n"
            f'uplink: {{ url = "{url}"; ca_file = {json.dumps(str(self.directory / "ca.pem"))};\n'
            f"          report_interval_s = 10; ping_interval_s = 2; }};\n")
        process = await asyncio.create_subprocess_exec(
            self.programs / "blecon-hotspotd", "--foreground", "--config", config,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}, preexec_fn=die_with(os.getpid()),
            start_new_session=True)
        reader = asyncio.create_task(self._read_agent(process))
        stack.push_async_callback(self._end_agent, process, reader)

    async def _read_agent(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for line in process.stdout:
            say("agent", LOG_PREFIX.sub("", line.decode(errors="replace").rstrip()))
        if not self.stopping.is_set():
            say("demo", f"the agent has ended with {await process.wait()}")
            self.stopping.set()

    @staticmethod
    async def _end_agent(process: asyncio.subprocess.Process, reader: asyncio.Task[None]) -> None:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
        await reader

    def _on_cloud(self, event: dict[str, Any]) -> None:
        self.seen.add(event["event"])
        line = describe(event)
        if line:
            say("cloud", line)

    def _on_device(self, device: VirtualDevice, name: str, details: dict[str, Any]) -> None:
        lines = {
            "session_open": "connected by a hotspot",
            "established": "cloud authenticated, session keys agreed",
            "request_sent": f"request \"{details.get('request', b'').decode()}\", encrypted",
            "answer": f"answer, decrypted: \"{details.get('answer', b'').decode()}\"",
            "rejected": f"rejected: {details.get('reason')}",
            "closed": "disconnected",
        }
        self.seen.add(f"device {name}")
        say("device", f"{device.device_url} {lines[name]}")

    async def _let_devices_ask(self) -> None:
        """Now and then one of the devices has something to tell its cloud."""
        await asyncio.sleep(2)
        for number in range(1_000_000):
            device = self.devices[number % len(self.devices)]
            say("device", f"{device.device_url} asks for a connection")
            device.ask(f"request {number + 1}: 21.5 degrees".encode())
            await asyncio.sleep(ASK_EVERY_S)

    async def _show_status(self) -> None:
        """What blecon-hotspotctl prints, once early and then every minute."""
        await asyncio.sleep(5)
        while True:
            for command in ("status", "devices"):
                say("demo", f"$ blecon-hotspotctl {command}")
                process = await asyncio.create_subprocess_exec(
                    self.programs / "blecon-hotspotctl", "--socket", self.socket, command,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                output, _ = await process.communicate()
                print(output.decode(errors="replace"), end="", flush=True)
                self.seen.add(command)
            await asyncio.sleep(60)

    def _verdict(self, to_the_end: bool) -> int:
        """The exit code. A person who ends it with Ctrl-C has seen enough."""
        if not to_the_end:
            return 0
        wanted = {"hello", "status", "devices", "sighting"}
        if not self.real:
            wanted |= {"open", "request", "answer", "device established", "device answer"}
        missing = sorted(wanted - self.seen)
        if missing:
            say("demo", f"not seen: {', '.join(missing)}")
            if self.real and "sighting" in missing:
                say("demo", "no Blecon device was heard; see the status above for this machine's "
                            "Bluetooth")
            return 1
        say("demo", "ended; sightings were seen" if self.real else
            "ended; sightings, session, request and answer were all seen")
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, required=True, help="where they were built")
    args = parser.parse_args()
    radio = os.environ.get("RADIO", "simulated")
    if radio not in ("simulated", "real"):
        parser.error(f"RADIO is real or simulated, not {radio}")
    try:
        seconds = float(os.environ["DEMO_SECONDS"]) if "DEMO_SECONDS" in os.environ else None
    except ValueError:
        parser.error(f"DEMO_SECONDS is a number, not {os.environ['DEMO_SECONDS']}")
    with tempfile.TemporaryDirectory(prefix="blecon-demo-") as directory:
        demo = Demo(args.programs.resolve(), Path(directory), radio == "real")
        return asyncio.run(demo.run(seconds))


if __name__ == "__main__":
    sys.exit(main())
