# SPDX-License-Identifier: Apache-2.0
"""A scripted HTTP proxy on the loopback, that is asked for tunnels.

    async with ConnectProxy() as proxy:
        proxy.names["cloud.test:443"] = ("127.0.0.1", lab.cloud.port)
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import NamedTuple

from network import copy, reset

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Request(NamedTuple):
    """What a CONNECT asked for; credentials are user:password, decoded."""

    target: str
    headers: dict[str, str]
    credentials: str | None


class ConnectProxy:
    """Knows names that nobody else does, and refuses as it is told.

    To be set at any time:
      names         from "host:port" as asked to the address and port it leads to, besides those in
                    numbers
      credentials   "user:password" that it wants, else 407
      answer        what it sends instead of a tunnel, and then closes; b"" to close at once
      silent        it says nothing
    """

    def __init__(self) -> None:
        self.port = 0                       # listens here
        self.names: dict[str, tuple[str, int]] = {}
        self.credentials: str | None = None
        self.answer: bytes | None = None
        self.silent = False
        self.requests: list[Request] = []
        self.tunnels = 0                    # in all
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> ConnectProxy:
        self.port = await self.also_at("127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        self.reset()

    async def also_at(self, address: str) -> int:
        """Listen there; the port."""
        server = await asyncio.start_server(self._serve, address, 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Without credentials."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Drop all that goes through it."""
        for writer in list(self._writers):
            reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = parse((await reader.readuntil(b"\r\n\r\n")).decode())
        self.requests.append(request)
        if self.silent:
            await reader.read()
        elif self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
        elif self.credentials not in (None, request.credentials):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                         b"Proxy-Authenticate: Basic realm=\"lab\"\r\nContent-Length: 0\r\n\r\n")
        else:
            await self._tunnel(request.target, reader, writer)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader,
                      writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        address = self.names.get(target) or (host.strip("[]"), int(port))
        to_reader, to_writer = await asyncio.open_connection(*address)
        self.tunnels += 1
        self._writers.add(to_writer)
        writer.write(ESTABLISHED)
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))
        self._writers.discard(to_writer)


def parse(head: str) -> Request:
    """AssertionError if it is not a good CONNECT (RFC 9110, section 9.3.6)."""
    line, *lines = head.split("\r\n")
    method, target, version = line.split(" ")
    assert (method, version) == ("CONNECT", "HTTP/1.1"), line
    pairs = [text.partition(":") for text in lines if text]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    assert headers["host"] == target, headers
    scheme, _, encoded = headers.get("proxy-authorization", "").partition(" ")
    assert scheme.lower() in ("", "basic"), headers
    return Request(target, headers, base64.b64decode(encoded).decode() if encoded else None)
