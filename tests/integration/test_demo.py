# SPDX-License-Identifier: Apache-2.0
"""make demo, as far as it goes by itself."""

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from harness import PROGRAMS, ROOT, until


def children_of(pid: int) -> set[int]:
    """The processes that pid started, and those that they did."""
    found = set()
    # A process or a thread may end meanwhile, and has no children then.
    with suppress(FileNotFoundError, ProcessLookupError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                found |= {int(child)} | children_of(int(child))
    return found


@pytest.mark.long
async def test_demo(directory):
    """It shows a device, a session at its two ends and the status, and leaves nothing behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "tests/lab/demo.py", "--programs", PROGRAMS,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DEMO_SECONDS": "9", "TMPDIR": str(directory)})
    started: set[int] = set()

    async def read() -> str:
        lines = []
        async for line in process.stdout:
            lines.append(line.decode())
            started.update(children_of(process.pid))
        return "".join(lines)
    output = await asyncio.wait_for(read(), 40)
    assert await process.wait() == 0, output
    assert re.search(r"cloud \| spotted https://blecon.dev/[0-9a-f-]{36} rssi -\d+ dBm", output)
    assert re.search(r"device \| .* asks for a connection", output)
    assert re.search(r"agent \| session 1 with .*: open over l2cap, 2 channels", output)
    assert re.search(r'cloud \| request .*"request 1: 21.5 degrees"', output)
    assert re.search(r'device \| .*decrypted: "cloud heard: request 1: 21.5 degrees"', output)
    assert output.endswith("ended; sightings, session, request and answer were all seen\n")
    assert "Working: 5 devices present, uplink up" in output
    assert len(started) >= 2, "dbus-daemon and the agent at least"
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert not list(directory.iterdir())


async def test_interrupted_demo(directory):
    """Ctrl-C, which a terminal sends to the whole process group, ends it at once and in order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "tests/lab/demo.py", "--programs", PROGRAMS,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        env={**{k: v for k, v in os.environ.items() if k != "DEMO_SECONDS"},
             "TMPDIR": str(directory)})
    lines = []

    async def read(until_text: str) -> None:
        async for line in process.stdout:
            lines.append(line.decode())
            if until_text in lines[-1]:
                return
    await asyncio.wait_for(read("state appeared"), 20)
    started = children_of(process.pid)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    await asyncio.wait_for(read("until it ends"), 20)
    await process.wait()
    output = "".join(lines)
    assert time.monotonic() - began < 5, output
    assert "Traceback" not in output and "SIGTERM: stopping" in output, output
    assert "SIGINT: stopping" not in output, output
    assert process.returncode == 0, output
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert not list(directory.iterdir())
