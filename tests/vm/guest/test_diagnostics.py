# SPDX-License-Identifier: Apache-2.0
"""What the agent and its doctor say of the real kernel and bluetoothd, and of their faults."""

import os
import pwd
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))

from device import VirtualDevice  # noqa: E402
from doctor import CHECKS, diagnose  # noqa: E402
from harness import CTL, DAEMON, run  # noqa: E402
from stack import BLUETOOTHD, HOTSPOT, Bluez, until  # noqa: E402
from test_agent import SAMPLES, hotspot  # noqa: E402

IDLE = {"relay": {"max_links": 0}}
STRANGER = bytes.fromhex("02010603030f180409616263")     # a battery service, and a name
OTHER_USER = pwd.getpwnam("nobody")
RFKILL_BLUETOOTH, RFKILL_CHANGE_ALL = 2, 3               # linux/rfkill.h


def first(status):
    return status["bluetooth"]["adapters"][0]


async def told(agent, reason, advice, check=None):
    """The first line of `status` has the cause and the next step.

    So has that of the doctor, where the check is given that fails: it takes its 5 s to be sure.
    """
    status = await agent.wait_for_status(
        lambda s: s["bluetooth"].get("reason") == reason and s["uplink"]["state"] == "up", 20)
    radio = status["bluetooth"]
    assert radio["advice"].startswith(advice)
    page = await run(CTL, "-s", agent.socket, "status")
    assert page.code == 3
    assert page.out.splitlines()[0].endswith(f"{reason}: {radio['advice']}")
    if check:
        diagnosis = await diagnose(agent)
        assert diagnosis.failed() == [check]
        assert diagnosis.verdict == f"Not working: {reason}. Next: {radio['advice']}"
    return radio


async def scanning(agent):
    return await agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning", 20)


async def test_a_radio_that_works(out, advertising):
    version = subprocess.run([BLUETOOTHD, "--version"], check=True, capture_output=True, text=True)
    async with hotspot(out, "works", IDLE) as (agent, _), advertising(SAMPLES[0]):
        status = await agent.wait_for_status(lambda s: first(s)["adverts_per_s"] > 0, 20)
        assert status["bluetooth"]["version"] == version.stdout.strip()
        adapter = first(status)
        assert adapter["powered"] and adapter["discovering"]
        assert adapter["others"] == adapter["dropped"] == 0
        assert adapter["last_heard_s"] == adapter["last_advert_s"]
        diagnosis = await diagnose(agent)
        assert (diagnosis.code, diagnosis.ok()) == (0, CHECKS)
        assert diagnosis.verdict == "All is well: 15 checks passed"


async def test_others_are_told_while_another_program_scans(out, advertising):
    """bluetoothd keeps them from us, for our filter asks for Blecon's, but then."""
    async with hotspot(out, "others", IDLE) as (agent, _), advertising(STRANGER) as advertiser:
        async def adverts(count):
            sent = advertiser.sent
            await until(lambda: advertiser.sent >= sent + count)
            return first(await agent.status())
        adapter = await adverts(5)
        assert adapter["others"] == 0 and "last_heard_s" not in adapter
        async with Bluez() as bluez:
            await bluez.call(HOTSPOT, "org.bluez.Adapter1.StartDiscovery")
            await agent.wait_for_status(lambda s: first(s)["others"] > 1, 20)
            await bluez.call(HOTSPOT, "org.bluez.Adapter1.StopDiscovery")
        before = await adverts(2)
        adapter = await adverts(5)
        assert adapter["others"] == before["others"]
        assert adapter["last_heard_s"] > before["last_heard_s"]
        assert adapter["adverts"] == 0 and "last_advert_s" not in adapter


async def test_the_doctor_tries_without_a_daemon(out, advertising):
    """All it needs is there; the adapter is left as it was."""
    async with hotspot(out, "doctor", IDLE) as (agent, _), advertising(SAMPLES[0]), Bluez() as bluez:
        async def adapter():
            return (await bluez.objects())[HOTSPOT]["org.bluez.Adapter1"]
        assert await agent.stop() == 0
        await bluez.wait_property(HOTSPOT, "org.bluez.Adapter1", "Discovering", False)
        before = await adapter()
        diagnosis = await diagnose(agent)
        assert diagnosis.code == 24
        assert diagnosis.ok() == CHECKS[:-1]
        await bluez.wait_property(HOTSPOT, "org.bluez.Adapter1", "Discovering", False)
        assert await adapter() == before


def rfkill(block):
    """As the program rfkill does it, to all of Bluetooth."""
    Path("/dev/rfkill").write_bytes(
        struct.pack("<IBBBB", 0, RFKILL_BLUETOOTH, RFKILL_CHANGE_ALL, block, 0))


@pytest.mark.parametrize("experimental", [True, False])
async def test_blocked_by_rfkill(out, stack, experimental):
    """Without -E bluetoothd 5.66 has no PowerState, and says no more than that it failed."""
    await stack.restart_bluetoothd(experimental=experimental)
    async with hotspot(out, f"rfkill-{experimental}", IDLE) as (agent, _):
        try:
            rfkill(True)
            radio = await told(agent, "hci0: switched off by rfkill", "rfkill unblock bluetooth",
                               None if experimental else "adapter")
            adapter = radio["adapters"][0]
            assert (adapter["state"], adapter["powered"]) == ("blocked", False)
            assert not adapter["discovering"] and not adapter["monitor"]
            # It was so before the agent came.
            assert await agent.stop() == 0
            await agent.start()
            await agent.wait_for_status(
                lambda s: s["bluetooth"].get("reason") == "hci0: switched off by rfkill")
            command = radio["advice"].partition("without that program: ")[2]
            subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
            await scanning(agent)
        finally:
            rfkill(False)


async def test_bluetoothd_is_stopped(out, stack):
    """It is in the journal too, when it is over."""
    async with hotspot(out, "stopped", IDLE) as (agent, _):
        stack.kill_bluetoothd()
        radio = await told(agent, "bluetoothd is not running", "start the bluetooth service",
                           "bluetoothd")
        assert "version" not in radio
        await stack.start_bluetoothd()
        await scanning(agent)
        [entry] = [e for e in (await agent.ask("journal"))["journal"] if e["event"] == "bluetooth"]
        assert (entry["text"], entry["level"]) == ("bluetoothd: is not running", "warning")
        page = await run(CTL, "-s", agent.socket, "journal")
        assert any(line.endswith("Z bluetoothd: is not running") for line in page.out.splitlines())


UID = OTHER_USER.pw_uid
DENIED = [  # to the agent's user: the policy, the reason, the advice, the check that fails
    ('<policy context="mandatory"><deny user="nobody"/></policy>',
     "D-Bus cannot be reached: Connection reset by peer "
     "(DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket)",
     "let the daemon's user open the bus", None),
    ('<policy user="nobody"><deny send_destination="org.bluez"/></policy>',
     f"user {UID} may not talk to bluetoothd", "allow it in a D-Bus policy", "bluetoothd"),
    ('<policy user="nobody"><deny send_destination="org.bluez" '
     'send_interface="org.bluez.Adapter1"/></policy>',
     f"hci0: SetDiscoveryFilter: a D-Bus policy denies it to user {UID}",
     "allow it in a D-Bus policy", None),
]


def give_away(agent):
    """From its next start on it runs as another user."""
    agent.command[0] = Path(shutil.copy(DAEMON, agent.directory))
    for path in (agent.directory, *agent.directory.rglob("*")):
        os.chown(path, OTHER_USER.pw_uid, OTHER_USER.pw_gid)
    prepare = agent.prepare

    def become():
        os.setgroups([])
        os.setgid(OTHER_USER.pw_gid)
        os.setuid(OTHER_USER.pw_uid)
        prepare()
    agent.prepare = become


async def test_denied_by_a_policy(out, stack):
    """The bus, bluetoothd or an adapter."""
    async with hotspot(out, "denied", IDLE) as (agent, _):
        assert await agent.stop() == 0
        give_away(agent)
        for policy, *expected in DENIED:
            async with stack.policy(policy):
                await agent.start()
                await told(agent, *expected)
                assert await agent.stop() == 0
        await agent.start()
        await scanning(agent)


async def test_no_adapter_and_one_without_le(out, stack):
    """Of the latter bluetoothd says that an operation is in progress."""
    async with hotspot(out, "no-adapter", IDLE) as (agent, _):
        async with stack.other_radio():
            radio = await told(agent, "no adapter hci0", "plug it in, see dmesg", "adapter")
            assert radio["adapters"] == []
        await scanning(agent)
        async with stack.other_radio("-B", "-l1"):
            await told(agent, "hci0: it has no Bluetooth LE", "use an adapter with Bluetooth LE")
        await scanning(agent)


async def test_timings_of_sessions(out, radio_device):
    """Each step took its time, over GATT and over L2CAP."""
    async with hotspot(out, "timings") as (agent, cloud):
        for number, bearer in enumerate(["gatt", "l2cap"], start=1):
            device = VirtualDevice(cloud.device_public_key)
            device.l2cap = bearer == "l2cap"
            device.ask(b"hello")
            async with radio_device(device):
                await until(lambda: device.finished, 40)
                await agent.wait_for_status(lambda s: s["relay"]["served"] == number, 20)
            session = (await agent.ask("sessions"))["last"][0]
            assert (session["result"], session["bearer"]) == ("served", bearer)
            times = [session[name] for name in ("connect_ms", "first_frame_ms", "first_answer_ms",
                                                "total_ms")]
            assert 0 < times[0] and times == sorted(times)
            assert 0 < session["discover_ms"] < session["total_ms"] - session["connect_ms"]
            print(f"{bearer}: " + ", ".join(f"{name} {session[name]}" for name in session
                                            if name.endswith("_ms")))
