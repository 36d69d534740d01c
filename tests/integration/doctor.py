# SPDX-License-Identifier: Apache-2.0
"""blecon-hotspotctl doctor, run and read, and a daemon made of nothing but its answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness import CTL, Agent, has_sanitizer_report, without_proxy

CHECKS = ["configuration", "key", "clock", "D-Bus", "bluetoothd", "adapter", "scanning", "adverts",
          "name", "TCP", "TLS", "upgrade", "hello", "reports", "daemon"]
CODE = {name: 10 + number for number, name in enumerate(CHECKS)}
LINE = re.compile(r"^(\d+)  (ok|FAIL|-) +(\S+) +(\S.*)$")


class Check(NamedTuple):
    """One line of the screen, and the one under it."""

    result: str
    found: str
    advice: str = ""


class Diagnosis(NamedTuple):
    """What the doctor says."""

    code: int
    verdict: str
    checks: dict[str, Check]

    def ok(self) -> list[str]:
        return [name for name, check in self.checks.items() if check.result == "ok"]

    def failed(self) -> list[str]:
        return [name for name, check in self.checks.items() if check.result == "FAIL"]


def parse(text: str) -> tuple[str, dict[str, Check]]:
    verdict, *lines = text.splitlines()
    _, _, cause = verdict.partition(": ")
    cause, _, advice = cause.partition(" Next: ")
    checks: dict[str, Check] = {}
    for line in lines:
        if match := LINE.match(line):
            number, result, name, found = match.groups()
            assert CODE[name] == int(number)
            # The verdict has said it of the first that failed, and of that alone.
            first = result == "FAIL" and all(c.result != "FAIL" for c in checks.values())
            assert first == (found == "see above"), line
            if first:
                found = cause.removesuffix(".") if advice else cause
            checks[name] = Check(result, found, advice if first else "")
        else:
            assert line.startswith(" " * 23 + "Next: "), line
            checks[name] = checks[name]._replace(advice=line.strip().removeprefix("Next: "))
    assert list(checks) == CHECKS
    return verdict, checks


async def start_doctor(agent: Agent, *options: str | Path, ctl: Path = CTL,
                       config: Path | None = None, stdout: int = subprocess.PIPE,
                       stderr: int = subprocess.PIPE, **environment: str
                       ) -> asyncio.subprocess.Process:
    """As somebody on the hub would, beside this agent or in its place."""
    return await asyncio.create_subprocess_exec(
        ctl, "-s", agent.socket, "-c", config or agent.config, "doctor", *options,
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        env={**without_proxy(os.environ), **agent.environment, **environment})


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str]:
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert not has_sanitizer_report(err.decode()), err.decode()
    assert err == b""       # it is no terminal, so no progress is shown
    return process.returncode, out.decode()


async def diagnose(agent: Agent, **arguments: Any) -> Diagnosis:
    """What it says; the exit code is that of the first check that failed."""
    code, out = await finish(await start_doctor(agent, **arguments))
    diagnosis = Diagnosis(code, *parse(out))
    failed = diagnosis.failed()
    assert code == (CODE[failed[0]] if failed else 0), out
    if failed:
        assert diagnosis.verdict.startswith(("Not working: ", "Working, but: "))
        assert diagnosis.checks[failed[0]].found
    else:
        assert diagnosis.verdict == "All is well: 15 checks passed"
    return diagnosis


@asynccontextmanager
async def answering(agent: Agent, answer: Callable[[], Any]) -> AsyncIterator[None]:
    """At the agent's status socket: answer() is the status; a daemon that hangs gives None."""
    hanging = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            assert request == b"status\n"
            status = answer()
            if status is None:
                await hanging.wait()
            else:
                writer.write(json.dumps(status).encode() + b"\n")
        writer.close()
    agent.write_config()
    server = await asyncio.start_unix_server(serve, str(agent.socket))
    try:
        yield
    finally:
        hanging.set()
        server.close()
