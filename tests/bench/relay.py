# SPDX-License-Identifier: Apache-2.0
"""What it costs to carry frames: the agent beside socat, which carries the same frames between the
same ends in the same run.

    cloud.c  <--TCP or TLS-->  agent or socat  <--Unix sockets-->  radio.c or echo.c

The agent always has TLS, WebSocket, CBOR and credits. Its device's end are the sockets of GATT, or
of L2CAP with l2cap_preload.so. socat, one process for each session, has none of that: it is the
least that a relay can cost, with TLS and without. It is told the size of a frame (-b), or it would
hand the device's end what no device takes: many frames in one packet.

What is counted as the agent's CPU is all it does meanwhile, system time included. Over GATT that
is also D-Bus: a ReadValue for every 32 frames to a device, which radio.c answers when it has read
all before it. What dbus-daemon has to do for it stands by itself ("bus").

Round trips are measured with all processes on one core, because then the scheduler decides nothing,
and with all cores; throughput with what is in between on a core of its own: "busy" says how much of
that core it used. Where that is well below 100 %, the ends or a window held the frames up, and CPU
per MB is what compares. Only lost or wrong bytes are a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from processes import BUILD, BenchAgent, cpu_ns, memory_kb, pin, start  # puts the lab in the path

from bluez_l2cap import preload_environment
from private_bus import PrivateBus, die_with

FRAME = 244             # bytes, as in frames.h
WARM_UP = 300           # round trips before those that count
FLOW = 48_000           # frames of a run in one direction, all sessions together
SESSIONS = (1, 8)
PATIENCE_S = 60


class Way(NamedTuple):
    """What is in between."""

    name: str
    cloud: str          # what cloud.c is to expect
    bearer: str = ""    # the agent's
    credits: int = 16   # the cloud's and the agent's, in each session


SOCAT = Way("socat TCP", "tcp")
SOCAT_TLS = Way("socat TLS", "tls")
# socat and agent in turns.
WAYS = (SOCAT, Way("agent GATT, 16 credits", "agent", "gatt"),
        SOCAT_TLS, Way("agent GATT, 64 credits", "agent", "gatt", 64),
        Way("agent L2CAP, 16 credits", "agent", "l2cap"),
        Way("agent L2CAP, 64 credits", "agent", "l2cap", 64))


class Trips(NamedTuple):
    """Round trips, one in flight."""

    p50_us: float
    p99_us: float
    cpu_us: float       # of what is in between, for each
    bus_us: float       # of dbus-daemon


class Flow(NamedTuple):
    """As many frames as go, in one direction."""

    frames_s: float
    cpu_ms: float       # of what is in between, for each MB of frames
    bus_ms: float
    busy: float         # of its core


class Results:
    """Of all runs, by what was measured."""

    def __init__(self) -> None:
        self.values: dict[tuple, list[Any]] = {}

    def add(self, *key: Any, value: Any) -> None:
        self.values.setdefault(key, []).append(value)

    def get(self, *key: Any) -> Any:
        """The median of each number."""
        values = self.values[key]
        return type(values[0])(*(statistics.median(v) for v in zip(*values)))

    def kb(self, way: Way, sessions: int) -> float:
        return statistics.median(self.values["memory", way, sessions])


class Setup:
    """Both ends and what is in between, at work."""

    def __init__(self, cloud: asyncio.subprocess.Process, port: int) -> None:
        self.cloud = cloud
        self.port = port
        self.between: list[int] = []    # processes
        self.others = [cloud.pid]
        self.bus: int | None = None

    async def hear(self) -> str:
        """What the cloud's end says."""
        line = await asyncio.wait_for(self.cloud.stdout.readline(), PATIENCE_S)
        if not line:
            raise RuntimeError("the cloud's end gave up")
        return line.decode()

    async def command(self, what: str, n: int) -> list[int]:
        self.cloud.stdin.write(f"{what} {n}\n".encode())
        return [int(word) for word in (await self.hear()).split()]

    def place(self, between: list[int], others: list[int]) -> None:
        """Which CPUs to use."""
        pin(self.between, between)
        pin(self.others, others)

    def cpu(self) -> tuple[int, int]:
        """Of what is in between, and of the bus."""
        return sum(map(cpu_ns, self.between)), cpu_ns(self.bus) if self.bus else 0

    async def trips(self, n: int) -> Trips:
        if self.between:
            await self.command("latency", WARM_UP)
        before = self.cpu()
        p50, p99 = await self.command("latency", n)
        after = self.cpu()
        return Trips(p50 / 1e3, p99 / 1e3, *((b - a) / 1e3 / n for a, b in zip(before, after)))

    async def flow(self, direction: str, sessions: int, frames: int) -> Flow:
        await self.command(direction, 100)      # memory and windows grow
        before = self.cpu()
        [took_ns] = await self.command(direction, frames // sessions)
        cpu, bus = (b - a for a, b in zip(before, self.cpu()))
        mb = frames * FRAME / 1e6
        return Flow(frames / took_ns * 1e9, cpu / 1e6 / mb, bus / 1e6 / mb, cpu / took_ns)


async def run(bench: Any, n: int) -> None:
    """Measure and print. bench: of bench.py, for its directories, keys and programs."""
    ways = [w for w in WAYS if w.cloud == "agent" or shutil.which("socat")]
    results = Results()
    for _ in range(bench.runs):
        for kind in ("tcp", "tls"):
            await measure_nothing(bench, kind, n, results)
        for way in ways:
            for sessions in SESSIONS:
                try:
                    await measure(bench, way, sessions, n, results)
                except (RuntimeError, TimeoutError) as err:
                    bench.failures.append(f"{way.name}, {sessions} sessions: {err!r}")
                    return
    if SOCAT not in ways:
        print("no socat here, so nothing to compare with")
    print_trips(results, ways, n, bench.runs)
    print_flows(results, ways)
    print_memory(results, ways)


def cores() -> tuple[list[int], list[int], list[int]]:
    """All, one, and the others where there are any."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus, cpus[-1:], cpus[:-1] or cpus


async def measure(bench: Any, way: Way, sessions: int, n: int, results: Results) -> None:
    every, one, rest = cores()
    async with (agent if way.cloud == "agent" else socat)(bench, way, sessions) as setup:
        if sessions == 1:
            for where, cpus in (("one core", one), ("all cores", every)):
                setup.place(cpus, cpus)
                results.add("trips", where, way, value=await setup.trips(n))
        setup.place(one, rest)
        for direction in ("down", "up"):
            flow = await setup.flow(direction, sessions, FLOW)
            results.add("flow", way, sessions, direction, value=flow)
        memory = sum(memory_kb(pid, "VmRSS") for pid in setup.between)
        results.add("memory", way, sessions, value=memory)


async def measure_nothing(bench: Any, kind: str, n: int, results: Results) -> None:
    """The ends alone."""
    every, one, _ = cores()
    async with AsyncExitStack() as stack:
        setup = await start_cloud(stack, bench, kind, 1, 1)
        echo = await start(stack, BUILD / "echo", kind, str(setup.port))
        setup.others.append(echo.pid)
        await setup.hear()
        for where, cpus in (("one core", one), ("all cores", every)):
            setup.place([], cpus)
            await setup.command("latency", WARM_UP)
            results.add("trips", where, kind, value=await setup.trips(n))


# --- What is in between ---

async def start_cloud(stack: AsyncExitStack, bench: Any, kind: str, sessions: int,
                      credits: int) -> Setup:
    cloud = await start(stack, BUILD / "cloud", kind, str(sessions), str(credits), *bench.pair)
    return Setup(cloud, int(await cloud.stdout.readline()))


@asynccontextmanager
async def agent(bench: Any, way: Way, sessions: int) -> AsyncIterator[Setup]:
    directory = bench.new_directory()
    l2cap = directory / "l2cap"
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(PrivateBus(directory / "bus"))
        radio = await start(stack, BUILD / "radio", bus.address, str(sessions), l2cap)
        setup = await start_cloud(stack, bench, "agent", sessions, way.credits)
        # GATT without the library, for it looks at each socket call.
        environment = preload_environment(bench.programs, l2cap) if way.bearer == "l2cap" else {}
        process = BenchAgent(directory, bus, bench.programs, {
            "uplink": {"url": f"wss://127.0.0.1:{setup.port}/", "ca_file": str(bench.ca.cert)},
            "relay": {"bearer": way.bearer, "holdoff_ms": 0,
                      "max_links_per_adapter": max(SESSIONS)}}, environment)
        await process.start()
        stack.push_async_callback(process.stop)
        setup.between, setup.bus = [process.process.pid], bus.pid
        setup.others += [radio.pid, bus.pid]
        await setup.hear()
        yield setup


@asynccontextmanager
async def socat(bench: Any, way: Way, sessions: int) -> AsyncIterator[Setup]:
    sock = bench.new_directory() / "echo"
    async with AsyncExitStack() as stack:
        echo = await start(stack, BUILD / "echo", "seqpacket", sock, str(sessions))
        setup = await start_cloud(stack, bench, way.cloud, sessions, 1)
        setup.others.append(echo.pid)
        kind = "TCP-CONNECT" if way.cloud == "tcp" else "OPENSSL-CONNECT"
        verify = "" if way.cloud == "tcp" else ",verify=0"      # a matter of the handshake alone
        for _ in range(sessions):
            process = await asyncio.create_subprocess_exec(
                "socat", f"-b{FRAME}", f"{kind}:127.0.0.1:{setup.port},nodelay{verify}",
                f"UNIX-CONNECT:{sock},type={int(socket.SOCK_SEQPACKET)}",
                preexec_fn=die_with(os.getpid()))
            stack.push_async_callback(process.wait)
            stack.callback(process.kill)
            setup.between.append(process.pid)
        await setup.hear()
        yield setup


# --- Tables ---

def count(sessions: int) -> str:
    return f"{sessions} session{'s' * (sessions > 1)}"


def ratios(value: float, *others: float | None) -> str:
    """value as so many times each of the others: those of socat TCP, socat TLS."""
    return " ".join(f"{value / o:>6.2f}" if o and o > 0 else f"{'-':>6}" for o in others)


def print_trips(results: Results, ways: list[Way], n: int, runs: int) -> None:
    print(f"\nround trips of {FRAME}-byte frames, one in flight, {n} of them; medians of {runs} "
          "runs in turns\n'adds': without what the ends take alone, over TCP or TLS; /TCP, /TLS: "
          "times that of socat\n"
          f"{'':<35}{'us':>6}{'':>9}{'adds us':>8}{'':>9}{'CPU us':>7}{'ms/MB':>6}  bus us"
          f" | {'p50':<13} {'adds p50':<13} CPU\n"
          f"{'':<35}{'p50':>6}{'p99':>9}{'p50':>8}{'p99':>9}{'':>13}{'':>8}"
          f" | {'/TCP   /TLS':>13} {'/TCP   /TLS':>13} {'/TCP   /TLS':>13}")
    for where in ("one core", "all cores"):
        for kind in ("tcp", "tls"):
            alone = results.get("trips", where, kind)
            print(f"{where + ', the ends alone, ' + kind.upper():<35}{alone.p50_us:>6.0f}"
                  f"{alone.p99_us:>9.0f}")
        for way in ways:
            print_trip(results, ways, where, way)


def added(results: Results, where: str, way: Way) -> tuple[float, float]:
    trips = results.get("trips", where, way)
    alone = results.get("trips", where, "tcp" if way is SOCAT else "tls")
    return trips.p50_us - alone.p50_us, trips.p99_us - alone.p99_us


def print_trip(results: Results, ways: list[Way], where: str, way: Way) -> None:
    socats = [w if w in ways else None for w in (SOCAT, SOCAT_TLS)]
    trips = results.get("trips", where, way)
    times = [w and results.get("trips", where, w) for w in socats]
    adds = added(results, where, way)
    columns = [ratios(trips.p50_us, *(t and t.p50_us for t in times)),
               ratios(adds[0], *(w and added(results, where, w)[0] for w in socats)),
               ratios(trips.cpu_us, *(t and t.cpu_us for t in times))]
    print(f"{where + ', ' + way.name:<35}{trips.p50_us:>6.0f}{trips.p99_us:>9.0f}"
          f"{adds[0]:>8.0f}{adds[1]:>9.0f}{trips.cpu_us:>7.1f}"
          f"{trips.cpu_us * 1e3 / (2 * FRAME):>6.0f}{trips.bus_us:>8.1f} | {' '.join(columns)}",
          flush=True)


def print_flows(results: Results, ways: list[Way]) -> None:
    print(f"\nthroughput, {FLOW} frames of all sessions together, what is in between on a core of "
          "its own\nCPU: of it for each MB of frames; bus: of dbus-daemon\n"
          f"{'':<42}{'frames/s':>9}{'MB/s':>6}{'CPU ms/MB':>10}{'bus':>6}{'busy':>6}"
          f" | {'frames/s':<13} CPU ms/MB\n{'':<79} | {'/TCP   /TLS':>13} {'/TCP   /TLS':>13}")
    for direction in ("down", "up"):
        for sessions in SESSIONS:
            of = {way: results.get("flow", way, sessions, direction) for way in ways}
            tcp, tls = of.get(SOCAT), of.get(SOCAT_TLS)
            for way, flow in of.items():
                name = f"{direction}, {count(sessions)}, {way.name}"
                rates = ratios(flow.frames_s, tcp and tcp.frames_s, tls and tls.frames_s)
                cpus = ratios(flow.cpu_ms, tcp and tcp.cpu_ms, tls and tls.cpu_ms)
                print(f"{name:<42}{flow.frames_s:>9.0f}{flow.frames_s * FRAME / 1e6:>6.1f}"
                      f"{flow.cpu_ms:>10.1f}{flow.bus_ms:>6.1f}{flow.busy:>6.0%} | {rates} {cpus}",
                      flush=True)


def print_memory(results: Results, ways: list[Way]) -> None:
    print("\nresident memory, MB, shared libraries included; socat: of all its processes\n"
          f"{'':<30}" + "".join(f"{count(s):>12}" for s in SESSIONS))
    for way in ways:
        print(f"{way.name:<30}"
              + "".join(f"{results.kb(way, s) / 1024:>12.1f}" for s in SESSIONS))
