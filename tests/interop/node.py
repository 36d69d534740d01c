# SPDX-License-Identifier: Apache-2.0
"""A program of this folder as a process: commands to it, events from it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from private_bus import die_with

HERE = Path(__file__).resolve().parent
LONGEST_LINE = 1 << 20

Event = dict[str, Any]


class Node:
    """A Node.js program, and the events it has told so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[Event] = []
        self._process = process
        self._news = asyncio.Condition()
        self._ended = False

    async def read(self) -> None:
        """Take events until the program ends."""
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
            async with self._news:
                self._news.notify_all()
        self._ended = True
        async with self._news:
            self._news.notify_all()

    def tell(self, command: str, **details: Any) -> None:
        """Have it do something. Bytes become hexadecimal."""
        line = json.dumps({"do": command, **details}, default=bytes.hex)
        self._process.stdin.write(line.encode() + b"\n")

    def find(self, event: str, **fields: Any) -> list[Event]:
        """The events of a name with these fields, oldest first."""
        return [e for e in self.events if e["event"] == event
                and all(name in e and e[name] == value for name, value in fields.items())]

    async def wait_for(self, event: str, timeout_s: float = 10.0, count: int = 1,
                       **fields: Any) -> Event:
        """The count-th event of a name with these fields, of all since it was started."""
        try:
            async with asyncio.timeout(timeout_s), self._news:
                while len(found := self.find(event, **fields)) < count:
                    assert not self._ended, "the program has ended"
                    await self._news.wait()
                return found[count - 1]
        except (AssertionError, TimeoutError) as err:
            last = "\n".join(map(str, self.events[-10:]))
            raise AssertionError(f"{len(found)} of {count} {event} {fields}; {err!r}; events end "
                                 f"with:\n{last}") from err


@asynccontextmanager
async def running(script: str, **options: Any) -> AsyncIterator[Node]:
    """A program that runs, and ends whatever happens. What it writes to stderr fails the test."""
    process = await asyncio.create_subprocess_exec(
        "node", HERE / script, json.dumps(options, default=str), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=LONGEST_LINE,
        preexec_fn=die_with(os.getpid()))
    node = Node(process)
    reading = asyncio.create_task(node.read())
    errors = asyncio.create_task(process.stderr.read())
    try:
        yield node
    except Exception as err:
        err.add_note(f"{script} has told: {node.events[-10:]}")
        raise
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading
            said = (await errors).decode()
    assert (process.returncode, said) == (0, ""), said
