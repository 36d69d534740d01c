# SPDX-License-Identifier: Apache-2.0
"""What lies between agent and cloud: a TCP switch, and networks of their own that lose packets.

    async with Network() as network, Switch(await network.listen()) as switch:
        lab.agent.prepare = network.enter_hub(lab.agent.prepare)
        await network.drop()        # from now on nothing passes, and nobody is told

Files of the hub's own in place of the system's, a NameServer at its cloud's, and addresses of IPv6
that lead nowhere are for what is found by name.

A Network ends with the test process, however that ends: nothing but processes holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from private_bus import die_with

CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
RESET = struct.pack("ii", 1, 0)     # SO_LINGER: close() sends RST

HUB_ADDRESS, CLOUD_ADDRESS = "10.77.0.2", "10.77.1.2"
NOWHERE6 = "2001:db8:77:9::2"       # the hub has a way there, and the router drops what takes it
SET_UP = """
in_hub() {{ nsenter --net=/proc/{hub}/ns/net "$@"; }}
in_router() {{ nsenter --net=/proc/{router}/ns/net "$@"; }}
in_cloud() {{ nsenter --net=/proc/{cloud}/ns/net "$@"; }}
in_router ip link add to-hub type veth peer name eth0 netns {hub}
in_router ip link add to-cloud type veth peer name eth0 netns {cloud}
in_router ip address add 10.77.0.1/24 dev to-hub
in_router ip address add 10.77.1.1/24 dev to-cloud
in_router ip link set to-hub up
in_router ip link set to-cloud up
in_hub ip address add 10.77.0.2/24 dev eth0
in_hub ip link set eth0 up
in_hub ip link set lo up
in_hub ip route add default via 10.77.0.1
in_router ip -6 address add 2001:db8:77::1/64 dev to-hub nodad
in_hub ip -6 address add 2001:db8:77::2/64 dev eth0 nodad
in_hub ip -6 route add default via 2001:db8:77::1
in_router ip -6 route add blackhole 2001:db8:77:9::/64
in_cloud ip address add 10.77.1.2/24 dev eth0
in_cloud ip link set eth0 up
in_cloud ip link set lo up
in_cloud ip route add default via 10.77.1.1
"""


def enter(pid: int) -> None:
    """Move this thread into a process's network. OSError if that may not be."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET) < 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def listen_in(pid: int, address: str) -> socket.socket:
    """A socket of that network, made in a thread that is to end."""
    enter(pid)
    return socket.create_server((address, 0))


def bind_in(pid: int, address: str, port: int) -> socket.socket:
    """The same, for datagrams."""
    enter(pid)
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


def replace(files: Mapping[str, Path]) -> None:
    """Have this process alone see other files in these places. OSError if that may not be."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), "cannot replace a file")
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    for place, path in files.items():
        check(libc.mount(os.fsencode(path), place.encode(), None, ctypes.c_ulong(MS_BIND), None))


class Network:
    """A hub and a cloud in networks of their own, and a router between them."""

    async def __aenter__(self) -> Network:
        self._holders: list[asyncio.subprocess.Process] = []
        try:
            self._hub, self._router, self._cloud = [await self._hold() for _ in range(3)]
            await self._shell(SET_UP.format(hub=self._hub, router=self._router, cloud=self._cloud))
            await self.restore()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for holder in self._holders:
            holder.kill()
            await holder.wait()

    async def drop(self) -> None:
        """The router passes nothing on, and says nothing."""
        await self._forward(0)

    async def restore(self) -> None:
        """The end of drop()."""
        await self._forward(1)

    async def listen(self) -> socket.socket:
        """A socket that listens where the cloud is."""
        return await self._there(listen_in, self._cloud, CLOUD_ADDRESS)

    async def bind(self, port: int) -> socket.socket:
        """A socket for datagrams where the cloud is."""
        return await self._there(bind_in, self._cloud, CLOUD_ADDRESS, port)

    def enter_hub(self, prepare: Callable[[], None],
                  files: Mapping[str, Path] | None = None) -> Callable[[], None]:
        """A preexec function: that of before, and the program runs where the hub is.

        files: what the program sees in these places, besides.
        """
        def prepare_in_hub() -> None:
            prepare()
            enter(self._hub)
            replace(files or {})
        return prepare_in_hub

    @staticmethod
    async def _there(make: Callable[..., socket.socket], *arguments: object) -> socket.socket:
        with ThreadPoolExecutor(1) as executor:
            return await asyncio.get_running_loop().run_in_executor(executor, make, *arguments)

    async def _hold(self) -> int:
        """A process with a network of its own."""
        holder = await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", "echo here; exec sleep infinity",
            stdout=asyncio.subprocess.PIPE, preexec_fn=die_with(os.getpid()))
        self._holders.append(holder)
        assert holder.stdout
        assert await holder.stdout.readline() == b"here\n", "no network namespaces here"
        return holder.pid

    async def _forward(self, on: int) -> None:
        await self._shell(f"nsenter --net=/proc/{self._router}/ns/net "
                          f"sh -c 'echo {on} > /proc/sys/net/ipv4/ip_forward'")

    @staticmethod
    async def _shell(script: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-ec", script, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()


class NameServer(asyncio.DatagramProtocol):
    """DNS for a few names (RFC 1035, section 4): A and AAAA, no other name exists."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self.names = names                  # of their addresses
        self.queries = 0
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def at(cls, sock: socket.socket, names: Mapping[str, list[str]]) -> NameServer:
        """One that answers at this socket until the loop ends."""
        _, server = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(names), sock=sock)
        return server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport         # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.queries += 1
        self._transport.sendto(self.answer(data), addr)

    def answer(self, query: bytes) -> bytes:
        """To a query with one question."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, = struct.unpack_from(">H", query, at + 1)
        addresses = self.names.get(".".join(labels).lower())
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        data = [socket.inet_pton(family, a) for a in addresses or []
                if family and (":" in a) == (family == socket.AF_INET6)]
        head = query[:2] + struct.pack(">5H", 0x8580 | (3 if addresses is None else 0), 1,
                                       len(data), 0, 0)
        return head + query[12:at + 5] + b"".join(
            struct.pack(">3HIH", 0xC00C, kind, 1, 0, len(d)) + d for d in data)

    def close(self) -> None:
        self._transport.close()


class Switch:
    """A TCP proxy: new connections go to the port chosen, and all can be reset."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self._sock = sock or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]        # listens here
        self.target: int | None = None                      # None: every connection is reset
        self.connections = 0                                # in all
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Switch:
        self._server = await asyncio.start_server(self._serve, sock=self._sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()

    def reset(self) -> None:
        """RST to both ends of each connection, wherever it is."""
        for writer in list(self._writers):
            reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            reset(writer)
            return
        self.connections += 1
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            reset(writer)
            return
        ends = {writer, to_writer}
        self._writers |= ends
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
        self._writers -= ends


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while (data := await reader.read(65536)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
    writer.close()
