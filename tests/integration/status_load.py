# SPDX-License-Identifier: Apache-2.0
"""Clients of the status socket by the hundred, in a process of their own; the bad at low priority.

    status_load.py good SOCKET DEVICES SECONDS
    status_load.py bad SOCKET

good: each of 100 clients asks `status` and `devices` in turn, twice a second, over a new connection
every time. Who was too slow to read, as this process has no time on a busy machine, asks once more.
Prints one JSON line: how many answers there were by request, what was wrong with any, how often one
was asked for again, and the times from connecting to the end of the answer, in milliseconds. An
answer of `devices` is right if it has so many devices.

bad: 50 that say nothing, 25 that ask `devices` and never read, 25 that send junk. Each comes back
soon after it was dropped. Prints a line when all have begun; runs until its input ends, then prints
how often they were dropped.
"""

import asyncio
import contextlib
import json
import os
import random
import select
import socket
import sys
import time

NICE = 10                   # of the bad: they are to harm by what they do, not by their number
GOOD, EVERY_S = 100, 0.5
SILENT, UNREADING, JUNK = 50, 25, 25
BACK_S = 0.5                # until a bad client that was dropped is back
ANSWER_S = 10               # that a good one waits
PARSED = 20                 # one of so many large answers is parsed as JSON, the others looked at


async def connect(path):
    """As a blocking connect() does: waits while the queue of those to be accepted is full."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    while True:
        try:
            client.connect(path)
            return client
        except BlockingIOError:
            await asyncio.sleep(0.001)
        except BaseException:
            client.close()
            raise


async def hear(client):
    """All until the end of the line, or what came until the end of the connection."""
    loop, parts = asyncio.get_running_loop(), []
    while part := await loop.sock_recv(client, 1 << 18):
        parts.append(part)
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


class Dropped(ValueError):
    """Without a whole answer."""


class Good:
    """Clients that ask, and what they were answered."""

    def __init__(self, path, devices, seconds):
        self.times_ms = {"status": [], "devices": []}
        self.wrong = []
        self.again = 0
        self._path, self._devices, self._seconds = path, devices, seconds

    async def run(self):
        async with asyncio.TaskGroup() as group:
            for number in range(GOOD):
                group.create_task(self._client(number))
        print(json.dumps({"times_ms": self.times_ms, "wrong": self.wrong,
                          "again": self.again}), flush=True)

    async def _client(self, number):
        await asyncio.sleep(EVERY_S * number / GOOD)
        for turn in range(int(self._seconds / EVERY_S)):
            next_s = time.monotonic() + EVERY_S
            request = ("status", "devices")[(number + turn) % 2]
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._ask_twice(request)
            except (OSError, TimeoutError, ValueError) as err:
                self.wrong.append(f"{request}: {err!r}")
            await asyncio.sleep(next_s - time.monotonic())

    async def _ask_twice(self, request):
        began = time.monotonic()
        try:
            await self._ask(request, began)
        except (Dropped, ConnectionError):
            self.again += 1
            await self._ask(request, began)

    async def _ask(self, request, began):
        client = await connect(self._path)
        with client:
            await asyncio.get_running_loop().sock_sendall(client, request.encode() + b"\n")
            line = await hear(client)
        self.times_ms[request].append(1000 * (time.monotonic() - began))
        self._check(request, line)

    def _check(self, request, line):
        if not line.endswith(b"}\n"):
            raise Dropped(f"dropped after {len(line)} bytes")
        if request == "status":
            if "summary" not in json.loads(line):
                raise ValueError("no status")
        elif line.count(b'"device_url"') != self._devices:
            raise ValueError(f"{line.count(b'device_url')} devices")
        elif len(self.times_ms["devices"]) % PARSED == 0:
            if len({d["device_url"] for d in json.loads(line)["devices"]}) != self._devices:
                raise ValueError("devices twice")


def dropped(client):
    """Whether the other side has closed; does not read."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


class Bad:
    """Clients that do harm, as far as they can."""

    def __init__(self, path):
        self.drops = 0
        self._path = path
        self._random = random.Random(1)

    async def run(self):
        tasks = [asyncio.create_task(self._again(kind))
                 for kind, number in [(self._silent, SILENT), (self._unreading, UNREADING),
                                      (self._junk, JUNK)] for _ in range(number)]
        await asyncio.sleep(2 * BACK_S)
        print("begun", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(json.dumps({"drops": self.drops}), flush=True)

    async def _again(self, kind):
        await asyncio.sleep(self._random.uniform(0, BACK_S))
        while True:
            with contextlib.suppress(OSError), await connect(self._path) as client:
                await kind(client)
            self.drops += 1
            await asyncio.sleep(BACK_S)

    async def _silent(self, client):
        await self._until_dropped(client)

    async def _unreading(self, client):
        client.send(b"devices\n" * 10)
        await self._until_dropped(client)

    async def _junk(self, client):
        """Endless bytes, binary, half a line, requests nobody knows, or leaving in the middle."""
        loop = asyncio.get_running_loop()
        kind = self._random.randrange(5)
        if kind == 0:
            for _ in range(1000):
                await loop.sock_sendall(client, b"x" * 200)
        elif kind == 1:
            await loop.sock_sendall(client, self._random.randbytes(5000))
            await hear(client)
        elif kind == 2:
            client.send(b"half a li")
            await self._until_dropped(client)
        elif kind == 3:
            await loop.sock_sendall(client, b"what?\n" * 1000)
        else:
            client.send(b"devices\n")
            await loop.sock_recv(client, 1000)

    @staticmethod
    async def _until_dropped(client):
        while not dropped(client):
            await asyncio.sleep(0.05)


if sys.argv[1] == "good":
    asyncio.run(Good(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])).run())
else:
    os.nice(NICE)
    asyncio.run(Bad(sys.argv[2]).run())
