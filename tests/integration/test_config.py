# SPDX-License-Identifier: Apache-2.0
"""The daemon's command line, its configuration, and what it refuses to start with."""

import contextlib
import os
import re
import signal
import stat
from pathlib import Path

import pytest

from harness import CTL, DAEMON, ROOT, Agent, PrivateBus, render, run, running_lab, until

VALID = ROOT / "configs/blecon-hotspot.conf"

# Text of the file, and the line, option and expectation that the error has to name.
WRONG = {
    "syntax": ("log_level = ;\n", 1, "syntax error"),
    "unknown option": ('\nlog_levle = "info";\n', 2, "log_levle: unknown option"),
    "unknown option in a group": ("uplink: {\n\tretries = 3;\n};\n", 2,
                                  "uplink.retries: unknown option"),
    "unknown group": ("radio: { x = 1; };\n", 1, "radio: unknown option"),
    "no group": ("uplink = 1;\n", 1, "uplink: expected a group"),
    "no integer": ('uplink: {\n\n\tping_interval_s = "30";\n};\n', 3,
                   "uplink.ping_interval_s: expected an integer from 0 to 86400 "
                   "(seconds, 0 for never), not a string"),
    "too large": ("relay: { max_links = 17; };\n", 1,
                  "relay.max_links: expected an integer from 0 to 16 "
                  "(links, 0 to connect no device), not 17"),
    "too small": ("relay: { rssi_floor_dbm = -128; };\n", 1,
                  "relay.rssi_floor_dbm: expected an integer from -127 to 20 (dBm), not -128"),
    "over 32 bits": ("devices: { max = 4294967312L; };\n", 1,
                     "devices.max: expected an integer from 16 to 65536"),
    "a fraction": ("devices: { lost_after_s = 1.5; };\n", 1,
                   "devices.lost_after_s: expected an integer from 1 to 86400 (seconds), "
                   "not a floating-point number"),
    "no boolean": ("bluetooth: { duplicate_data = 1; };\n", 1,
                   "bluetooth.duplicate_data: expected true or false, not an integer"),
    "no string": ("log_level = true;\n", 1, 'log_level: expected "error"'),
    "no level": ('log_level = "verbose";\n', 1, 'not "verbose"'),
    "no encryption": ('uplink: { url = "ws://example.com/"; };\n', 1,
                      'uplink.url: expected "wss://host[:port]/path", not "ws://example.com/": '
                      "the URL does not start with wss://"),
    "bad port": ('uplink: { url = "wss://example.com:70000/"; };\n', 1,
                 "the port is not a number from 1 to 65535"),
    "password in the URL": ('uplink: { url = "wss://me:secret@example.com/"; };\n', 1,
                            "a user name or password does not belong into the URL"),
    "relative path": ('state_dir = "state";\n', 1, "state_dir: expected an absolute path"),
    "no adapter": ('bluetooth: {\n\tadapters = [\n\t\t"hci0",\n\t\t"usb0" ];\n};\n', 4,
                   'bluetooth.adapters: element 2: expected a name like "hci0" or an address like '
                   '"00:11:22:AA:BB:CC", not "usb0": no adapter has such a name'),
    "an adapter twice": ('bluetooth: { adapters = ["hci0", "hci0"]; };\n', 1,
                         'bluetooth.adapters: element 2: "hci0" is listed twice'),
    "no bearer": ('relay: { bearer = "usb"; };\n', 1,
                  'relay.bearer: expected "auto", "l2cap" or "gatt", not "usb"'),
    "list": ("log_level = (1, 2);\n", 1, "not a list"),
    "back-off upside down": ("uplink: { backoff_min_ms = 2000; backoff_max_s = 1; };\n", None,
                             "uplink.backoff_min_ms: expected at most uplink.backoff_max_s (1 s)"),
    "retry upside down": ("relay: { retry_min_s = 9; retry_max_s = 8; };\n", None,
                          "relay.retry_min_s: expected at most relay.retry_max_s (8 s)"),
}


async def test_check_config_valid(directory):
    """The file that is installed is valid, and so is an empty one."""
    empty = directory / "empty.conf"
    empty.write_text("")
    for path in (VALID, empty):
        assert await run(DAEMON, "--check-config", path) == \
            (0, f"{path}: valid, but uplink.url is empty: nobody is told\n", "")
    empty.write_text('uplink: { url = "wss://hub.example.com/relay"; };')
    assert await run(DAEMON, "--check-config", empty) == (0, f"{empty}: valid\n", "")


@pytest.mark.parametrize("name", WRONG)
async def test_check_config_wrong(directory, name):
    """Each kind of mistake is told in one line: file, line, option, what was expected."""
    text, line, expected = WRONG[name]
    path = directory / "wrong.conf"
    path.write_text(text)
    ended = await run(DAEMON, "--check-config", path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert expected in ended.err
    # Starting with it says and does the same.
    assert await run(DAEMON, "--foreground", "--config", path) == ended


async def test_wrong_in_an_included_file(directory):
    """The file and line named are those of the include."""
    (directory / "part.conf").write_text("\n\nlog_level = 1;\n")
    path = directory / "whole.conf"
    path.write_text(f'@include "{directory}/part.conf"\n')
    ended = await run(DAEMON, "--check-config", path)
    assert ended.code == 2
    assert ended.err.startswith(f"{directory}/part.conf:3: log_level: expected")


async def test_command_line(directory):
    """--version, --help, and what is no option."""
    version = re.search(r"VERSION := (\S+)", (ROOT / "Makefile").read_text())[1]
    for program in (DAEMON, CTL):
        assert await run(program, "--version") == (0, f"{program.name} {version}\n", "")
        usage = await run(program, "--help")
        assert (usage.code, usage.err) == (0, "")
        assert usage.out.startswith(f"Usage: {program.name} ")
        wrong = await run(program, "--verbose")
        assert (wrong.code, wrong.out) == (2, "")
        assert "verbose" in wrong.err and f"{program.name} --help" in wrong.err
    for arguments in (["now"], ["--log-level", "loud"], ["--config"], ["--check-config"]):
        ended = await run(DAEMON, *arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert ended.err


async def test_missing_config(directory):
    """No file: exit code 2, and its name."""
    path = directory / "none.conf"
    for arguments in (["--check-config", path], ["--config", path], ["--foreground", "-c", path]):
        ended = await run(DAEMON, *arguments)
        assert ended == (2, "", f"{path}: No such file or directory\n")


def prepared(directory, **options):
    """An agent that is not started by the harness, and its configuration on disk."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", options)
    agent.write_config()
    (directory / "state").mkdir()
    return agent


KEYS = {
    "empty": (b"", "not a P-256 private key in PEM"),
    "cut off": (None, "not a P-256 private key in PEM"),
    "random": (os.urandom(300), "not a P-256 private key in PEM"),
    "too long": (b"x" * 5000, "File too large"),
}


@pytest.mark.parametrize("name", KEYS)
async def test_damaged_key(directory, name):
    """It does not start with another identity in silence: it says what to do, the file stays."""
    content, expected = KEYS[name]
    agent = prepared(directory)
    if content is None:
        content = (await key_of(directory))[:-70]
    agent.key.write_bytes(content)
    agent.key.chmod(0o600)
    ended = await run(DAEMON, "--foreground", "--config", agent.config)
    assert ended.code == 1
    assert f"{agent.key}: {expected}" in ended.err
    if name != "too long":
        assert "put the hotspot's own key back from a backup, or remove the file" in ended.err
    assert agent.key.read_bytes() == content
    assert not agent.socket.exists()


async def key_of(directory):
    """A good key, made by a daemon."""
    (directory / "other").mkdir()
    agent = Agent(directory / "other", f"unix:path={directory}/no-bus", {})
    await agent.start()
    assert await agent.stop() == 0
    return agent.key.read_bytes()


async def test_key_of_somebody_else(directory):
    """A key that others could have written or read is refused and left alone."""
    agent = prepared(directory)
    good = await key_of(directory)
    agent.key.write_bytes(good)

    async def refused(expected):
        before = agent.key.stat()
        ended = await run(DAEMON, "--foreground", "--config", agent.config)
        assert ended.code == 1
        assert str(agent.key) in ended.err and expected in ended.err
        assert agent.key.read_bytes() == good
        after = agent.key.stat()
        assert (after.st_mode, after.st_uid, after.st_mtime) == (
            before.st_mode, before.st_uid, before.st_mtime)

    agent.key.chmod(0o644)
    await refused("others can read or write it (mode 0644): chmod 600 it")
    agent.key.chmod(0o620)
    await refused("others can read or write it (mode 0620): chmod 600 it")
    agent.key.chmod(0o600)
    await chown(agent.key, 12345)
    await refused("chown it if it is the hotspot's own key")
    await chown(agent.key, os.geteuid())
    target = agent.key.rename(agent.key.with_name("elsewhere"))
    agent.key.symlink_to(target)
    ended = await run(DAEMON, "--foreground", "--config", agent.config)
    assert ended.code == 1 and str(agent.key) in ended.err
    agent.key.unlink()
    target.rename(agent.key)
    await agent.start()
    assert await agent.stop() == 0
    assert agent.key.read_bytes() == good


async def chown(path, uid):
    """Give a file to somebody else, which root may."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    assert (await run(*sudo, "chown", str(uid), path)).code == 0


async def test_identity_lasts(directory):
    """The key is made once, private, and is the same after a restart."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    first = (await agent.status())["hotspot_id"]
    assert stat.S_IMODE(agent.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(agent.key.parent.stat().st_mode) == 0o700
    key = agent.key.read_bytes()
    assert await agent.stop() == 0
    await agent.start()
    assert (await agent.status())["hotspot_id"] == first
    assert await agent.stop() == 0
    assert agent.key.read_bytes() == key
    assert key.decode().splitlines()[1] not in agent.log


async def test_bad_ca_file(directory):
    """A ca_file that is missing, or holds no certificate, is told before anything runs."""
    path = directory / "ca.pem"
    agent = prepared(directory, uplink={"url": "wss://localhost:1/", "ca_file": str(path)})
    for content, expected in ((None, "No such file or directory"), (b"", "no certificate in PEM"),
                              (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                               "no certificate in PEM")):
        if content is not None:
            path.write_bytes(content)
        for foreground in (["--foreground"], []):
            ended = await run(DAEMON, *foreground, "--config", agent.config)
            assert ended.code == 1
            assert f"uplink.ca_file {path}: {expected}" in ended.err
            assert not agent.socket.exists()


async def test_second_daemon(directory):
    """Two daemons on one socket: the second does not start, the first goes on."""
    async with running_lab(directory) as lab:
        await lab.working()
        for foreground in (["--foreground"], []):
            ended = await run(DAEMON, *foreground, "--config", lab.agent.config,
                              **lab.agent.environment)
            assert ended.code == 1
            assert f"status socket {lab.agent.socket}: another blecon-hotspotd answers there" \
                in ended.err
        assert (await lab.agent.status())["working"]


async def test_stale_socket(directory):
    """What a killed daemon left behind is replaced; what is no socket is not."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    agent.process.kill()
    agent.process.wait()
    assert agent.socket.exists()
    await agent.start()
    await agent.wait_for_status(lambda s: s["version"])
    assert await agent.stop() == 0
    assert not agent.socket.exists()
    agent.socket.write_text("precious")
    ended = await run(DAEMON, "--foreground", "--config", agent.config)
    assert ended.code == 1
    assert f"status socket {agent.socket}: File exists" in ended.err
    assert agent.socket.read_text() == "precious"


async def test_background(directory):
    """Without --foreground the command ends when the daemon answers; a signal ends that."""
    with PrivateBus(directory / "bus") as bus:
        agent = Agent(directory, bus.address, {})
        agent.write_config()
        ended = await run(DAEMON, "--config", agent.config, **agent.environment)
        pid = daemon_of(agent.config)
        try:
            assert ended.code == 0, ended.err
            status = await agent.status()
            assert status["bluetooth"]["state"] in ("no-bus", "no-bluetoothd")
            # It has let go of who started it.
            assert os.getsid(pid) != os.getsid(0)
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
            assert [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)] == ["/dev/null"] * 3
        finally:
            if pid:
                os.kill(pid, signal.SIGTERM)
        await until(lambda: not running(pid), 10, "the daemon to end")
        assert not agent.socket.exists()


def daemon_of(config):
    """The process that runs with this configuration."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(config).encode() in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
    return None


def running(pid):
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_background_does_not_start(directory):
    """Its exit code and its reason reach who started it."""
    agent = prepared(directory)
    agent.key.write_text("no key")
    agent.key.chmod(0o600)
    ended = await run(DAEMON, "--config", agent.config)
    assert ended.code == 1
    assert str(agent.key) in ended.err
    assert daemon_of(agent.config) is None


async def test_log_level(directory):
    """The command line's level goes over the configured one."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {"log_level": "error"})
    agent.write_config()
    agent.key.parent.mkdir()
    agent.socket.mkdir()    # so that it does not start
    quiet = await run(DAEMON, "--foreground", "--config", agent.config)
    loud = await run(DAEMON, "--foreground", "--log-level", "info", "--config", agent.config)
    assert quiet.code == loud.code == 1
    assert " error " in quiet.err and " info " not in quiet.err
    assert " error " in loud.err and " info " in loud.err
    assert render(agent.options) == agent.config.read_text()
