# SPDX-License-Identifier: Apache-2.0
"""What happened, told later: over restarts, crashes and reboots, and at few writes to flash."""

import os
import signal
import stat
import time

import cbor2
import pytest

from bluez_sim import Beacon
from device import VirtualDevice
from harness import render, running_lab, show, until
from test_tls import unset_clock

MEMORY, FLASH = "journal.cbor", "state/journal.cbor"
START_S = 10            # after a start, flash is written
STOPPED = "stopped in good order"
CRASHED = "crashed, was killed or hung"
REBOOTED = "the hub was restarted or lost power"
SEQUENCE, WRITTEN = 1, 4    # places in a file
NO_LINKS = {"relay": {"max_links": 0}}


async def journal(lab, *events):
    """The entries of these events, or all."""
    entries = (await lab.agent.ask("journal"))["journal"]
    return [e for e in entries if not events or e["event"] in events]


async def texts(lab, *events):
    return [e["text"] for e in await journal(lab, *events)]


async def entry_of(lab, event, text):
    """The newest entry of this event that has this in its text, once there is one."""
    async def look():
        return [e for e in await journal(lab, event) if text in e["text"]]
    return (await until(look, 20, f"{text!r} in the journal"))[-1]


async def starts(lab):
    process = (await lab.agent.status())["process"]
    return process["starts"], process.get("last_end")


def kill(lab):
    lab.agent.process.kill()
    lab.agent.process.wait()


def letters(number):
    return "".join(chr(ord("a") + number // 26 ** place % 26) for place in (2, 1, 0))


def refuse(lab, number):
    """A reload that is refused, for a reason of its own: numbers alone would make no difference."""
    lab.agent.config.write_text(render(lab.agent.options)
                                + f'\nlog_level = "{letters(number)}";\n')
    os.kill(lab.agent.process.pid, signal.SIGHUP)


async def in_memory(lab, count):
    """Wait until the copy in memory has so many entries."""
    path = lab.directory / MEMORY
    await until(lambda: path.exists() and len(cbor2.loads(path.read_bytes())[-1]) == count)


async def test_planned_restart(directory):
    """Each start and stop is told, with how it ended before; and how often it started."""
    async with running_lab(directory, NO_LINKS) as lab:
        assert await starts(lab) == (1, None)
        [first] = await journal(lab)
        assert (first["event"], first["level"], first["count"]) == ("start", "info", 1)
        assert first["text"].startswith("started, version ") and "; before: " not in first["text"]
        assert 0 <= first["age_s"] < 60 and "first_age_s" not in first
        now = time.strftime("%Y-%m-%dT%H:", time.gmtime())
        assert first["time"].startswith(now[:10]) and first["time"][19::4] == ".Z"
        assert await lab.agent.stop() == 0
        kept = directory / FLASH
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert cbor2.loads(kept.read_bytes())[SEQUENCE] == \
            cbor2.loads((directory / MEMORY).read_bytes())[SEQUENCE]
        await lab.agent.start()
        assert await starts(lab) == (2, STOPPED)
        assert [(e["event"], e["text"].partition("; before: ")[2]) for e in
                await journal(lab, "start", "stop")] == \
            [("start", ""), ("stop", ""), ("start", STOPPED)]
        assert (await journal(lab))[0]["age_s"] >= first["age_s"]
        assert await texts(lab, "stop") == ["SIGTERM: stopping"]


async def test_crash(directory):
    """What happened before a SIGKILL is still known, from the copy in memory."""
    async with running_lab(directory, NO_LINKS) as lab:
        await lab.working()
        await lab.cloud.kill()
        lost = await entry_of(lab, "uplink", "connection lost")
        await until(lambda: b"uplink: " in (directory / MEMORY).read_bytes())
        assert stat.S_IMODE((directory / MEMORY).stat().st_mode) == 0o600
        kill(lab)
        (directory / FLASH).unlink(missing_ok=True)
        await lab.agent.start()
        assert await starts(lab) == (2, CRASHED)
        entries = await journal(lab)
        assert entries[1]["text"] == lost["text"] and entries[1]["age_s"] >= lost["age_s"]
        assert (await texts(lab, "start"))[-1].endswith(f"; before: {CRASHED}")
        assert f"; before: {CRASHED}" in lab.agent.log


@pytest.mark.long
async def test_reboot(directory):
    """Without power the copy in memory is gone, and the one in flash tells of another boot."""
    async with running_lab(directory, NO_LINKS) as lab:
        await lab.working()
        await lab.cloud.kill()
        lost = await entry_of(lab, "uplink", "connection lost")
        kept = directory / FLASH
        await until(kept.exists, 2 * START_S)
        kill(lab)
        (directory / MEMORY).unlink()
        fields = cbor2.loads(kept.read_bytes())
        for clock in (fields[WRITTEN], *(c for entry in fields[-1] for c in entry[3:5])):
            clock[0] = bytes(16 * [7])
        kept.write_bytes(cbor2.dumps(fields))
        await lab.agent.start()
        assert await starts(lab) == (2, REBOOTED)
        before = await journal(lab, "uplink")
        assert before[0]["text"] == lost["text"]
        assert (await texts(lab, "start"))[-1].endswith(f"; before: {REBOOTED}")
        # By the wall clock now, as the other one began anew.
        assert lost["age_s"] <= before[0]["age_s"] < 300


async def test_causes(directory):
    """What goes wrong is told with its cause, and what only happens is not."""
    options = {"bluetooth": {"silence_s": 2}}
    async with running_lab(directory, options, start_sim=False) as lab:
        lab.sim.add_adapter(1, "00:AA:01:00:00:01")
        await lab.sim.start()
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon, adapter=(0, 1), interval_s=0.1)
        device = VirtualDevice(lab.cloud.device_public_key)
        device.ask(b"please")
        peer = lab.sim.add_device(device, interval_s=0.1)
        peer.connect_error = "org.bluez.Error.Failed", "no such luck"
        failed = await entry_of(lab, "session", "no such luck")
        assert failed["level"] == "warning" and str(device.device_id) in failed["text"]
        peer.connect_error = None
        await until(lambda: device.finished, 10)
        lab.sim.deafen(1, until="restart")
        step = await entry_of(lab, "supervisor", "discovery was restarted")
        assert step["level"] == "info" and step["text"].startswith("hci1 (00:AA:01:00:00:01): ")
        await entry_of(lab, "supervisor", "adverts again")
        lab.sim.remove_adapter(1)
        await entry_of(lab, "adapter", "hci1 (00:AA:01:00:00:01): removed")
        await lab.cloud.kill()
        lost = await entry_of(lab, "uplink", "connection lost")
        assert lost["level"] == "warning"
        await lab.cloud.start()
        await lab.up()
        await lab.sim.stop()
        gone = await entry_of(lab, "bluetooth", "bluetoothd: is not running")
        assert gone["level"] == "warning"
        await lab.sim.start()
        await lab.working()
        refuse(lab, 1)
        assert "log_level" in (await entry_of(lab, "configuration", "reload: refused"))["text"]
        # Devices heard, sessions served, connections made.
        assert await texts(lab, "device") == []
        assert all("served" not in t for t in await texts(lab, "session"))
        assert all(e["level"] != "info" or e["event"] in ("start", "stop", "supervisor")
                   for e in await journal(lab))


async def test_the_same_again_counts_up(directory):
    """A cloud that is away is one entry, whatever comes between that is not worth one."""
    async with running_lab(directory, NO_LINKS, start_cloud=False) as lab:
        async def counted():
            [entry] = [e for e in await journal(lab, "uplink")]
            return entry if entry["count"] >= 4 else None
        await entry_of(lab, "uplink", "onnection refused")
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.scanning()
        await lab.sim.advertise(beacon)
        entry = await until(counted, 30)
        assert entry["first_age_s"] > entry["age_s"]
        # So it is after a crash, too.
        await until(lambda: cbor2.loads((directory / MEMORY).read_bytes())[-1][-1][2] >= 4)
        kill(lab)
        await lab.agent.start()
        assert (await journal(lab, "uplink"))[0]["count"] >= 4


async def test_at_most_fifty(directory):
    """The oldest go; over a restart as well."""
    async with running_lab(directory, NO_LINKS) as lab:
        for number in range(60):
            refuse(lab, number)
            await entry_of(lab, "configuration", f'not "{letters(number)}"')
        entries = await journal(lab)
        assert len(entries) == 50
        assert f'"{letters(59)}"' in entries[-1]["text"]
        assert f'"{letters(10)}"' in entries[0]["text"]
        await in_memory(lab, 50)
        lab.agent.write_config()
        assert await lab.agent.stop() == 0
        await lab.agent.start()
        entries = await journal(lab)
        assert len(entries) == 50
        assert [e["event"] for e in entries[-2:]] == ["stop", "start"]


@pytest.mark.long
async def test_few_writes_to_flash(directory):
    """A hundred things that happen, and a stop: two writes to flash, and few to memory."""
    async with running_lab(directory, NO_LINKS) as lab:
        writes = {MEMORY: set(), FLASH: set()}

        def look():
            for name, seen in writes.items():
                path = directory / name
                if path.exists():
                    seen.add((path.stat().st_ino, path.stat().st_mtime_ns))
            return writes[FLASH]
        began = time.monotonic()
        number = 0
        while number < 100 or time.monotonic() < began + START_S + 5:
            refuse(lab, number)
            await lab.agent.wait_for_log(f'not "{letters(number)}"')
            number += 1
            await until(lambda: look() and time.monotonic() > began + START_S
                        or time.monotonic() > began + number * 0.15)
        took = time.monotonic() - began
        assert len(writes[FLASH]) == 1
        assert len(writes[MEMORY]) <= took + 2
        lab.agent.write_config()
        assert await lab.agent.stop() == 0
        look()
        assert len(writes[FLASH]) == 2
        size = (directory / FLASH).stat().st_size
        show(f"the journal's {number} events in {took:.0f} s, and a stop: {len(writes[FLASH])} writes "
             f"to flash, of {size} bytes at most, {len(writes[MEMORY])} to memory")


async def test_damaged_copies(directory):
    """Told in the log, nothing taken from them, and good ones in their place."""
    async with running_lab(directory, NO_LINKS, start_agent=False) as lab:
        (directory / "state").mkdir(mode=0o700)
        target = directory / "target"
        target.write_bytes(cbor2.dumps([1, 5, 5, 1, [bytes(16), 0, 0], []]))
        (directory / MEMORY).symlink_to(target)
        (directory / FLASH).write_bytes(b"\x86\x01")
        before = target.read_bytes()
        await lab.agent.start()
        for name, reason in ((MEMORY, "it is no regular file of this user"),
                             (FLASH, "it is damaged")):
            line = await lab.agent.wait_for_log(f"{directory / name}: {reason}")
            assert " warning " in line
        assert await starts(lab) == (1, None)
        assert await lab.agent.stop() == 0
        assert target.read_bytes() == before and not (directory / MEMORY).is_symlink()
        await lab.agent.start()
        assert await starts(lab) == (2, STOPPED)


async def test_no_state_directory(directory):
    """One that has gone is told of once, all else works, and the copy in memory is used."""
    async with running_lab(directory, NO_LINKS) as lab:
        await lab.working()
        (directory / "state").rename(directory / "gone")
        assert await lab.agent.stop() == 0
        assert lab.agent.log.count(f"{directory / FLASH}: cannot be written") == 1
        (directory / "gone").rename(directory / "state")
        await lab.agent.start()
        assert await starts(lab) == (2, STOPPED)


async def test_clock_of_1970(directory):
    """No time is told that would be wrong; ages are right, also when the clock is set later."""
    async with running_lab(directory, NO_LINKS, start_agent=False) as lab:
        clock = unset_clock(lab)
        began = time.monotonic()
        await lab.agent.start()
        [first] = await journal(lab, "start")
        assert "time" not in first
        clock.write_text("0")
        refuse(lab, 1)
        later = await entry_of(lab, "configuration", "refused")
        assert later["time"].startswith("20")
        [first] = await journal(lab, "start")
        assert "time" not in first and first["age_s"] <= time.monotonic() - began
        lab.agent.write_config()
