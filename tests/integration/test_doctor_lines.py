# SPDX-License-Identifier: Apache-2.0
"""Each check of the doctor, by what a daemon may answer."""

import asyncio
import copy
import json
import os
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from doctor import CHECKS, CODE, answering, diagnose, finish, start_doctor
from harness import CTL, Agent

HEALTHY = {
    "summary": "Working: 1 device present, uplink up", "working": True, "version": "0.1.0",
    "uptime_s": 7200.5,
    "configuration": {"state": "started"},
    "bluetooth": {
        "state": "scanning", "since_s": 7100.0, "generation": 1, "version": "5.66",
        "adapters": [{"name": "hci0", "address": "00:AA:01:00:00:00", "used": True,
                      "state": "scanning", "since_s": 7100.0, "powered": True,
                      "discovering": True, "monitor": False, "adverts": 1234, "others": 0,
                      "last_advert_s": 0.25}]},
    "uplink": {
        "state": "up", "since_s": 7000.0, "url": "wss://cloud.example:8443/relay",
        "address": "192.0.2.7", "certificate_until": "2027-01-31 12:00 UTC",
        "hotspot_name": "Hall 3", "attempts": 1, "connects": 1},
    "sightings": {"adverts": 1234, "reported": 1230, "acknowledged_s": 3.0},
}


def agent_in(directory, options=None):
    """Without a process: its configuration and its key."""
    agent = Agent(directory, "unix:path=/nonexistent", options or {})
    agent.key.parent.mkdir(mode=0o700)
    agent.key.touch(mode=0o600)
    agent.key.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption()))
    return agent


def status_with(changes):
    """HEALTHY with other values, by dotted path; None removes one."""
    status = copy.deepcopy(HEALTHY)
    for path, value in changes.items():
        *groups, name = path.split(".")
        place = status
        for group in groups:
            place = place[int(group)] if group.isdigit() else place[group]
        if value is None:
            place.pop(name)
        else:
            place[name] = value
    return status


async def diagnose_status(directory, changes, options=None):
    agent = agent_in(directory, options)
    async with answering(agent, lambda: status_with(changes)):
        return await diagnose(agent)


async def test_all_is_well(directory):
    """Each line says what was found."""
    diagnosis = await diagnose_status(directory, {})
    assert diagnosis.ok() == CHECKS
    found = {name: check.found for name, check in diagnosis.checks.items()}
    assert found.pop("configuration") == str(directory / "agent.conf")
    assert found.pop("key").startswith("hotspot ")
    assert found.pop("clock").endswith(" UTC")
    assert found == {
        "D-Bus": "the system bus answers", "bluetoothd": "version 5.66",
        "adapter": "hci0 00:AA:01:00:00:00", "scanning": "hci0",
        "adverts": "1234 heard, the last 0.2 s ago", "name": "cloud.example:8443 is 192.0.2.7",
        "TCP": "connected", "TLS": "certificate until 2027-01-31 12:00 UTC",
        "upgrade": "to WebSocket", "hello": "welcomed as Hall 3",
        "reports": "acknowledged 3.0 s ago", "daemon": "version 0.1.0, up 2 h"}


ADAPTER = "bluetooth.adapters.0."
DOWN = {"uplink.state": "waiting", "uplink.error": "what went wrong", "uplink.advice": "change it"}
SILENT = {ADAPTER + "last_advert_s": None, ADAPTER + "adverts": 0}

# What the daemon says, the check that fails, words of what was found and of what to do.
FAILURES = {
    "no bus": ({"bluetooth.state": "no-bus", "bluetooth.reason": "no D-Bus", "bluetooth.adapters":
                [], "bluetooth.advice": "start it"}, "D-Bus", "no D-Bus", "start it"),
    "no bluetoothd": ({"bluetooth.state": "no-bluetoothd", "bluetooth.reason": "not running",
                       "bluetooth.adapters": []},
                      "bluetoothd", "not running", "start the bluetooth service"),
    "no access": ({"bluetooth.state": "no-access", "bluetooth.reason": "access denied",
                   "bluetooth.adapters": []}, "bluetoothd", "access denied", "group bluetooth"),
    "no adapter": ({"bluetooth.state": "no-adapter", "bluetooth.reason": "no adapter hci7",
                    "bluetooth.adapters": []}, "adapter", "no adapter hci7", "plug one in"),
    "rfkill": ({"bluetooth.state": "not-scanning", "bluetooth.reason": "hci0: rfkill",
                ADAPTER + "state": "blocked", ADAPTER + "powered": False,
                "bluetooth.advice": "rfkill unblock bluetooth"},
               "adapter", "hci0: rfkill", "rfkill unblock bluetooth"),
    "off, and an older daemon": (
        {"bluetooth.state": "not-scanning", ADAPTER + "state": "off", ADAPTER + "powered": None},
        "adapter", "not-scanning", "dmesg"),
    "not scanning": ({"bluetooth.state": "not-scanning", ADAPTER + "state": "failed",
                      "bluetooth.reason": "hci0: StartDiscovery: busy"},
                     "scanning", "hci0: StartDiscovery: busy", "restart bluetoothd"),
    "nothing heard": (SILENT, "adverts", "no Blecon device in 10 s, and nothing of any other",
                      "antenna"),
    "unconfigured": ({"uplink.state": "unconfigured", "uplink.address": None},
                     "name", "uplink.url is not set", "set uplink.url"),
    "name": (DOWN | {"uplink.failed_at": "resolve"}, "name", "what went wrong", "change it"),
    "TCP": (DOWN | {"uplink.failed_at": "tcp"}, "TCP", "what went wrong", "change it"),
    "proxy": (DOWN | {"uplink.failed_at": "proxy"}, "TCP", "what went wrong", "change it"),
    "TLS": (DOWN | {"uplink.failed_at": "tls"}, "TLS", "what went wrong", "change it"),
    "upgrade": (DOWN | {"uplink.failed_at": "upgrade"}, "upgrade", "what went wrong", "change it"),
    "hello": (DOWN | {"uplink.failed_at": "hello"}, "hello", "what went wrong", "change it"),
    "an older daemon, with an address": (DOWN, "TCP", "what went wrong", "change it"),
    "an older daemon, without": (DOWN | {"uplink.address": None}, "name", "what went wrong",
                                 "change it"),
    "no acknowledgement": ({"sightings.unacknowledged_s": 45.0}, "reports",
                           "the cloud does not acknowledge reports, for 45 s now", "ask who runs"),
    "refused": ({"configuration.state": "refused", "configuration.since_s": 60.0,
                 "configuration.error": "agent.conf:3: no"},
                "configuration", "the daemon has refused a change of", "service blecon-hotspot reload"),
    "reverted": ({"configuration.state": "reverted", "configuration.since_s": 60.0,
                  "configuration.error": "the cloud was not reached"},
                 "configuration", "ago: the cloud was not reached", "service blecon-hotspot reload"),
}
# Where others go on without the one that fails.
RADIO = CHECKS[3:8]
CLOUD = CHECKS[8:14]


@pytest.mark.parametrize("name", FAILURES)
async def test_failure(directory, name):
    """The first line and exit code are of the failure; what needs that step is not checked."""
    changes, check, found, advice = FAILURES[name]
    diagnosis = await diagnose_status(directory, changes)
    assert diagnosis.failed() == [check]
    assert found in diagnosis.checks[check].found
    assert advice in diagnosis.checks[check].advice
    chain = next((c for c in (RADIO, CLOUD) if check in c), [])
    after = chain[chain.index(check) + 1:] if chain else []
    assert [c for c in CHECKS if c not in diagnosis.ok()] == [check, *after]
    assert all(diagnosis.checks[c] == ("-", "not checked", "") for c in after)


# What the daemon says, the check, and what is said of it.
NOTES = {
    "proxy": ({"uplink.proxy": "proxy.example:3128", "uplink.address": None}, "name",
              "cloud.example:8443, by way of the proxy proxy.example:3128"),
    "own certificate": ({"uplink.own_certificate_until": "2026-12-24 00:00 UTC"}, "TLS",
                        "certificate until 2027-01-31 12:00 UTC; the hotspot's own until "
                        "2026-12-24 00:00 UTC"),
    "pinned": ({"uplink.certificate_until": None}, "TLS", "encrypted"),
    "no name": ({"uplink.hotspot_name": None}, "hello", "welcomed"),
    "one adapter blocked": ({"bluetooth.reason": "hci1: rfkill"}, "scanning",
                            "hci0; but hci1: rfkill"),
    "older bluetoothd": ({"bluetooth.version": None}, "bluetoothd", "answers"),
    "nothing to report": ({"sightings.acknowledged_s": None, "sightings.reported": 0}, "reports",
                          "nothing to report yet"),
    "older daemon": ({"sightings.acknowledged_s": None}, "reports", "acknowledged"),
}


@pytest.mark.parametrize("name", NOTES)
async def test_note(directory, name):
    """What is good, and worth a word."""
    changes, check, found = NOTES[name]
    diagnosis = await diagnose_status(directory, changes)
    assert diagnosis.code == 0
    assert diagnosis.checks[check].found == found


async def test_restart_is_needed(directory):
    diagnosis = await diagnose_status(directory, {"configuration.state": "applied",
                                                  "configuration.needs_restart": "devices.max"})
    assert diagnosis.code == 0
    assert diagnosis.checks["configuration"].found == \
        f"{directory}/agent.conf; after a restart alone: devices.max"


async def test_what_passes_is_waited_for(directory):
    """A radio that starts, an attempt under way, a batch that is out: none is a failure yet."""
    asked = 0

    def answer():
        nonlocal asked
        asked += 1
        changes = {}
        if asked < 4:
            changes |= {"bluetooth.state": "no-adapter", "bluetooth.since_s": asked * 0.2}
        if asked < 7:
            changes |= SILENT
        if asked < 10:
            changes |= DOWN | {"uplink.state": "connecting", "uplink.failed_at": "tcp"}
        elif asked < 12:
            changes |= DOWN | {"uplink.state": "waiting", "uplink.failed_at": "up"}
        if asked < 14:
            changes |= {"sightings.unacknowledged_s": asked * 0.2}
        return status_with(changes)
    agent = agent_in(directory)
    async with answering(agent, answer):
        assert (await diagnose(agent)).code == 0
    assert asked == 14


async def test_only_others_are_heard(directory):
    """Which proves that the radio hears."""
    asked = 0

    def answer():
        nonlocal asked
        asked += 1
        return status_with(SILENT | {ADAPTER + "others": 100 + min(34, asked - 1)})
    agent = agent_in(directory)
    async with answering(agent, answer):
        diagnosis = await diagnose(agent)
    assert diagnosis.failed() == ["adverts"]
    assert diagnosis.checks["adverts"].found == \
        "no Blecon device in 10 s, but 34 signals of other devices: the radio hears"


async def test_hangs(directory):
    """The daemon takes the connection, and says nothing: no probe is started beside it."""
    agent = agent_in(directory)
    async with answering(agent, lambda: None):
        diagnosis = await diagnose(agent)
    assert diagnosis.failed() == ["daemon"]
    assert "blecon-hotspotd hangs" in diagnosis.verdict and "restart it" in diagnosis.verdict
    assert diagnosis.ok() == CHECKS[:3]


async def test_hangs_in_the_middle(directory):
    """What it said before counts, and that it says no more."""
    asked = 0

    def answer():
        nonlocal asked
        asked += 1
        return status_with(SILENT) if asked < 3 else None
    agent = agent_in(directory)
    async with answering(agent, answer):
        diagnosis = await diagnose(agent)
    assert diagnosis.failed() == ["adverts", "daemon"]
    assert diagnosis.checks["daemon"].found.startswith("it does not answer any more")


async def test_other_configuration(directory):
    """The file that the daemon uses is the one that counts, and both are named."""
    agent = agent_in(directory)
    other = directory / "other.conf"
    other.write_text("nonsense = 1;")
    async with answering(agent, lambda: status_with({"configuration.file": str(agent.config)})):
        diagnosis = await diagnose(agent, config=other)
        assert diagnosis.code == 0
        assert diagnosis.checks["configuration"].found == \
            f"{agent.config}, which the daemon uses, not {other}"
        link = directory / "link.conf"      # the same by another name
        link.symlink_to(agent.config)
        assert (await diagnose(agent, config=link)).checks["configuration"].found == str(link)


async def test_socket_of_the_configuration(directory):
    """A daemon that listens where the file says is found there, and no probe started."""
    agent = agent_in(directory)
    async with answering(agent, lambda: HEALTHY):
        code, out = await finish(await asyncio.create_subprocess_exec(
            CTL, "-c", agent.config, "doctor", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE))
        assert code == 0 and out.startswith("All is well")


@pytest.mark.parametrize("changes", [{}, FAILURES["TLS"][0]], ids=["well", "not well"])
async def test_json(directory, changes):
    """The same, for programs."""
    agent = agent_in(directory)
    async with answering(agent, lambda: status_with(changes)):
        code, out = await finish(await start_doctor(agent, "--json"))
        screen = await diagnose(agent)
    answer = json.loads(out)
    assert out.count("\n") == 1
    assert (answer["verdict"], answer["code"]) == (screen.verdict, screen.code) == \
        (screen.verdict, code)
    assert [c["check"] for c in answer["checks"]] == CHECKS
    results = {"ok": "ok", "FAIL": "failed", "-": "not-checked"}
    for check in answer["checks"]:
        line = screen.checks[check["check"]]
        assert check["result"] == results[line.result]
        assert check.get("found", "not checked") == line.found
        assert check.get("advice", "") == line.advice
    assert code == (CODE["TLS"] if changes else 0)


async def test_terminal(directory):
    """80 columns; progress is shown while it waits, and gone in the end."""
    agent = agent_in(directory)
    terminal, its_end = os.openpty()
    async with answering(agent, lambda: status_with(SILENT)):
        process = await start_doctor(agent, stdout=its_end, stderr=its_end)
        os.close(its_end)
        await process.wait()
    text = b""
    while b"daemon" not in text or not text.endswith(b"\n"):
        text += os.read(terminal, 65536)
    os.close(terminal)
    progress, screen = text.decode().replace("\r\n", "\n").rsplit("\r", 1)
    assert "8 of 15: adverts, 9 s" in progress
    assert "\n" not in progress
    assert progress.endswith("\r" + " " * 60)
    lines = screen.splitlines()
    assert lines[0].startswith("Working, but: no Blecon device in 10 s")
    assert max(map(len, lines)) <= 80
