# SPDX-License-Identifier: Apache-2.0
"""An uplink that is paid for by the byte: a budget for sightings, and reports of news alone."""

import asyncio
import re
import time

import cbor2

from bluez_sim import Beacon
from device import VirtualDevice
from harness import CTL, run, running_lab

SIGHTINGS, SIGHTINGS_ACK = 10, 11
PRESENT = 1
KB_PER_DAY = 24


def frame(direction, message):
    """Bytes of a WebSocket frame; those of a client are masked."""
    return len(message) + (2 if len(message) < 126 else 4) + (4 if direction == "in" else 0)


def sighting_bytes(cloud):
    """What sightings and their acknowledgements have taken so far."""
    return sum(frame(direction, message) for direction, message in cloud.raw
               if cbor2.loads(message)[0] in (SIGHTINGS, SIGHTINGS_ACK))


async def test_budget(directory):
    """Sightings wait and merge as the budget is spent; sessions go on, and nothing is lost."""
    began = time.monotonic()
    options = {"uplink": {"sightings_kb_per_day": KB_PER_DAY, "report_interval_s": 1}}
    async with running_lab(directory, options) as lab:
        await lab.working()
        beacons = [Beacon() for _ in range(30)]
        for beacon in beacons:
            lab.sim.add_device(beacon, interval_s=0.1)
        status = await lab.agent.wait_for_status(
            lambda s: s["sightings"]["budget"].get("waits_s", 0) > 1 and s["sightings"]["merged"])
        budget = status["sightings"]["budget"]
        assert budget["per_day_bytes"] == KB_PER_DAY * 1000 and budget["left_bytes"] < 900
        ended = await run(CTL, "--socket", lab.agent.socket, "uplink")
        assert "of 24 kB in 24 h can go now; the next report waits" in ended.out
        ended = await run(CTL, "--socket", lab.agent.socket, "status")
        assert re.search("for the next report, .*which waits .* for the budget", ended.out)
        # A device is served all the same, though the cloud may not have heard of it.
        device = VirtualDevice(lab.cloud.device_public_key)
        device.ask(bytes(4096))
        lab.sim.add_device(device, interval_s=0.1)
        answer = await lab.cloud.wait_for("answer", device_id=device.device_id, timeout_s=10)
        assert answer["data"] == bytes(4096)
        await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        # A batch that is sent again costs again; the connection may break all day.
        for connection in range(2, 5):
            await lab.cloud.kill()
            await lab.cloud.start()
            await lab.agent.wait_for_status(lambda s: s["uplink"]["connects"] == connection)
        spent, elapsed_s = sighting_bytes(lab.cloud), time.monotonic() - began
        allowed = KB_PER_DAY * 1000 / 24 * (1 + 23 * elapsed_s / 86400)
        uplink = (await lab.agent.status())["uplink"]
        assert 300 < spent <= allowed, (spent, allowed)
        # What broke with a connection counts too.
        assert spent <= sum(uplink[d]["sightings"] for d in ("bytes_out", "bytes_in")) <= allowed
        # The stop does not wait for it. What is left goes once there is no limit.
        for peer in lab.sim.peers:
            lab.sim.set_interval(peer, None)
        await lab.agent.wait_for_status(
            lambda s: s["sightings"]["adverts"] == lab.sim.delivered.total())
        assert await lab.agent.stop() == 0
        assert sighting_bytes(lab.cloud) <= allowed + 1
        assert (directory / "state/sightings.cbor").exists()
        lab.agent.options["uplink"]["sightings_kb_per_day"] = 0
        await lab.agent.start()
        status = await lab.agent.wait_for_status(
            lambda s: s["uplink"]["state"] == "up" and s["sightings"]["pending"] == 0
            and "unacknowledged_s" not in s["sightings"])
        assert "budget" not in status["sightings"] and status["sightings"]["kept"] > 0
        assert lab.cloud.totals() == dict(lab.sim.delivered)


async def test_no_budget_is_no_limit(directory):
    """Nothing of it is shown where there is none."""
    async with running_lab(directory) as lab:
        await lab.working()
        assert "budget" not in (await lab.agent.status())["sightings"]
        assert "  budget " not in (await run(CTL, "--socket", lab.agent.socket, "uplink")).out


async def test_news_alone(directory):
    """report_interval_s = 0: what stays is told with the device's next news, or at a reconnect."""
    options = {"uplink": {"report_interval_s": 0}, "relay": {"max_links": 0}}
    async with running_lab(directory, options, cloud={"settings": {"report_ms": 50}}) as lab:
        await lab.working()
        stays, changes = VirtualDevice(bytes(32)), VirtualDevice(bytes(32))
        lab.sim.add_device(stays)
        lab.sim.add_device(changes)
        for device in (stays, changes):
            await lab.sim.advertise(device)
            await lab.cloud.wait_for("sighting", device_id=device.device_id)
        # News of one follow news of it for much longer than the interval the cloud asks for.
        for round_ in range(5):
            await lab.sim.advertise(stays)
            await lab.sim.advertise(changes, count=3)
            changes.announces = not changes.announces
            await lab.sim.advertise(changes)
            told = await lab.cloud.wait_for("sighting", device_id=changes.device_id,
                                            count=round_ + 2)
            assert (told["state"], told["count"]) == (PRESENT, 4)
        assert len(lab.cloud.find("sighting", device_id=stays.device_id)) == 1
        status = await lab.agent.wait_for_status(lambda s: s["sightings"]["pending"] == 1)
        assert status["sightings"]["merged"] >= 4
        await lab.cloud.kill()
        await lab.cloud.start()
        told = await lab.cloud.wait_for("sighting", device_id=stays.device_id, count=2,
                                        timeout_s=10)
        assert (told["state"], told["count"]) == (PRESENT, 5)
        # And at the end.
        await lab.sim.advertise(stays, count=2)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["pending"] == 1)
        await asyncio.wait_for(lab.agent.stop(), 10)
        assert lab.cloud.totals() == dict(lab.sim.delivered)
