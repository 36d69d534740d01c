# SPDX-License-Identifier: Apache-2.0
"""blecon-hotspotctl doctor names the first thing that is wrong, with a daemon and without one."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

import tls
from bluez_sim import Beacon
from device import EchoDevice
from doctor import CHECKS, diagnose, finish, start_doctor
from harness import CTL, DAEMON, PROGRAMS, Agent, run, running_lab, until, without_proxy

NEVER = {"uplink": {"report_interval_s": 3600}, "relay": {"max_links": 0}}


def beacon_in(lab):
    """Something to hear, all the time."""
    beacon = Beacon()
    lab.sim.add_device(beacon, interval_s=0.1)
    return beacon


def contents(directory):
    """All of a directory that a write would change."""
    def entry(path):
        info = path.stat()
        return (info.st_ino, info.st_mode, info.st_mtime_ns, info.st_ctime_ns,
                path.read_bytes() if path.is_file() else None)
    return {path: entry(path) for path in (directory, *directory.rglob("*"))}


def processes_with(text):
    """Those whose command line has it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
    return found


def probes_of(agent):
    return [pid for pid in processes_with("--probe")
            if pid in processes_with(str(agent.config)) and pid in processes_with("hotspotd")]


@contextlib.asynccontextmanager
async def stopped_lab(directory, options=None, **arguments):
    """A lab whose agent has run, so that it has its key, and does not any more."""
    async with running_lab(directory, options, **arguments) as lab:
        assert await lab.agent.stop() == 0
        yield lab


async def test_healthy(directory):
    """All checks pass, and the daemon that runs is not disturbed."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon_in(lab)
        await lab.cloud.wait_for("batch")
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.code == 0
        assert diagnosis.ok() == CHECKS
        assert diagnosis.checks["key"].found == \
            f"hotspot {(await lab.agent.status())['hotspot_id']}"
        assert diagnosis.checks["adapter"].found == "hci0 00:AA:01:00:00:00"
        assert diagnosis.checks["name"].found.startswith(f"127.0.0.1:{lab.cloud.port}")
        assert len(lab.cloud.find("hello")) == len(lab.cloud.find("connected")) == 1
        assert len(lab.sim.called("StartDiscovery")) == 1


async def test_daemon_is_down(directory):
    """All is tried as the daemon would; nothing is written, connected or left behind."""
    async with running_lab(directory, NEVER) as lab:
        await lab.working()
        await lab.cloud.stop()
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
        beacon = beacon_in(lab)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["pending"] == 1)
        assert await lab.agent.stop() == 0
        await lab.cloud.start()
        assert (directory / "state/sightings.cbor").exists()
        before = contents(directory / "state")
        lab.agent.options["relay"] = {"max_links": 8}
        lab.agent.write_config()
        asking = EchoDevice()
        asking.ask(b"hello")
        lab.sim.add_device(asking)
        lab.sim.set_interval(beacon, None)      # as long as nothing is heard, it goes on
        runtime = directory / "run"
        runtime.mkdir()

        process = await start_doctor(lab.agent, XDG_RUNTIME_DIR=str(runtime))
        await until(lambda: [*runtime.iterdir()], what="the probe's directory")
        await until(lambda: probes_of(lab.agent), what="the probe")
        lab.sim.set_interval(asking, 0.1)
        lab.sim.set_interval(beacon, 0.1)
        code, out = await finish(process)
        assert code == 24, out
        assert out.splitlines()[0].startswith(
            "Not working: blecon-hotspotd is not running, though it could. Next: start it: "
            "blecon-hotspotd, or as a service: service blecon-hotspot start")
        assert sum(" ok " in line for line in out.splitlines()) == 14
        assert not probes_of(lab.agent)
        assert not [*runtime.iterdir()]
        assert contents(directory / "state") == before
        assert not lab.agent.socket.exists()
        assert not lab.sim.called("Connect")
        # It was heard and told, and what was kept is still to be told.
        await lab.cloud.wait_for("sighting", device_id=beacon.device_id)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_ended_by_a_signal(directory, by):
    """The probe does not outlive it, and but for SIGKILL nothing else is left."""
    async with stopped_lab(directory) as lab:
        runtime = directory / "run"
        runtime.mkdir()
        before = len(lab.sim.called("StartDiscovery"))
        process = await start_doctor(lab.agent, XDG_RUNTIME_DIR=str(runtime))
        await until(lambda: len(lab.sim.called("StartDiscovery")) > before,
                    what="the probe scans")
        process.send_signal(by)
        out, err = await asyncio.wait_for(process.communicate(), 15)
        assert (process.returncode, out, err) == (-by, b"", b"")
        await until(lambda: not probes_of(lab.agent), what="the end of the probe")
        if by != signal.SIGKILL:
            assert not [*runtime.iterdir()]


async def test_wrong_configuration(directory):
    """File, line and option; what the daemon that runs has read before is checked as well."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon_in(lab)
        lab.agent.config.write_text("\nlog_levle = 1;\n" + lab.agent.config.read_text())
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["configuration"]
        assert diagnosis.verdict.startswith(
            f"Working, but: {lab.agent.config}:2: log_levle: unknown option")
        assert "the daemon runs with what it read before" in diagnosis.verdict
        assert diagnosis.ok() == CHECKS[2:]
        lab.agent.process.send_signal(signal.SIGHUP)
        await lab.agent.wait_for_status(lambda s: s["configuration"]["state"] == "refused")
        lab.agent.write_config()
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["configuration"]
        assert "the daemon has refused a change of " in diagnosis.verdict
        assert await lab.agent.stop() == 0
        lab.agent.config.write_text("log_levle = 1;\n")
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["configuration", "daemon"]
        assert diagnosis.ok() == ["clock"]
        lab.agent.config.unlink()
        diagnosis = await diagnose(lab.agent)
        assert (diagnosis.code, diagnosis.verdict) == (
            10, f"Not working: {lab.agent.config}: No such file or directory. Next: put it "
            "there, or say where it is: --config FILE")


def give_away(key):
    os.chown(key, 65534, -1)


KEYS = {
    "mode": (lambda key: key.chmod(0o644), "can be read or written by others (owner root, mode "
             "0644)", "chmod 600 "),
    "owner": (give_away, "belongs to nobody, its directory to root", "chown root "),
    "missing": (Path.unlink, "no key yet: ", "start blecon-hotspotd, which makes it"),
    "damaged": (lambda key: key.write_text("nonsense"), "not a P-256 private key in PEM", ""),
    "no directory": (lambda key: key.parent.rename(key.parent.with_name("gone")), "no key yet: ",
                     "start blecon-hotspotd"),
    "not writable": (lambda key: key.parent.chmod(0o500), "its owner cannot write there (mode "
                     "0500)", "chmod 700 "),
}


@pytest.mark.parametrize("name", KEYS)
async def test_key(directory, name):
    """Named with its file. No probe is started with a bad one, and nothing made."""
    spoil, found, advice = KEYS[name]
    async with stopped_lab(directory) as lab:
        beacon_in(lab)
        spoil(lab.agent.key)
        before = contents(directory / "state") if (directory / "state").exists() else None
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["key", "daemon"]
        assert str(directory / "state") in diagnosis.checks["key"].found
        assert found in diagnosis.checks["key"].found
        assert advice in diagnosis.checks["key"].advice
        if found == "no key yet: ":     # one for the time being does, as far as the cloud
            assert diagnosis.ok() == ["configuration", *CHECKS[2:12]]
            assert diagnosis.checks["hello"].result == "-"
        else:
            assert diagnosis.ok() == ["configuration", "clock"]
        assert before is None or contents(directory / "state") == before
        assert (directory / "state").exists() == (before is not None)


async def test_credentials(directory):
    """What the daemon would not start for is told in its own words."""
    async with stopped_lab(directory) as lab:
        lab.agent.options["auth"] = {"mode": "token", "token_file": f"{directory}/token"}
        lab.agent.write_config()
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["key", "daemon"]
        assert diagnosis.verdict.startswith("Not working: blecon-hotspotd cannot start: ")
        assert f"{directory}/token" in diagnosis.verdict


async def test_clock(directory):
    """One that was never set fails, unless the cloud's key is pinned."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon_in(lab)
        (directory / "clock").write_text(f"-{50 * 365 * 86400}")
        clock = {"BLECON_LAB_CLOCK": str(directory / "clock"), "LD_PRELOAD": ":".join((
            lab.agent.environment["LD_PRELOAD"], str((PROGRAMS / "clock_preload.so").resolve())))}
        diagnosis = await diagnose(lab.agent, **clock)
        assert diagnosis.failed() == ["clock"]
        assert "the clock was never set: it says 19" in diagnosis.verdict
        lab.agent.options["uplink"]["pins"] = [tls.pin_of(lab.pair)]
        lab.agent.write_config()
        diagnosis = await diagnose(lab.agent, **clock)
        assert diagnosis.code == 0
        assert "uplink.pins works without" in diagnosis.checks["clock"].found


async def test_radio(directory):
    """From no bluetoothd to no advert, each named; the cloud is checked all the same."""
    async with running_lab(directory, start_sim=False) as lab:
        async def fails(check, words):
            diagnosis = await diagnose(lab.agent)
            assert diagnosis.failed() == [check]
            assert words in diagnosis.verdict
            assert diagnosis.checks[check].advice
            assert set(CHECKS[8:]) < set(diagnosis.ok())
            return diagnosis.checks[check]
        await lab.up()
        assert "start the bluetooth service" in (
            await fails("bluetoothd", "bluetoothd is not running")).advice
        lab.sim.adapters.clear()
        await lab.sim.start()
        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["reason"] == "no adapter")
        await fails("adapter", "no adapter")
        lab.sim.add_adapter(0, "00:AA:01:00:00:00", rfkill=True)
        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "not-scanning")
        await fails("adapter", "hci0: switched off by rfkill")
        lab.sim.set_rfkill(0, False)
        await lab.scanning()
        assert "within some 10 m" in (await fails("adverts", "no Blecon device in 10 s")).advice
        lab.sim.add_noise(interval_s=0.1)
        beacon_in(lab)
        assert (await diagnose(lab.agent)).code == 0


async def test_no_bus(directory):
    """Without a daemon too: the probe says so."""
    async with stopped_lab(directory) as lab:
        lab.agent.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={directory}/nothing"
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["D-Bus", "daemon"]
        assert diagnosis.checks["daemon"].found == "blecon-hotspotd is not running"


async def fails_at(lab, check, words):
    """With a daemon, and the same with a probe."""
    beacon_in(lab)
    found = []
    for failed in ([check], [check, "daemon"]):
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == failed, diagnosis
        assert words in diagnosis.verdict
        assert diagnosis.checks[check].advice
        found.append(diagnosis.checks[check])
        if lab.agent.process.poll() is None:
            assert await lab.agent.stop() == 0
    return found


async def test_name_does_not_resolve(directory):
    async with running_lab(directory, {"uplink": {"url": "wss://no.such.invalid/"}}) as lab:
        await fails_at(lab, "name", "no.such.invalid")


async def test_nobody_listens(directory):
    async with running_lab(directory, start_cloud=False) as lab:
        await fails_at(lab, "TCP", "onnection refused")


@pytest.mark.parametrize("make, words", [
    (tls.make_expired_cert, "has expired"), (tls.make_wrong_host_cert, "is for another host")],
    ids=["expired", "other host"])
async def test_certificate(directory, make, words):
    async with running_lab(directory, pair=make) as lab:
        await fails_at(lab, "TLS", words)


@pytest.mark.parametrize("code", [4401, 4403])
async def test_hello(directory, code):
    async with running_lab(directory, start_agent=False) as lab:
        lab.cloud.refuse_hello = code
        await lab.agent.start()
        await fails_at(lab, "hello", str(code))


async def test_unconfigured(directory):
    async with running_lab(directory, {"uplink": {"url": ""}}) as lab:
        [with_daemon, _] = await fails_at(lab, "name", "uplink.url is not set")
        assert "Set uplink.url" in with_daemon.advice


@pytest.mark.long
async def test_no_acknowledgement(directory):
    """The probe waits until it is sure."""
    async with stopped_lab(directory) as lab:
        lab.cloud.ack_sightings = False
        beacon_in(lab)
        diagnosis = await diagnose(lab.agent)
        assert diagnosis.failed() == ["reports", "daemon"]
        assert "the cloud does not acknowledge reports" in diagnosis.verdict


async def test_daemon_hangs(directory):
    """It is named, and nothing is started beside it."""
    async with running_lab(directory) as lab:
        await lab.working()
        lab.agent.process.send_signal(signal.SIGSTOP)
        diagnosis = await diagnose(lab.agent)
        lab.agent.process.send_signal(signal.SIGCONT)
        assert diagnosis.failed() == ["daemon"]
        assert "blecon-hotspotd hangs: " in diagnosis.verdict
        assert diagnosis.ok() == CHECKS[:3]
        assert len(lab.cloud.find("connected")) == 1


async def test_probe_is_the_daemons_user(directory):
    """As root it becomes the owner of the state directory, wherever the program lies."""
    place = Path(tempfile.mkdtemp(prefix="blecon-test."))
    try:
        place.chmod(0o755)
        ctl = Path(shutil.copy(CTL, place))
        agent = Agent(place, "unix:path=/nonexistent", {})
        await agent.start()
        assert await agent.stop() == 0
        for path in (agent.key, agent.key.parent):
            os.chown(path, 65534, -1)
        process = await start_doctor(agent, ctl=ctl)
        [probe] = await until(lambda: probes_of(agent), what="the probe")
        await until(lambda: Path(f"/proc/{probe}").stat().st_uid == 65534, what="its user")
        groups = Path(f"/proc/{probe}/status").read_text().partition("Groups:")[2].splitlines()[0]
        assert "0" not in groups.split()
        code, out = await finish(process)
        assert code == 13, out      # it ran, and found no bus
        assert not probes_of(agent)
    finally:
        shutil.rmtree(place)


async def test_probe_alone(directory):
    """It takes no relative path, no /dev/null to wait for, makes no key but beside its socket, and
    ends with its input."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    options = ["--config", agent.write_config(), "--probe"]
    ended = await run(DAEMON, *options, "probe.sock")
    assert (ended.code, ended.out, ended.err) == \
        (2, "", "--probe: probe.sock: the path is not absolute\n")
    socket = directory / "probe.sock"
    ended = await run(DAEMON, *options, socket)
    assert ended.code == 1 and f"made a new key in {directory}/hotspot.key" in ended.err
    assert not (directory / "state").exists()
    await agent.start()
    assert await agent.stop() == 0
    ended = await run(DAEMON, *options, socket)     # its input is /dev/null
    assert ended.code == 1 and "standard input is nothing to wait for" in ended.err

    process = await asyncio.create_subprocess_exec(
        DAEMON, *options, socket, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**without_proxy(os.environ), **agent.environment})
    agent.socket = socket
    await until(agent.answers)
    process.stdin.write(b"not the end\n")
    await process.stdin.drain()
    assert (await agent.status())["relay"]["max_links"] == 0
    process.send_signal(signal.SIGHUP)      # which changes nothing
    await agent.status()    # it may still be of the turn that sees the signal
    assert (await agent.status())["relay"]["max_links"] == 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert b"standard input has ended" in await process.stderr.read()
    assert not socket.exists()
