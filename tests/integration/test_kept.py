# SPDX-License-Identifier: Apache-2.0
"""What was not reported survives a planned restart, counts once, and costs one write to flash."""

import stat
import time

import cbor2
import pytest

from bluez_sim import Beacon
from device import VirtualDevice
from harness import running_lab, until

LOST = 2
NEVER = {"uplink": {"report_interval_s": 3600}, "relay": {"max_links": 0}}
KEPT = "state/sightings.cbor"
RUN, BATCH, OUT, PENDING = 1, 2, 7, 8   # places in the file


async def heard(lab, adverts):
    """Wait until the agent that runs has heard so many."""
    return await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] == adverts,
                                           what=f"{adverts} adverts heard")


async def advertise(lab, beacons, count=1):
    for beacon in beacons:
        await lab.sim.advertise(beacon, count=count)


async def each_counted_once(lab):
    """Wait until the agent has nothing left to tell: the cloud has each advert once."""
    await lab.agent.wait_for_status(
        lambda s: s["uplink"]["state"] == "up" and s["sightings"]["pending"] == 0
        and "unacknowledged_s" not in s["sightings"], what="nothing pending")
    assert lab.cloud.totals() == dict(lab.sim.delivered)


def beacons_of(lab, number):
    beacons = [Beacon() for _ in range(number)]
    for beacon in beacons:
        lab.sim.add_device(beacon)
    return beacons


async def test_stop_without_a_cloud(directory):
    """300 devices that nobody was told of: all of them are told after the restart, once."""
    async with running_lab(directory, NEVER, start_cloud=False) as lab:
        await lab.scanning()
        beacons = beacons_of(lab, 300)
        for number, beacon in enumerate(beacons):
            await lab.sim.advertise(beacon, count=1 + number % 3)
        await heard(lab, 600)
        began = time.monotonic()
        assert await lab.agent.stop() == 0
        kept = directory / KEPT
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        run = cbor2.loads(kept.read_bytes())[RUN]
        await lab.agent.start()
        status = await lab.scanning()
        assert not kept.exists()
        assert status["sightings"]["kept"] == status["sightings"]["pending"] == 300
        assert (status["sightings"]["present"], status["sightings"]["adverts"]) == (0, 0)
        # Some of them go on, and one is new.
        await advertise(lab, beacons[:50] + beacons_of(lab, 1), 2)
        status = await heard(lab, 102)
        assert status["sightings"]["merged"] == 101
        least_ms = (time.monotonic() - began) * 1000
        await lab.cloud.start()
        assert (await lab.cloud.wait_for("hello", timeout_s=20))["run"] == run
        await each_counted_once(lab)
        assert [b["sightings"] for b in lab.cloud.find("batch")] == [100, 100, 100, 1]
        assert [b["batch"] for b in lab.cloud.find("batch")] == [1, 2, 3, 4]
        # The time between counts.
        assert all(s["first_age_ms"] >= least_ms for s in lab.cloud.find("sighting")[:-1])
        assert await lab.agent.stop() == 0
        assert not kept.exists()


@pytest.mark.parametrize("acknowledgement", ["withheld", "lost with the connection"])
async def test_stop_before_an_acknowledgement(directory, acknowledgement):
    """The batch that the cloud has, but did not acknowledge, is sent again as the same."""
    async with running_lab(directory, NEVER) as lab:
        await lab.working()
        beacons = beacons_of(lab, 5)
        if acknowledgement == "withheld":
            lab.cloud.ack_sightings = False
        else:
            lab.cloud.drop_before_ack = True
            lab.cloud.refuse_hello = 4403   # so it is not sent again before the stop
        await advertise(lab, beacons, 2)
        first = await lab.cloud.wait_for("batch")
        await advertise(lab, beacons[:2], 3)
        status = await heard(lab, 16)
        assert status["sightings"]["unacknowledged_s"] >= 0
        assert await lab.agent.stop() == 0
        kept = cbor2.loads((directory / KEPT).read_bytes())
        assert kept[BATCH] == first["batch"] and len(kept[OUT]) == first["sightings"]
        lab.cloud.ack_sightings, lab.cloud.refuse_hello = True, None
        await lab.agent.start()
        await each_counted_once(lab)
        assert {e["run"] for e in lab.cloud.find("hello")} == {kept[RUN]} == {first["run"]}
        again = await lab.cloud.wait_for("batch", batch=first["batch"], count=2)
        assert again["duplicate"] and again["sightings"] == first["sightings"]
        sightings = (await lab.agent.status())["sightings"]
        assert (sightings["resent"], sightings["resent_sightings"]) == (1, again["sightings"])


async def test_stop_before_the_batch_arrives(directory):
    """The connection takes the batch, and nobody reads it: it is new to the cloud later."""
    async with running_lab(directory, NEVER) as lab:
        await lab.working()
        [hotspot] = lab.cloud.hotspots.values()
        hotspot.stall()
        await advertise(lab, beacons_of(lab, 3))
        await lab.agent.wait_for_status(lambda s: "unacknowledged_s" in s["sightings"])
        assert await lab.agent.stop() == 0
        hotspot.abort()
        await lab.agent.start()
        await each_counted_once(lab)


async def test_two_restarts_without_a_cloud(directory):
    """What the first restart took over, the second does again, with what came between."""
    async with running_lab(directory, NEVER, start_cloud=False) as lab:
        await lab.scanning()
        beacons = beacons_of(lab, 20)
        await advertise(lab, beacons[:15], 2)
        await heard(lab, 30)
        runs = []
        for restart in range(2):
            assert await lab.agent.stop() == 0
            kept = cbor2.loads((directory / KEPT).read_bytes())
            assert len(kept[PENDING]) == (15, 20)[restart] and kept[OUT] == []
            runs.append(kept[RUN])
            await lab.agent.start()
            await lab.scanning()
            await advertise(lab, beacons[10:])
            await heard(lab, 10)
        await lab.cloud.start()
        await each_counted_once(lab)
        runs.append(lab.cloud.find("hello")[0]["run"])
        assert len(set(runs)) == 1


async def test_sessions_go_on_counting(directory):
    """A session after such a restart has a number that this run has not had."""
    async with running_lab(directory, {"uplink": {"report_interval_s": 3600}}) as lab:
        await lab.working()

        async def served(times):
            device = VirtualDevice(lab.cloud.device_public_key)
            device.ask(b"hello")
            lab.sim.add_device(device, interval_s=0.1)
            await lab.cloud.wait_for("answer", device_id=device.device_id)
            await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == times)
            lab.sim.set_interval(device, None)
        await served(1)
        await served(2)
        await lab.cloud.stop()
        await advertise(lab, beacons_of(lab, 1))
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up"
                                        and s["sightings"]["pending"] > 0)
        assert await lab.agent.stop() == 0
        await lab.cloud.start()
        await lab.agent.start()
        await lab.working()
        await served(1)
        assert [e["session"] for e in lab.cloud.find("open")] == [1, 2, 3]
        assert len({e["run"] for e in lab.cloud.find("hello")}) == 1


def entries(directory):
    """All that a write would change, of what is in the folder; the journal has its own tests."""
    def entry(path):
        info = path.stat()
        return info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size
    state = directory / "state"
    return {path: entry(path) for path in state.iterdir() if path.name != "journal.cbor"}


async def test_flash_is_left_alone(directory):
    """Connections that break, batches sent again, a stop with nothing left: nothing is written."""
    async with running_lab(directory, {"relay": {"max_links": 0}}) as lab:
        await lab.working()
        before = entries(directory)
        assert list(before) == [lab.agent.key]
        beacons = beacons_of(lab, 10)
        for connection in range(2, 5):
            lab.cloud.drop_before_ack = True
            await advertise(lab, beacons)
            await lab.cloud.wait_for("hello", count=connection, timeout_s=10)
        await lab.cloud.kill()
        await advertise(lab, beacons)
        await lab.cloud.start()
        await lab.all_told()
        assert await lab.agent.stop() == 0
        assert entries(directory) == before
        await lab.agent.start()
        await lab.working()
        assert entries(directory) == before
        assert len({e["run"] for e in lab.cloud.find("hello")}) == 2


DAMAGED = {
    "empty": b"", "a zero": b"\x00", "no CBOR": bytes(range(0x80, 0xe0)),
    "another version": cbor2.dumps([2, b"to come"]),
    "a short sighting": cbor2.dumps([1, bytes(8), 1, 1, bytes(16), 0, 0, [], [[bytes(20)]]])}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
async def test_damaged_file(directory, content):
    """Said in the log, removed, and all else works."""
    async with running_lab(directory, NEVER, start_agent=False) as lab:
        kept = directory / KEPT
        kept.parent.mkdir(mode=0o700)
        kept.write_bytes(content)
        await lab.agent.start()
        line = await lab.agent.wait_for_log(str(kept))
        assert " error " in line and "the sightings in it are lost" in line
        assert not kept.exists()
        await lab.working()
        await advertise(lab, beacons_of(lab, 2))
        await lab.all_told()


async def test_no_room_to_write(directory):
    """A state directory that has gone: the stop says so, and is in good order."""
    async with running_lab(directory, NEVER, start_cloud=False) as lab:
        await lab.scanning()
        await advertise(lab, beacons_of(lab, 2))
        await heard(lab, 2)
        (directory / "state").rename(directory / "gone")
        assert await lab.agent.stop() == 0
        assert "sightings of 2 devices are lost" in lab.agent.log
