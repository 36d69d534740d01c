# SPDX-License-Identifier: Apache-2.0
"""What lies between agent and cloud: a TCP switch, and networks of their own that lose packets.

    async with Network() as network, Switch(await network.listen()) as switch:
        lab.agent.prepare = network.enter_hub(lab.agent.prepare)
        await network.drop()        # from now on nothing passes, and nobody is told

A Network ends with the test process, however that ends: nothing but processes holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from private_bus import die_with

CLONE_NEWNET = 0x40000000
RESET = struct.pack("ii", 1, 0)     # SO_LINGER: close() sends RST

HUB_ADDRESS, CLOUD_ADDRESS = "10.77.0.2", "10.77.1.2"
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
        with ThreadPoolExecutor(1) as executor:
            return await asyncio.get_running_loop().run_in_executor(
                executor, listen_in, self._cloud, CLOUD_ADDRESS)

    def enter_hub(self, prepare: Callable[[], None]) -> Callable[[], None]:
        """A preexec function: that of before, and the program runs where the hub is."""
        def prepare_in_hub() -> None:
            prepare()
            enter(self._hub)
        return prepare_in_hub

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
