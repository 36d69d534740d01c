# SPDX-License-Identifier: Apache-2.0
"""The processes of the bench, and what the kernel says of them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build/bench"     # where the C programs beside this file are built
sys.path[:0] = [str(HERE.parent / "lab"), str(HERE.parent / "integration")]

from harness import Agent, until  # noqa: E402
from private_bus import PrivateBus, die_with  # noqa: E402


def cpu_ns(pid: int) -> int:
    """CPU time of a process: the sum of /proc/PID/stat, but in nanoseconds, not in ticks."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def memory_kb(pid: int, name: str) -> int:
    """VmRSS or VmHWM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1])


def pin(pids: list[int], cpus: list[int]) -> None:
    """Let processes that run use these CPUs alone."""
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cpus)


async def start(stack: AsyncExitStack, *command: str | Path) -> asyncio.subprocess.Process:
    """Start one of our programs, wait for its "ready"; it ends with the stack."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with(os.getpid()))

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()
    stack.push_async_callback(end)
    line = await asyncio.wait_for(process.stdout.readline(), 10)
    if line != b"ready\n":
        raise RuntimeError(f"{command[0]}: {line!r} instead of ready")
    return process


class BenchAgent(Agent):
    """The agent as it is shipped: no debug log."""

    def __init__(self, directory: Path, bus: PrivateBus, programs: Path,
                 options: dict[str, Any], environment: dict[str, str] | None = None) -> None:
        super().__init__(directory, bus.address, {"log_level": "warning", **options})
        self.programs = programs
        self.environment |= environment or {}

    async def start(self) -> None:
        self.write_config()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "blecon-hotspotd", "--foreground", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.environment}, preexec_fn=die_with(os.getpid()))
        await until(lambda: self.socket.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
