# SPDX-License-Identifier: Apache-2.0
"""The log: where it goes, and that what is said again and again is not written each time."""

import contextlib
import os
import re
import signal
import socket

import pytest

from harness import DAEMON, Agent, run, running_lab, show, until
from private_bus import PrivateBus
from test_config import daemon_of, running
from test_reload import hang_up

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
# A /dev with nothing but syslog's socket and what a daemon needs, for this command alone. As sh -c
# has it: $0 is the directory.
OWN_DEV = """
for name in null random urandom; do touch "$0/$name"; mount --bind "/dev/$name" "$0/$name"; done
mount --rbind "$0" /dev
"""
FAILURE = re.compile(r"warning uplink: .*refused(?: \((?:once|(\d+) times) in the last .*\))?$",
                     re.MULTILINE)
ATTEMPT = ": next attempt in "      # in a debug line, which does not fold


def lines_of(agent):
    return agent.log.splitlines()


class Syslog:
    """What syslogd or logd would get of a daemon that has this as its /dev/log."""

    def __init__(self, directory):
        self.dev = directory / "dev"
        self.dev.mkdir()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.dev / "log"))
        self.lines = []         # as (priority, name, text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def read(self):
        """All until now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                line = self._socket.recv(4096).decode()
                found = re.fullmatch(r"<(\d+)>.{15} (\S+)\[\d+\]: (.*)\n?", line)
                assert found, line
                self.lines.append((int(found[1]), found[2], found[3]))
        return self.lines

    async def has(self, priority, text):
        """Wait for a line."""
        await until(lambda: any(p == priority and n == "blecon-hotspotd" and text in t
                                for p, n, t in self.read()), what=f"<{priority}>{text}")

    def command(self, redirection=""):
        """How a daemon starts for whom this is syslog."""
        return ["unshare", "--mount", "sh", "-ec", f'{OWN_DEV} exec "$@" {redirection}', self.dev]


async def test_standard_error(directory):
    """With nobody there but a person: time in UTC, level, text."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    assert await agent.stop() == 0
    for line in lines_of(agent):
        assert re.fullmatch(TIME + r" (error  |warning|info   |debug  ) \S.*", line), line
    assert re.search(r" info    blecon-hotspotd \S+ starting, hotspot ", agent.log)


async def test_journal(directory):
    """Where standard error is the journal, its lines have the priority, and no time."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    agent.log_path.touch()
    stat = agent.log_path.stat()
    agent.environment["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
    await agent.start()
    assert await agent.stop() == 0
    for line in lines_of(agent):
        assert re.fullmatch(r"<[3467]>[^<\s].*", line), line
    assert re.search(r"^<6>blecon-hotspotd \S+ starting, hotspot ", agent.log, re.MULTILINE)
    assert re.search(r"^<4>D-Bus: no connection: ", agent.log, re.MULTILINE)


async def test_inherited_journal(directory):
    """A variable that is there because a parent's standard error is the journal changes nothing."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    stat = directory.stat()
    agent.environment["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
    await agent.start()
    assert await agent.stop() == 0
    assert all(re.match(TIME, line) for line in lines_of(agent))


@pytest.mark.parametrize("redirection", ["2>/dev/null", "2>&-"], ids=["null", "closed"])
async def test_syslog(directory, redirection):
    """As procd starts it, nobody reads standard error: syslog gets all, with the levels."""
    with Syslog(directory) as syslog:
        agent = Agent(directory, f"unix:path={directory}/no-bus", {})
        agent.command = [*syslog.command(redirection), *agent.command]
        await agent.start()
        await syslog.has(30, " starting, hotspot ")
        await syslog.has(28, "D-Bus: no connection: ")
        await syslog.has(27, "no uplink.url is configured")
        # Nothing that it opened is where standard error would be.
        assert os.readlink(f"/proc/{agent.process.pid}/fd/2") in ("/dev/null", "/null")
        agent.process.terminate()
        await syslog.has(30, "stopped")
        assert await agent.stop() == 0
        assert agent.log == ""


async def test_configuration_in_syslog(directory):
    """So is the reason why it does not start, which nobody would see else."""
    with Syslog(directory) as syslog:
        path = directory / "agent.conf"
        path.write_text("log_level = 7;\n")
        plain = await run(DAEMON, "--foreground", "--config", path)
        assert (plain.code, plain.err.count("\n")) == (2, 1)
        ended = await run(*syslog.command("2>/dev/null"), DAEMON, "--foreground", "--config", path)
        assert (ended.code, ended.err) == (2, "")
        await syslog.has(27, plain.err.strip())
        # Who asks whether it is valid reads the answer.
        ended = await run(*syslog.command(), DAEMON, "--check-config", path)
        assert (ended.code, ended.err) == (2, plain.err)
        assert len(syslog.read()) == 1


async def test_background(directory):
    """A daemon in the background has syslog, whatever its standard error was."""
    with Syslog(directory) as syslog, PrivateBus(directory / "bus") as bus:
        agent = Agent(directory, bus.address, {})
        agent.write_config()
        ended = await run(*syslog.command(), DAEMON, "--config", agent.config,
                          **agent.environment)
        assert ended.code == 0, ended.err
        pid = daemon_of(agent.config)
        try:
            # The start is still read by who started it.
            assert " starting, hotspot " in ended.err
        finally:
            os.kill(pid, signal.SIGTERM)
        await until(lambda: not running(pid), 10, "the daemon to end")
        await syslog.has(30, "SIGTERM: stopping")
        await syslog.has(30, "stopped")


@pytest.mark.long
async def test_failures_fold(directory):
    """An uplink that fails and fails: the first is written, then how often, and none is lost."""
    async with running_lab(directory, start_cloud=False) as lab:
        agent = lab.agent
        await until(lambda: agent.log.count(ATTEMPT) >= 5)
        assert len(FAILURE.findall(agent.log)) == 1
        await agent.wait_for_log(" times in the last 10 s)", 15)
        before = agent.log.count(ATTEMPT)
        await until(lambda: agent.log.count(ATTEMPT) > before)
        await agent.stop()
        attempts = agent.log.count(ATTEMPT)
        written = [int(times or 1) for times in FAILURE.findall(agent.log)]
        assert written[0] == 1 and len(written) == 3
        assert sum(written) == attempts
    show(f"{attempts} failures of the uplink in 10 s: {len(written)} lines in the log")


@pytest.mark.long
async def test_count_is_told_in_time(directory):
    """What was said again is told when its time has come, though nothing is said any more."""
    async with running_lab(directory) as lab:
        await lab.working()
        for _ in range(3):
            await hang_up(lab.agent)
        line = "SIGHUP: reading the configuration again"
        assert lab.agent.log.count(line) == 1
        await lab.agent.wait_for_log(f" info    {line} (2 times in the last 10 s)", 15)
        lab.agent.process.send_signal(signal.SIGHUP)
        await lab.agent.stop()
        assert re.search(rf" info    {line} \(once in the last \d+ s\)", lab.agent.log)
