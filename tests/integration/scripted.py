# SPDX-License-Identifier: Apache-2.0
"""A cloud that does what a script says, step by step, and never answers a ping.

    script = Script(delay_s={"tls": 3}, stop_at="upgrade")
    async with scripted(lab, script):       # where the lab's cloud is not
        await lab.agent.start()
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import cbor2

from cloud import CHALLENGE, SUBPROTOCOL, WELCOME
from harness import Lab

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"      # RFC 6455, section 1.3
BINARY, PING = 2, 9
UNKNOWN_TYPE = 200      # a message that is ignored


class Stopped(Exception):
    """That is where the script ends."""


@dataclass
class Script:
    """What it does and has seen.

    The steps are "tls", "upgrade", "hello" (its CHALLENGE) and "welcome". delay_s: before each.
    stop_at: where it says nothing any more. response: the answer to the upgrade instead.
    """

    delay_s: dict[str, float] = field(default_factory=dict)
    stop_at: str = ""
    response: str = ""

    connected: list[float] = field(default_factory=list)        # when, monotonic
    ended: list[float] = field(default_factory=list)            # by the hotspot
    requests: list[str] = field(default_factory=list)
    pings: int = 0
    writer: asyncio.StreamWriter | None = None                  # of the last that was welcomed

    def send_frame(self) -> None:
        """Some message to the hotspot, which is connected."""
        assert self.writer
        self.writer.write(frame(cbor2.dumps([UNKNOWN_TYPE])))

    async def serve(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """One connection, to its end."""
        self.connected.append(time.monotonic())
        try:
            await self._step("tls")
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(loop=loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=context, ssl_handshake_timeout=60)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        except Stopped:
            await drain(sock)
            self.ended.append(time.monotonic())
            return
        except (OSError, ssl.SSLError):
            return
        try:
            await self._speak(reader, writer)
        except Stopped:
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.append(time.monotonic())
            writer.close()

    async def _step(self, name: str) -> None:
        if name == self.stop_at:
            raise Stopped
        await asyncio.sleep(self.delay_s.get(name, 0))

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(request)
        await self._step("upgrade")
        writer.write(self.response.encode() or upgrade(request))
        if self.response:
            await writer.drain()
            return
        await self._step("hello")
        writer.write(frame(cbor2.dumps([CHALLENGE, bytes(32), 0])))
        await self._receive(reader)
        await self._step("welcome")
        writer.write(frame(cbor2.dumps([WELCOME, {"credits": 16}, []])))
        self.writer = writer
        while True:
            self.pings += await self._receive(reader) == PING

    @staticmethod
    async def _receive(reader: asyncio.StreamReader) -> int:
        """The next frame's opcode."""
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            length, = struct.unpack(">H", await reader.readexactly(2))
        await reader.readexactly(4 + length)
        return first & 0x0F


def frame(payload: bytes) -> bytes:
    """A server's, of a short message (RFC 6455, section 5.2)."""
    assert len(payload) < 126
    return bytes([0x80 | BINARY, len(payload)]) + payload


def upgrade(request: str) -> bytes:
    """The answer of a server that takes it."""
    headers = {name.lower(): value.strip() for name, _, value in
               (line.partition(":") for line in request.split("\r\n")[1:])}
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID).digest())
    return (f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept.decode()}\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n").encode()


async def drain(sock: socket.socket) -> None:
    """Read what comes until the other end closes, and close."""
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(sock, 65536):
            pass
    sock.close()


@asynccontextmanager
async def scripted(lab: Lab, script: Script, port: int | None = None,
                   sock: socket.socket | None = None) -> AsyncIterator[Script]:
    """The script runs for each connection: at the lab's cloud's port, or this, or at a socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*lab.pair)
    sock = sock or socket.create_server(("127.0.0.1", port or lab.cloud.port))
    sock.setblocking(False)
    tasks: set[asyncio.Task[None]] = set()

    async def accept() -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(sock)
            connection.setblocking(False)
            tasks.add(asyncio.create_task(script.serve(connection, context)))
    acceptor = asyncio.create_task(accept())
    try:
        yield script
    finally:
        for task in (acceptor, *tasks):
            task.cancel()
        results = await asyncio.gather(acceptor, *tasks, return_exceptions=True)
        sock.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
