# SPDX-License-Identifier: Apache-2.0
"""What is heard reaches the cloud: at once where it is news, exactly once in any case."""

import pytest

from bluez_sim import FD0D, Advert, Beacon
from device import EchoDevice
from harness import messages, running_lab

APPEARED, PRESENT, LOST = 0, 1, 2
NEVER = {"uplink": {"report_interval_s": 3600}, "relay": {"max_links": 0}}
ALIEN = "0000180f-0000-1000-8000-00805f9b34fb"


async def test_states(directory):
    """A device appears, is present, is lost, and appears again."""
    async with running_lab(directory, {"devices": {"lost_after_s": 2}}) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon, rssi=-70)

        async def sighting(state, number=1):
            return await lab.cloud.wait_for("sighting", device_id=beacon.device_id, state=state,
                                            count=number)
        await lab.sim.advertise(beacon)
        told = await sighting(APPEARED)
        assert lab.cloud.devices[beacon.device_id].count == 1
        assert told["service_data"] == beacon.service_data and told["adapter"] == 0
        assert told["first_age_ms"] == told["last_age_ms"] < 1000
        await lab.sim.advertise(beacon, count=3)
        await sighting(PRESENT)
        told = await sighting(LOST)
        assert told["last_age_ms"] >= 1900 and told["rssi_last"] == -70
        await lab.agent.wait_for_status(lambda s: s["sightings"]["present"] == 0)
        [device] = (await lab.agent.devices()).values()
        assert device["state"] == "lost"
        await lab.sim.advertise(beacon)
        await sighting(APPEARED, 2)
        await lab.all_told()


async def test_news_goes_at_once(directory):
    """New devices and changed flags do not wait for the interval; what stays the same does."""
    async with running_lab(directory, NEVER) as lab:
        await lab.working()
        device = EchoDevice()
        lab.sim.add_device(device, rssi=-60)
        await lab.sim.advertise(device)
        first = await lab.cloud.wait_for("sighting", timeout_s=2)
        assert (first["state"], first["service_data"][0]) == (APPEARED, 0x3A)
        await lab.sim.advertise(device, count=4)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] == 5)
        device.announces = True
        await lab.sim.advertise(device)
        second = await lab.cloud.wait_for("sighting", count=2, timeout_s=2)
        assert (second["state"], second["service_data"][0]) == (PRESENT, 0x3E)
        device.announces, device.asks = False, True
        await lab.sim.advertise(device)
        third = await lab.cloud.wait_for("sighting", count=3, timeout_s=2)
        assert third["service_data"][0] == 0x3B
        counts = [s["count"] for s in lab.cloud.find("sighting")]
        assert sum(counts) == 7 and len(counts) == 3


async def test_merged_while_offline(directory):
    """Offline from the start: one entry for each device grows no more, and no advert is lost."""
    async with running_lab(directory, NEVER, start_cloud=False) as lab:
        await lab.scanning()
        beacons = [Beacon() for _ in range(3)]
        for beacon in beacons:
            lab.sim.add_device(beacon)
        for rssi in (-80, -60, -70):
            await lab.sim.advertise(beacons[0], rssi=rssi)
        await lab.sim.advertise(beacons[1], rssi=-99)
        await lab.sim.advertise(beacons[2], count=2000)
        status = await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] == 2004)
        assert status["sightings"]["pending"] == 3
        await lab.cloud.start()
        await lab.all_told()
        assert [b["sightings"] for b in lab.cloud.find("batch")] == [3]
        told = {s["device_id"]: s for s in lab.cloud.find("sighting")}
        values = [[told[b.device_id][f"rssi_{n}"] for n in ("last", "min", "max")]
                  for b in beacons]
        assert values == [[-70, -80, -60], [-99, -99, -99], [-60, -60, -60]]
        assert {s["state"] for s in told.values()} == {APPEARED}
        assert all(s["first_age_ms"] >= s["last_age_ms"] for s in told.values())


async def test_lost_while_offline(directory):
    """A device that came and went while offline is told as lost, with its adverts."""
    async with running_lab(directory, {"devices": {"lost_after_s": 1}}, start_cloud=False) as lab:
        await lab.scanning()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=7)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["present"] == 0
                                        and s["sightings"]["devices"] == 1)
        await lab.cloud.start()
        told = await lab.cloud.wait_for("sighting")
        assert (told["state"], told["count"]) == (LOST, 7)
        await lab.all_told()


async def test_many_devices(directory):
    """300 devices: batches of at most 100, each advert counted once, memory bounded."""
    async with running_lab(directory, NEVER, start_cloud=False) as lab:
        await lab.scanning()
        beacons = [Beacon() for _ in range(300)]
        for number, beacon in enumerate(beacons):
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon, count=1 + number % 3)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 300)
        await lab.cloud.start()
        await lab.all_told()
        assert [b["sightings"] for b in lab.cloud.find("batch")] == [100, 100, 100]
        assert [b["batch"] for b in lab.cloud.find("batch")] == [1, 2, 3]
        assert len(await lab.agent.devices()) == 300


async def test_table_is_full(directory):
    """Over devices.max those not heard for longest go, and what is lost with them is counted."""
    async with running_lab(directory, {**NEVER, "devices": {"max": 16}}, start_cloud=False) as lab:
        await lab.scanning()
        beacons = [Beacon() for _ in range(20)]
        for number, beacon in enumerate(beacons):
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon, count=1 + number)
        status = await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] == 210)
        sightings = status["sightings"]
        assert (sightings["devices"], sightings["evicted"]) == (16, 4)
        assert sightings["evicted_adverts"] == 1 + 2 + 3 + 4
        await lab.cloud.start()
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 200)
        assert lab.cloud.totals() == {b.device_id: lab.sim.delivered[b.device_id]
                                      for b in beacons[4:]}


@pytest.mark.parametrize("report_ms,expected_s", [(2000, 2.0), (100, 1.0)])
async def test_report_interval(directory, report_ms, expected_s):
    """The cloud can make reports less frequent than configured (1 s), not more."""
    async with running_lab(directory, cloud={"settings": {"report_ms": report_ms}}) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon, interval_s=0.05)
        second, third = [await lab.cloud.wait_for("batch", count=n) for n in (2, 3)]
        assert expected_s - 0.15 < third["time"] - second["time"] < expected_s + 0.6
        await lab.all_told()


async def test_stop_sends_what_is_pending(directory):
    """SIGTERM: what was not due yet is told, then the connection is closed with 1001."""
    async with running_lab(directory, NEVER) as lab:
        await lab.working()
        beacons = [Beacon() for _ in range(150)]
        for beacon in beacons:
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
        await lab.all_told()
        for beacon in beacons:
            await lab.sim.advertise(beacon, count=2)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["pending"] == 150)
        assert await lab.agent.stop() == 0
        assert lab.cloud.totals() == dict(lab.sim.delivered)
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["reason"], end["by"]) == (1001, "hotspot stopping", "hotspot")
        assert lab.sim.called("StopDiscovery")


async def test_stop_while_offline(directory):
    """SIGTERM while there is no cloud: it ends at once, and in good order."""
    async with running_lab(directory, {"uplink": {"backoff_min_ms": 60000, "backoff_max_s": 3600}},
                           start_cloud=False) as lab:
        await lab.scanning()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["pending"] == 1
                                        and s["uplink"]["state"] == "waiting")
        assert await lab.agent.stop() == 0


async def test_stop_while_waiting(directory):
    """SIGTERM in the middle of a long wait for the next attempt."""
    async with running_lab(directory, {"uplink": {"backoff_max_s": 8}}, start_agent=False) as lab:
        lab.cloud.refuse_hello = 4403   # then it waits 4 s at least
        await lab.agent.start()
        await lab.agent.wait_for_status(lambda s: s["uplink"].get("retry_in_s", 0) > 3)
        assert await lab.agent.stop() == 0, lab.agent.log


async def test_others_are_none_of_our_business(directory):
    """What is not a Blecon device leaves no trace: not at the cloud, not in status, not in the log.
    """
    async with running_lab(directory) as lab:
        await lab.working()
        # Somebody else's discovery without a filter lets everything through to everybody.
        lab.sim.adapters[0].clients.append(":1.99999")
        noise = [lab.sim.add_noise() for _ in range(20)]
        noise += [lab.sim.add_noise(Advert((FD0D,))),
                  lab.sim.add_noise(Advert((FD0D,), {ALIEN: b"\x01" * 20})),
                  lab.sim.add_noise(Advert((), {}, {0xFD0D: b"\x01" * 20}))]
        beacon = Beacon()
        lab.sim.add_device(beacon)
        for _ in range(3):
            for peer in noise:
                await lab.sim.advertise(peer, rssi=-40)
                peer.rssi -= 1
            await lab.sim.advertise(beacon)
        assert lab.sim.noise_delivered == 3 * len(noise)
        await lab.all_told()
        # And once more with all of them in what bluetoothd lists to who starts.
        assert await lab.agent.stop() == 0
        await lab.agent.start()
        await lab.working()
        await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 1)
        assert lab.cloud.totals() == {beacon.device_id: 4}
        assert len(await lab.agent.devices()) == 1
        reported = {bytes(s[0]) for m in messages(lab, "in", 10) for s in m[1]}
        assert reported == {beacon.device_id.bytes}
        log = lab.agent.log.upper()
        for peer in noise:
            for form in (peer.address, peer.address.replace(":", "_"),
                         peer.address.replace(":", "")):
                assert form not in log
