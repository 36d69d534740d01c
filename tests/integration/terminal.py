# SPDX-License-Identifier: Apache-2.0
"""A real terminal: a window of tmux, of any size."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness import run, until


class Terminal:
    """A program in a terminal. When it ends, what it left on the screen stays."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def tmux(self, *arguments: str) -> str:
        ended = await run("tmux", "-S", self._socket, *arguments, LC_ALL="C.UTF-8", TMUX="")
        assert ended.code == 0, ended.err
        return ended.out

    async def lines(self) -> list[str]:
        """The screen, a line each."""
        return (await self.tmux("capture-pane", "-p")).split("\n")[:-1]

    async def show(self, text: str, timeout_s: float = 10.0) -> list[str]:
        """Wait until the screen has this text, and return it."""
        lines: list[str] = []

        async def look() -> bool:
            nonlocal lines
            lines = await self.lines()
            return any(text in line for line in lines)
        try:
            await until(look, timeout_s, f"{text!r} on the screen")
        except AssertionError as err:
            err.add_note("\n".join(["the screen is:", *lines]))
            raise
        return lines

    async def resize(self, columns: int, rows: int) -> None:
        await self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    async def type(self, *keys: str) -> None:
        await self.tmux("send-keys", *keys)


@asynccontextmanager
async def terminal(directory: Path, columns: int, rows: int, *command: str | Path,
                   environment: dict[str, str] | None = None) -> AsyncIterator[Terminal]:
    """Run a command in a new terminal; its exit code is on the screen when it has ended."""
    term = Terminal(directory / f"tmux{columns}.sock")
    line = " ".join(shlex.quote(str(word)) for word in command)
    line = " ".join(f"{k}={shlex.quote(v)}" for k, v in (environment or {}).items()) + " " + line
    await term.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                    f"{line}; echo exit code $?; exec cat")
    try:
        yield term
    finally:
        # Ended as a person would: with its terminal gone, a sanitizer's look for leaks may never end.
        if not any("exit code" in line for line in await term.lines()):
            await term.type("C-c")
            await term.show("exit code")
        await term.tmux("kill-server")
