# SPDX-License-Identifier: Apache-2.0
"""A status socket with made-up answers, and a terminal of a given size to see them in."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from harness import CTL, Ended


class FakeDaemon:
    """Answers each request with what `answers` has of that name, without its argument."""

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        self.path = path
        self.answers = answers
        self.asked: list[str] = []
        self.listeners: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                request = line.decode().rstrip("\n")
                self.asked.append(request)
                name = request.split(" ")[0]
                answer = self.answers.get(name, {"error": "unknown request; there are: status"})
                self._send(writer, answer() if callable(answer) else answer)
                if name == "events":
                    self.listeners.append(writer)
        if writer not in self.listeners:
            writer.close()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, answer: dict[str, Any] | str) -> None:
        line = answer if isinstance(answer, str) else json.dumps(answer)
        writer.write(line.encode(errors="surrogateescape") + b"\n")

    def publish(self, *events: dict[str, Any] | str) -> None:
        """To everyone who has asked for events."""
        for writer in self.listeners:
            for event in events:
                self._send(writer, event)

    def end(self) -> None:
        """As if the daemon ended."""
        for writer in self.listeners:
            writer.close()


@asynccontextmanager
async def fake_daemon(directory: Path, **answers: Any) -> AsyncIterator[FakeDaemon]:
    """One in this directory; a request with a hyphen is written with an underscore."""
    daemon = FakeDaemon(directory / "status.sock",
                        {name.replace("_", "-"): answer for name, answer in answers.items()})
    server = await asyncio.start_unix_server(daemon._serve, daemon.path)
    try:
        yield daemon
    finally:
        daemon.end()
        server.close()


def _run_in_terminal(command: list[str], columns: int) -> Ended:
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=secondary,
                               stderr=subprocess.PIPE)
    os.close(secondary)
    out = b""
    with suppress(OSError):     # EIO, when nobody has it open any more
        while piece := os.read(primary, 65536):
            out += piece
    os.close(primary)
    _, err = process.communicate(timeout=15)
    return Ended(process.returncode, out.decode().replace("\r\n", "\n"), err.decode())


async def screen(path: Path, *arguments: str, columns: int = 80) -> Ended:
    """What ctl prints in a terminal."""
    return await asyncio.to_thread(_run_in_terminal,
                                   [str(CTL), "-s", str(path), *arguments], columns)
