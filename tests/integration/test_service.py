# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, and what becomes of a daemon that hangs."""

import asyncio
import contextlib
import os
import signal
import socket
import time

import pytest

from harness import DAEMON, Agent, run, running_lab, show, until

WATCHDOG_S = 10     # the least there is


class Manager:
    """The end of sd_notify(3) that systemd has."""

    def __init__(self, directory):
        self.path = str(directory / "notify")
        self.messages = []          # as dicts
        self.pings = []             # when each WATCHDOG=1 came
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)

    def __enter__(self):
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(self, *_):
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self):
        text = self._socket.recv(65536).decode()
        message = dict(line.split("=", 1) for line in text.splitlines())
        if message == {"WATCHDOG": "1"}:
            self.pings.append(time.monotonic())
        else:
            self.messages.append(message)

    async def status(self, expected):
        """Wait for a STATUS with this text."""
        await until(lambda: any(expected in m.get("STATUS", "") for m in self.messages),
                    what=f"{expected!r} in {self.messages}")

    @property
    def steps(self):
        """What it was told besides how the agent is."""
        return [next(iter(m)) for m in self.messages if list(m) != ["STATUS"]]


@pytest.mark.systemd
async def test_manager_is_told(directory):
    """Readiness, how the agent is, each reload and the end; and that the loop turns."""
    with Manager(directory) as manager:
        async with running_lab(directory, start_agent=False) as lab:
            agent = lab.agent
            agent.environment |= {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "2000000"}
            agent.command = ["sh", "-c", 'export WATCHDOG_PID=$$; exec "$@"', "sh", *agent.command]
            await agent.start()
            await until(lambda: manager.messages)
            assert list(manager.messages[0]) == ["READY", "STATUS"]
            await manager.status("Working, but no device heard yet")

            await lab.cloud.stop()
            await manager.status("Not working: no cloud")
            told = manager.messages[-1]["STATUS"]
            assert told == (await agent.wait_for_status(
                lambda s: s["summary"] == told))["summary"]
            manager.messages[1:] = []
            await lab.cloud.start()
            await manager.status("Working, but no device heard yet")

            before_us = time.monotonic_ns() // 1000
            agent.process.send_signal(signal.SIGHUP)
            await until(lambda: len(manager.steps) == 3)
            reloading, ready = manager.messages[-2:]
            assert list(reloading) == ["RELOADING", "MONOTONIC_USEC"]
            assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert list(ready) == ["READY", "STATUS"]
            agent.config.write_text("log_level = 7;\n")
            agent.process.send_signal(signal.SIGHUP)
            await manager.status("but the new configuration is refused")

            await until(lambda: len(manager.pings) > 3)
            assert await agent.stop() == 0
            await until(lambda: "STOPPING" in manager.messages[-1])
            assert manager.steps == ["READY", *["RELOADING", "READY"] * 2, "STOPPING"]
    pauses = [b - a for a, b in zip(manager.pings, manager.pings[1:], strict=False)]
    show(f"a watchdog of 2 s: at most {max(pauses):.2f} s between two signs of life")


@pytest.mark.systemd
async def test_no_watchdog_wanted(directory):
    """A manager that wants no signs of life gets none, and the reason why nothing works."""
    with Manager(directory) as manager:
        async with running_lab(directory, start_agent=False) as lab:
            lab.agent.environment["NOTIFY_SOCKET"] = manager.path
            lab.cloud.refuse_hello = 4409
            await lab.agent.start()
            await manager.status("refused as configured")
            assert not manager.pings
            assert {key for m in manager.messages for key in m} == {"READY", "STATUS"}


@pytest.mark.systemd
async def test_nobody_to_tell(directory):
    """Without a manager, one that wants signs of life notwithstanding, all is as ever."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.agent.environment |= {"WATCHDOG_USEC": "100000",
                                  "NOTIFY_SOCKET": str(directory / "nobody")}
        await lab.agent.start()
        await lab.working()
        assert "service manager: cannot be told anything" in lab.agent.log


@pytest.mark.parametrize("seconds", ["9", "601", "-10", "10s", ""])
async def test_watchdog_usage(directory, seconds):
    ended = await run(DAEMON, "--foreground", "--watchdog", seconds)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == \
        f"blecon-hotspotd: --watchdog: expected 10 to 600 seconds, not {seconds}\n"
    assert "--watchdog SECONDS" in (await run(DAEMON, "--help")).out


@pytest.mark.long
async def test_watchdog(directory):
    """A daemon that hangs, as it writes to a pipe that nobody reads, ends; another lives on."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.agent.command += ["--watchdog", str(WATCHDOG_S)]
        await lab.agent.start()
        (directory / "hangs").mkdir()
        hangs = Agent(directory / "hangs", lab.bus.address, {})
        fifo = directory / "hangs/log"
        os.mkfifo(fifo)
        pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        hangs.command = ["sh", "-c", 'exec "$@" 2>"$0"', fifo, *hangs.command,
                         "--watchdog", str(WATCHDOG_S)]
        try:
            await hangs.start()
            fill(pipe)
            hangs.process.send_signal(signal.SIGHUP)    # which is logged
            began = time.monotonic()
            await until(lambda: hangs.process.poll() is not None, 2 * WATCHDOG_S, "its end")
            took = time.monotonic() - began
        finally:
            hangs.process.kill()
            hangs.process.wait()
            os.close(pipe)
        assert hangs.process.returncode == -signal.SIGALRM
        await lab.agent.wait_for_status(lambda s: s["uptime_s"] > 2.5 * WATCHDOG_S, 60)
        assert lab.agent.process.poll() is None
    show(f"a watchdog of {WATCHDOG_S} s: a daemon that hung was ended after {took:.1f} s")


def fill(pipe):
    """Whoever writes to it from now on waits until somebody reads."""
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"." * 4096)     # a page, so that none has room for a short line
