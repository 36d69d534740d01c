# SPDX-License-Identifier: Apache-2.0
"""The package from its installation to its purge, on one hub."""

import os
import re
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

from device import VirtualDevice
from hub import (
    CONFIG, PACKAGE, RUNTIME, STATE, UNIT, accounts, apt, ctl, journal, run, status, tree, unit,
    wait_for_status, working)
from stack import until

SENSOR = uuid.UUID("f2ea6ed6-c079-4602-980d-fce59cf19da2")
ADVERT = bytes.fromhex("02010603030dfd17160dfd3a04f2ea6ed6c0794602980dfce59cf19da20300")
REFUSED = "ermission denied"


async def test_the_machine_is_up(hub):
    """What is tested is a system where nothing has failed."""
    await until(lambda: run("systemctl", "is-system-running", check=False).stdout.strip()
                in ("running", "degraded"), 120)
    print(run("systemd-analyze", "time", check=False).stdout)
    failed = run("systemctl", "--failed", "--plain", "--no-legend").stdout
    assert failed == ""


async def test_installed_it_waits_for_a_url(hub):
    apt("install", PACKAGE)
    assert unit("ActiveState") == "active", journal()
    assert unit("UnitFileState") == "enabled"
    await wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning")
    page = await ctl("status", check=False)
    assert page.returncode == 3
    line = page.stdout.splitlines()[0]
    print(line)
    assert line.startswith("Not working: no cloud is configured") and "uplink.url" in line
    assert "uplink.url" in unit("StatusText")


async def test_configured_it_relays(hub):
    shutil.copy(hub.ca.cert, hub.trusted)
    text = CONFIG.read_text()
    async with hub.cloud() as cloud:
        text, n = re.subn(r'(?m)^\turl = "";$', f'\turl = "{cloud.url}";', text)
        assert n == 1
        text, n = re.subn(r'(?m)^\tca_file = ".*";$', f'\tca_file = "{hub.trusted}";', text)
        assert n == 1
        CONFIG.write_text(text)
        pid = unit("MainPID")
        run("systemctl", "reload", UNIT)
        await wait_for_status(working)
        assert unit("MainPID") == pid
        device = VirtualDevice(cloud.device_public_key)
        device.l2cap = True
        device.on_event = lambda name, details: print("device:", name, details)
        device.ask(b"21.5 degrees")
        async with hub.radio_device(device):
            await cloud.wait_for("sighting", timeout_s=60, device_id=device.device_id)
            await until(lambda: device.finished, 60)
            assert device.answers == [b"21.5 degrees"[::-1]]
            print("session over", device.bearer)
            await wait_for_status(lambda s: s["relay"]["served"] == 1
                                  and not s["relay"]["sessions"])


def doctor_steps(text):
    """{name: "ok" or "FAIL" or "-"}"""
    return {m[2]: m[1] for m in re.finditer(r"(?m)^\d+ +(ok|FAIL|-) +(\S+)", text)}


async def test_its_group_may_look_and_nobody_else(hub):
    run("useradd", "member")
    run("useradd", "stranger")
    run("usermod", "-aG", "blecon-hotspot", "member")
    try:
        async with hub.cloud(), hub.advertising(ADVERT):
            await wait_for_status(lambda s: s["working"])
            for user in ("root", "member"):
                assert (await ctl("status", user=user)).stdout.startswith("Working")
                doctor = await ctl("doctor", user=user, check=False)
                print(f"doctor of {user}:\n{doctor.stdout}")
                steps = doctor_steps(doctor.stdout)
                assert set(steps.values()) == {"ok"} and len(steps) == 15
                assert ("which alone may read it" in doctor.stdout) == (user == "member")
            refused = await ctl("status", user="stranger", check=False)
            print(refused.stdout)
            assert refused.returncode != 0 and REFUSED in refused.stdout
            for path in (CONFIG, STATE / "hotspot.key", RUNTIME / "status.sock"):
                for access in "rw":
                    assert run("runuser", "-u", "stranger", "--", "test", f"-{access}", path,
                               check=False).returncode == 1, (path, access)
            for access in "rw":
                assert run("runuser", "-u", "member", "--", "test", f"-{access}",
                           STATE / "hotspot.key", check=False).returncode == 1
    finally:
        run("userdel", "member")
        run("userdel", "stranger")


async def test_the_doctor_finds_why_it_is_not_running(hub):
    """It then starts a daemon of its own, as the service's user."""
    run("systemctl", "stop", UNIT)
    try:
        async with hub.cloud(), hub.advertising(ADVERT):
            doctor = await ctl("doctor", check=False)
            print(f"doctor without the service:\n{doctor.stdout}")
            steps = doctor_steps(doctor.stdout)
            assert steps.pop("daemon") == "FAIL"
            assert set(steps.values()) == {"ok"} and len(steps) == 14
    finally:
        run("systemctl", "start", UNIT)


async def test_a_hang_ends_in_a_restart(hub):
    async with hub.cloud():
        await wait_for_status(working)
        pid = unit("MainPID")
        os.kill(int(pid), signal.SIGSTOP)
        await hub.restarted(pid, 200)
        assert "watchdog" in journal().lower()


async def test_a_kill_ends_in_a_restart(hub):
    async with hub.cloud():
        await wait_for_status(working)
        pid = unit("MainPID")
        os.kill(int(pid), signal.SIGKILL)
        await hub.restarted(pid, 60)


def of_higher_version(directory: Path) -> Path:
    """The same package, as an upgrade."""
    made = directory / "unpacked"
    run("dpkg-deb", "-R", PACKAGE, made)
    control = made / "DEBIAN/control"
    text, n = re.subn(r"(?m)^(Version: .*)$", r"\1+1", control.read_text())
    assert n == 1
    control.write_text(text)
    run("dpkg-deb", "-b", made, directory / "newer.deb")
    return directory / "newer.deb"


def version():
    return run("dpkg-query", "-W", "-f", "${Version}", "blecon-hotspot").stdout


async def test_an_upgrade_keeps_key_configuration_and_sightings(hub):
    """With the cloud down, so that what was heard has to wait for it."""
    newer = of_higher_version(hub.directory)
    identity = (await ctl("identity")).stdout
    key = (STATE / "hotspot.key").read_bytes()
    config = CONFIG.read_text()
    old, pid = version(), unit("MainPID")
    async with hub.cloud() as cloud:
        await wait_for_status(lambda s: working(s) and not s["sightings"]["pending"]
                              and "unacknowledged_s" not in s["sightings"])
        told = cloud.totals().get(SENSOR, 0)
    before = (await status())["sightings"]["adverts"]
    async with hub.advertising(ADVERT):
        await wait_for_status(lambda s: s["sightings"]["adverts"] >= before + 5)
    heard = (await status())["sightings"]["adverts"] - before
    assert (await status())["sightings"]["pending"] == 1

    apt("install", newer)
    assert version() == f"{old}+1"
    assert unit("ActiveState") == "active" and unit("MainPID") != pid, journal()
    await wait_for_status(lambda s: s["sightings"]["pending"] == 1)
    assert (await ctl("identity")).stdout == identity
    assert (STATE / "hotspot.key").read_bytes() == key
    assert CONFIG.read_text() == config
    async with hub.cloud() as cloud:
        await until(lambda: cloud.totals().get(SENSOR, 0) == told + heard, 60)
        print(f"{heard} adverts reported after the upgrade")


async def test_it_starts_at_boot_after_bluetoothd(hub):
    assert "bluetooth.service" in unit("After")
    assert UNIT in run("systemctl", "list-dependencies", "--plain", "multi-user.target").stdout


def test_nothing_was_denied(hub):
    """A system call that is not allowed has ended the daemon with SIGSYS: see hub.STRICT."""
    assert unit("SystemCallErrorNumber") in ("", "kill", "2147483646")
    log = run("journalctl", "-b").stdout
    assert "status=31/SYS" not in log
    assert not re.search(r"audit: type=1326|SECCOMP auid", log)
    assert "Operation not permitted" not in run("journalctl", "-b", "-u", UNIT).stdout
    exposed = run("systemd-analyze", "security", "--no-pager", UNIT).stdout.splitlines()
    print("\n".join(line for line in exposed if line.startswith(("✗", "→"))))


def test_removed_it_is_stopped_and_the_rest_is_kept(hub):
    pid = int(unit("MainPID"))
    apt("remove", "blecon-hotspot")
    assert not Path(f"/proc/{pid}").exists()
    assert unit("ActiveState") != "active"
    assert shutil.which("blecon-hotspotctl") is None
    assert CONFIG.exists() and (STATE / "hotspot.key").exists()


def test_purged_nothing_is_left(hub):
    apt("purge", "blecon-hotspot")
    assert not RUNTIME.exists()
    apt("autoremove", "--purge")
    hub.trusted.unlink()
    assert tree() - hub.tree == set()
    assert accounts() - hub.accounts == set()
    assert UNIT not in subprocess.run(["systemctl", "list-unit-files"], stdout=subprocess.PIPE,
                                      text=True).stdout
