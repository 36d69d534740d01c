#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent costs, side by side with the least that a client of BlueZ can cost.

    bench.py --programs build/cc [--runs 3] [--seconds 8] [--only adverts]

adverts: load.c plays bluetoothd on a private bus. Agent and floor.c hear it in turns, in the same
run, because the ratio is what can be compared between machines. The agent has its cloud, in this
process, and reports to it every 5 s (the default is 60). Each advert must be counted by both, and
by the cloud; if not, the bench fails.

relay: see relay.py.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from processes import BUILD, BenchAgent, cpu_ns, memory_kb, start  # puts the lab in the path

import cbor2
import relay
import tls
from cloud import SIGHTINGS, Cloud
from private_bus import PrivateBus

HERE = Path(__file__).resolve().parent
SETTLE_S = 0.5          # after the last advert was sent, until the client's CPU time is read
PATIENCE_S = 5.0        # for what is still to come after that
LATE = 1.05             # a load that took that much longer than it should says nothing
BATCH = 100             # sightings
TLS_RECORD = 22         # bytes besides the content: TLS 1.3, with a tag of 16 bytes
TLS_CONTENT = 4116      # bytes libwebsockets has TLS write at once, with websocket.c's RX_CHUNK


class Case(NamedTuple):
    devices: int
    rate: int           # adverts a second, all devices together
    limit: float | None  # of the ratio; None: only loss counts


CASES = (Case(200, 500, 1.0), Case(200, 2000, 1.0), Case(200, 5000, 1.25), Case(1000, 2000, 1.0),
         Case(10_000, 10_000, None))


class Run(NamedTuple):
    """One client under one load."""

    cpu_us: float       # for each advert
    idle_kb: int
    after_kb: int
    peak_kb: int
    bus_us: float       # of dbus-daemon, for each advert


class Program(NamedTuple):
    """One of the C programs beside this file."""

    name: str
    more: tuple[str, ...] = ()      # sources, besides that of its name
    package: str = "libsystemd"


PROGRAMS = (Program("floor"), Program("load", ("adapter",)),
            Program("radio", ("adapter", "device")), Program("cloud", ("wire",), "openssl"),
            Program("echo", ("device",), "openssl"))


def build(program: Program) -> None:
    """Compile it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", program.package],
                                    text=True)
    sources = [HERE / f"{name}.c" for name in (program.name, *program.more)]
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall",
                    "-Wextra", "-o", BUILD / program.name, *sources, *flags.split()], check=True)


class Bench:
    def __init__(self, programs: Path, directory: Path, seconds: int, runs: int) -> None:
        self.programs = programs
        self.directory = directory
        self.seconds = seconds
        self.runs = runs
        self.ca = tls.make_ca(directory)
        self.pair = tls.make_server_cert(directory, ca=self.ca)
        self.failures: list[str] = []
        self.batch_bytes: list[int] = []    # WebSocket messages with 100 sightings
        self._n = 0

    def new_directory(self) -> Path:
        self._n += 1
        path = self.directory / str(self._n)
        path.mkdir()
        return path

    async def floor(self, case: Case) -> Run:
        """The floor under one load."""
        counter = self.new_directory() / "count"
        async with AsyncExitStack() as stack:
            bus = stack.enter_context(PrivateBus(counter.parent / "bus"))
            load = await self._start_load(stack, bus, case)
            process = await start(stack, BUILD / "floor", bus.address, counter)

            async def count() -> int:
                return struct.unpack("=Q", counter.read_bytes())[0]
            return await self._measure("floor", case, load, process.pid, bus.pid, count)

    async def agent(self, case: Case) -> Run:
        """The agent under one load, and what its cloud was told."""
        directory = self.new_directory()
        async with AsyncExitStack() as stack:
            bus = stack.enter_context(PrivateBus(directory / "bus"))
            load = await self._start_load(stack, bus, case)
            cloud = Cloud(*self.pair, keep_events=False, record_raw=True)
            await cloud.start()
            stack.push_async_callback(cloud.stop)
            agent = BenchAgent(directory, bus, self.programs, {
                "uplink": {"url": cloud.url, "ca_file": str(self.ca.cert), "report_interval_s": 5},
                "devices": {"max": max(1000, case.devices)}})
            await agent.start()
            stack.push_async_callback(agent.stop)
            await agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning"
                                        and s["uplink"]["state"] == "up", what="working")

            async def count() -> int:
                return (await agent.status())["sightings"]["adverts"]
            run = await self._measure("agent", case, load, agent.process.pid, bus.pid, count)
            told = await self._settled(lambda: told_of(cloud), self._sent(case), 10)
            self._check("cloud", case, told)
            self.batch_bytes += batches(cloud)
            return run

    async def _start_load(self, stack: AsyncExitStack, bus: PrivateBus,
                          case: Case) -> asyncio.subprocess.Process:
        return await start(stack, BUILD / "load", bus.address, str(case.devices), str(case.rate),
                           str(self._sent(case)))

    def _sent(self, case: Case) -> int:
        return case.rate * self.seconds

    async def _measure(self, who: str, case: Case, load: asyncio.subprocess.Process, pid: int,
                       bus_pid: int, count: Callable[[], Awaitable[int]]) -> Run:
        await asyncio.sleep(SETTLE_S)
        idle_kb = memory_kb(pid, "VmRSS")
        cpu, bus = cpu_ns(pid), cpu_ns(bus_pid)
        load.stdin.write(b"\n")
        line = await asyncio.wait_for(load.stdout.readline(), 10 * self.seconds)
        await asyncio.sleep(SETTLE_S)
        cpu, bus = cpu_ns(pid) - cpu, cpu_ns(bus_pid) - bus
        _, sent, took_ms = line.split()
        if int(took_ms) > self.seconds * 1000 * LATE:
            self.failures.append(f"{case.rate}/s: the load took {int(took_ms)} ms for "
                                 f"{self.seconds} s")
        self._check(who, case, await self._settled(count, int(sent), PATIENCE_S))
        return Run(cpu / 1e3 / int(sent), idle_kb, memory_kb(pid, "VmRSS"),
                   memory_kb(pid, "VmHWM"), bus / 1e3 / int(sent))

    @staticmethod
    async def _settled(count: Callable[[], Awaitable[int]], wanted: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while (n := await count()) < wanted and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return n

    def _check(self, who: str, case: Case, counted: int) -> None:
        if counted != self._sent(case):
            self.failures.append(f"{case.devices} devices, {case.rate}/s: the {who} counted "
                                 f"{counted} of {self._sent(case)}")

    async def adverts(self) -> None:
        """All cases, and their table."""
        print(f"CPU seconds per 100,000 adverts; medians of {self.runs} runs of {self.seconds} s, "
              "agent and floor in turns\n"
              " devices  rate/s   floor   agent   ratio  limit     dbus-daemon  floor MB  "
              "agent MB: idle  after   peak")
        for case in CASES:
            floors, agents = [], []
            for _ in range(self.runs if case.limit else 1):
                floors.append(await self.floor(case))
                agents.append(await self.agent(case))
            self._row(case, median(floors), median(agents))
        if self.batch_bytes:
            frame = statistics.mean(self.batch_bytes)
            tls13 = statistics.mean(n + math.ceil(n / TLS_CONTENT) * TLS_RECORD
                                    for n in self.batch_bytes)
            print(f"on the wire: {frame / BATCH:.1f} bytes a sighting as a WebSocket frame, "
                  f"{tls13 / BATCH:.1f} with TLS 1.3, in {len(self.batch_bytes)} batches of "
                  f"{BATCH}")
        else:
            self.failures.append(f"no batch of {BATCH} sightings")

    def _row(self, case: Case, floor: Run, agent: Run) -> None:
        ratio = agent.cpu_us / floor.cpu_us
        limit = f"{case.limit:.2f}" if case.limit else "-"
        bus = f"{floor.bus_us / 10:.2f} / {agent.bus_us / 10:.2f}"
        print(f"{case.devices:>8} {case.rate:>7} {floor.cpu_us / 10:>7.2f} "
              f"{agent.cpu_us / 10:>7.2f} {ratio:>7.2f} {limit:>6} {bus:>15} "
              f"{floor.peak_kb / 1024:>9.1f} {agent.idle_kb / 1024:>15.1f} "
              f"{agent.after_kb / 1024:>6.1f} {agent.peak_kb / 1024:>6.1f}", flush=True)
        if case.limit and ratio > case.limit:
            self.failures.append(f"{case.devices} devices, {case.rate}/s: {ratio:.2f} times the "
                                 f"floor, {case.limit} is the limit")


def median(runs: list[Run]) -> Run:
    return Run(*(statistics.median(values) for values in zip(*runs)))


async def told_of(cloud: Cloud) -> int:
    """Adverts reported to the cloud."""
    return sum(cloud.totals().values())


def batches(cloud: Cloud) -> list[int]:
    """Sizes of the messages with a full batch: payload, and the head and mask of a frame."""
    sizes = []
    for direction, message in cloud.raw:
        if direction == "in":
            kind, *fields = cbor2.loads(message)
            if kind == SIGHTINGS and len(fields[1]) == BATCH:
                sizes.append(len(message) + 8)
    return sizes


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, required=True, help="where they were built")
    parser.add_argument("--seconds", type=int, default=8, help="of each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=3000, help="round trips of each run")
    parser.add_argument("--only", choices=["adverts", "relay"])
    args = parser.parse_args()
    for program in PROGRAMS:
        build(program)
    with tempfile.TemporaryDirectory(prefix="hotspot-bench-") as directory:
        bench = Bench(args.programs.resolve(), Path(directory), args.seconds, args.runs)
        if args.only != "relay":
            await bench.adverts()
        if args.only != "adverts":
            await relay.run(bench, args.frames)
        for failure in bench.failures:
            print(f"FAILED: {failure}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
