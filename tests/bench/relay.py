#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the agent adds to a frame's way: echo of 244-byte frames, one in flight.

The cloud's end is here, blocking, so that it is quick; the device's end is a thread of a process of
its own with a simulated BlueZ. "alone" is the same cloud's end with an echo at the other end of its
connection; what the agent adds is the difference. socat between TCP and a Unix socket, without TLS,
framing and credits, is shown where it is installed.

As a program it is the other end: relay.py radio BUS-ADDRESS DEVICES | tls PORT | tcp PORT |
seqpacket PATH. It says "ready" and is to be killed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import socket
import ssl
import statistics
import struct
import sys
import threading
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from processes import BenchAgent, cpu_ns, memory_kb, start  # puts the lab in the path

import bluez_sim
import cbor2
from cloud import (
    ACCEPT, CHALLENGE, CREDIT, DATA, HELLO, OPEN, SIGHTINGS, SIGHTINGS_ACK, SUBPROTOCOL, WELCOME)
from private_bus import PrivateBus, die_with

FRAME = 244             # bytes of a device's frame where the ATT MTU is 247
CREDITS = 64
WARM_UP = 300           # round trips before those that count
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Times(NamedTuple):
    p50_us: float
    p99_us: float
    cpu_us: float       # of what is in between, for each round trip

    def __str__(self) -> str:
        return f"{self.p50_us:8.0f} {self.p99_us:8.0f} {self.cpu_us:8.1f}"


class CloudEnd:
    """The least of a cloud, blocking: sessions are accepted, frames sent to them come back."""

    def __init__(self, pair: tuple[Path, Path] | None) -> None:
        self._tls = None
        if pair:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*pair)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sock: Any = None
        self.sessions: dict[int, list[int]] = {}    # next seq to send, frames without credit

    def close(self) -> None:
        for sock in (self.sock, self._listener):
            if sock:
                sock.close()

    def accept(self) -> None:
        """Wait for the connection."""
        self._listener.settimeout(20)
        sock = self._listener.accept()[0]
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock

    def welcome(self) -> None:
        """The upgrade to WebSocket and the protocol's handshake, believing everything."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(4096)
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        key = {k.lower(): v for k, v in headers.items()}[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest()).decode()
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n"
              f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        self._send(CHALLENGE, os.urandom(32), int(time.time() * 1000))
        while self._receive()[0] != HELLO:
            pass
        self._send(WELCOME, {"credits": CREDITS}, [])

    def wait_for_sessions(self, n: int) -> None:
        """Serve until there are n sessions."""
        while len(self.sessions) < n:
            self._receive()

    def round_trip(self, session: int, payload: bytes) -> None:
        """Send a frame, wait until it is back."""
        state = self.sessions.setdefault(session, [0, 0])
        self._send(DATA, session, 0, state[0], payload)
        state[0] += 1
        while True:
            message = self._receive()
            if message[0] == DATA and message[1] == session:
                break
        if message[4] != payload:
            raise AssertionError("another frame came back")
        state[1] += 1
        if state[1] == CREDITS // 2:
            self._send(CREDIT, session, state[1], message[3] + 1)
            state[1] = 0

    def _send(self, *message: Any) -> None:
        data = cbor2.dumps(message)
        head = struct.pack(">BB", 0x82, len(data)) if len(data) < 126 else \
            struct.pack(">BBH", 0x82, 126, len(data))
        self.sock.sendall(head + data)

    def _receive(self) -> list[Any]:
        """The next message; what needs an answer at once gets it."""
        while True:
            opcode, data = self._frame()
            if opcode == 9:
                self.sock.sendall(struct.pack(">BB", 0x8A, len(data)) + data)
            elif opcode == 2:
                break
        message = cbor2.loads(data)
        if message[0] == SIGHTINGS:
            self._send(SIGHTINGS_ACK, message[1])
        elif message[0] == OPEN:
            self.sessions[message[1]] = [0, 0]
            self._send(ACCEPT, message[1])
        return message

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._read(2)
        length = second & 127
        if length >= 126:
            length = int.from_bytes(self._read(2 if length == 126 else 8), "big")
        if not second & 128:
            return first & 15, self._read(length)
        mask, data = self._read(4), self._read(length)
        masks = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return first & 15, (int.from_bytes(data, "big") ^ masks).to_bytes(length, "big")

    def _read(self, length: int) -> bytes:
        data = self.sock.recv(length)
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                raise ConnectionError("the other end is gone")
            data += more
        return data


def measure(end: CloudEnd, session: int, n: int, pid: int | None) -> Times:
    """n round trips in one session. pid: what is in between."""
    payload = os.urandom(FRAME)
    for _ in range(WARM_UP):
        end.round_trip(session, payload)
    cpu, times = cpu_ns(pid) if pid else 0, []
    for _ in range(n):
        began = time.perf_counter_ns()
        end.round_trip(session, payload)
        times.append(time.perf_counter_ns() - began)
    cpu = cpu_ns(pid) - cpu if pid else 0
    times.sort()
    return Times(times[n // 2] / 1e3, times[n * 99 // 100] / 1e3, cpu / 1e3 / n)


# --- The bench ---

async def run(bench: Any, n: int) -> None:
    """Measure and print. bench: of bench.py, for its directories, keys and programs."""
    cpus = sorted(os.sched_getaffinity(0))
    print(f"\nround trip of {FRAME}-byte frames, one in flight, {n} of them, medians of "
          f"{bench.runs} runs in turns; agent: TLS, WebSocket, CBOR, credits")
    print(f"{'':<34} {'p50 us':>8} {'p99 us':>8} {'CPU us':>8}")
    for where, use in (("free", cpus), ("on one core", cpus[-1:])):
        os.sched_setaffinity(0, use)
        try:
            runs = [await one_run(bench, n) for _ in range(bench.runs)]
        finally:
            os.sched_setaffinity(0, cpus)
        for name in runs[0]:
            times = Times(*(statistics.median(v) for v in zip(*(run[name] for run in runs))))
            print(f"{where + ': ' + name:<34} {times}", flush=True)
    _, one = await through_agent(bench, n // 10, 1)
    _, more = await through_agent(bench, n // 10, 4)
    print(f"agent's memory: {one / 1024:.1f} MB with 1 session, {more / 1024:.1f} MB with 4")


async def one_run(bench: Any, n: int) -> dict[str, Times]:
    """All ways once, one after the other."""
    alone = await through_nothing(bench, n, bench.pair)
    agent, _ = await through_agent(bench, n, 1)
    rows = {"alone, TLS": alone, "through the agent": agent,
            "  the agent adds": added(agent, alone)}
    if shutil.which("socat"):
        plain = await through_nothing(bench, n, None)
        socat = await through_socat(bench, n)
        rows |= {"alone, TCP": plain, "through socat": socat, "  socat adds": added(socat, plain)}
    return rows


def added(through: Times, alone: Times) -> Times:
    return Times(through.p50_us - alone.p50_us, through.p99_us - alone.p99_us, through.cpu_us)


async def through_agent(bench: Any, n: int, devices: int) -> tuple[Times, int]:
    """Times of the first of some sessions, all of which carry frames, and the agent's memory."""
    directory = bench.new_directory()
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(PrivateBus(directory / "bus"))
        await start(stack, sys.executable, __file__, "radio", bus.address, str(devices))
        end = CloudEnd(bench.pair)
        stack.callback(end.close)
        agent = BenchAgent(directory, bus, bench.programs, {
            "uplink": {"url": f"wss://127.0.0.1:{end.port}/", "ca_file": str(bench.ca.cert)}})
        await agent.start()
        stack.push_async_callback(agent.stop)
        pid = agent.process.pid

        def work() -> Times:
            end.accept()
            end.welcome()
            end.wait_for_sessions(devices)
            return [measure(end, s, n, pid) for s in sorted(end.sessions)][0]
        return await asyncio.to_thread(work), memory_kb(pid, "VmRSS")


async def through_nothing(bench: Any, n: int, pair: Any) -> Times:
    """The harness alone."""
    async with AsyncExitStack() as stack:
        end = CloudEnd(pair)
        stack.callback(end.close)
        process = await start(stack, sys.executable, __file__, "tls" if pair else "tcp",
                              str(end.port))
        await asyncio.to_thread(end.accept)
        return await asyncio.to_thread(measure, end, 1, n, None)


async def through_socat(bench: Any, n: int) -> Times:
    """The stream bridge that is quickest: it does not keep frames apart."""
    async with AsyncExitStack() as stack:
        end = CloudEnd(None)
        stack.callback(end.close)
        path = bench.new_directory() / "echo"
        await start(stack, sys.executable, __file__, "seqpacket", str(path))
        socat = await asyncio.create_subprocess_exec(
            "socat", f"TCP-CONNECT:127.0.0.1:{end.port},nodelay",
            f"UNIX-CONNECT:{path},type={int(socket.SOCK_SEQPACKET)}",
            preexec_fn=die_with(os.getpid()))
        try:
            await asyncio.to_thread(end.accept)
            return await asyncio.to_thread(measure, end, 1, n, socat.pid)
        finally:
            socat.kill()
            await socat.wait()


# --- The other ends ---

def echo(source: socket.socket, sink: socket.socket) -> None:
    """Until the end of source."""
    while data := source.recv(65536):
        sink.sendall(data)


class EchoChannel(bluez_sim._Channel):
    """A channel whose device is a thread that blocks, not a reader of the event loop."""

    def acquire_write(self) -> socket.socket:
        self.write, client = bluez_sim._pair()
        self._start()
        return client

    def acquire_notify(self) -> socket.socket:
        self.notify, client = bluez_sim._pair()
        self._start()
        return client

    def _start(self) -> None:
        if self.write and self.notify:
            for end in (self.write, self.notify):
                end.setblocking(True)
            threading.Thread(target=echo, args=(self.write, self.notify), daemon=True).start()


async def radio(address: str, n: int) -> None:
    """A simulated BlueZ with devices that ask for a connection."""
    bluez_sim._Channel = EchoChannel
    sim = bluez_sim.BluezSim(address)
    sim.add_adapter(0, "00:AA:01:00:00:00")
    await sim.start()
    for _ in range(n):
        device = bluez_sim.Beacon(uuid.uuid4())
        device.service_data = b"\x3b" + device.service_data[1:]
        sim.add_device(device, interval_s=0.2)
    print("ready", flush=True)
    await asyncio.Event().wait()


def other_end(kind: str, *arguments: str) -> None:
    if kind == "radio":
        asyncio.run(radio(arguments[0], int(arguments[1])))
        return
    if kind == "seqpacket":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(arguments[0])
        listener.listen()
        print("ready", flush=True)
        sock = listener.accept()[0]
    else:
        print("ready", flush=True)
        sock = socket.create_connection(("127.0.0.1", int(arguments[0])))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE     # it is an echo in a bench
        sock = context.wrap_socket(sock)
    echo(sock, sock)


if __name__ == "__main__":
    other_end(*sys.argv[1:])
