# SPDX-License-Identifier: Apache-2.0
"""What is killed comes back, and so does the agent's work, with every advert counted once."""

import asyncio
import time

import pytest

from bluez_sim import Beacon
from device import EchoDevice
from harness import running_lab, until

BACK_S = 5      # from the return of what was gone to the next report


def beacons_at_rate(lab, number=5, interval_s=0.05):
    """Devices that advertise by themselves."""
    beacons = [Beacon() for _ in range(number)]
    for beacon in beacons:
        lab.sim.add_device(beacon, interval_s=interval_s)
    return beacons


async def reports_again(lab):
    """Within BACK_S the cloud hears of adverts that were not on the air before."""
    began = time.monotonic()
    beacon = Beacon()
    lab.sim.add_device(beacon, interval_s=0.05)
    await lab.cloud.wait_for("sighting", BACK_S, device_id=beacon.device_id)
    assert time.monotonic() - began < BACK_S


# A cloud that answers nothing, so that a session stays open.
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}


async def open_session(lab, device, number=1):
    """The device asks, and has a session that stays open."""
    device.ask(b"hold")
    await lab.cloud.wait_for("open", 10, device_id=device.device_id, count=number)
    await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)


async def test_bluetoothd_between_sessions(directory):
    """bluetoothd is killed twice while adverts come in."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacons_at_rate(lab)
        for number in range(2):
            await lab.agent.wait_for_status(
                lambda s: s["sightings"]["adverts"] > 50 * (number + 1))
            await lab.sim.stop()
            status = await lab.agent.wait_for_status(
                lambda s: s["bluetooth"]["state"] == "no-bluetoothd")
            assert status["bluetooth"]["reason"] == "bluetoothd is not running"
            assert not status["working"]
            await lab.sim.start()
            await reports_again(lab)
        status = await lab.scanning()
        assert status["bluetooth"]["generation"] == 3
        await lab.all_told()


async def test_bluetoothd_during_a_session(directory):
    """The session ends with code 4, and the device is served again afterwards."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice()
        lab.sim.add_device(device, interval_s=0.05)
        beacons_at_rate(lab)
        await open_session(lab, device)
        await lab.sim.stop()
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (4, "hotspot")
        assert "bluetoothd went away" in close["reason"]
        await lab.sim.start()
        await reports_again(lab)
        await open_session(lab, device, 2)
        lab.cloud.sessions[0].close(0, "")
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        await lab.all_told()


async def test_cloud_between_sessions(directory):
    """The cloud is killed twice while adverts come in."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacons_at_rate(lab)
        for number in range(2):
            await lab.agent.wait_for_status(
                lambda s: s["sightings"]["reported"] > 50 * (number + 1))
            await lab.cloud.kill()
            await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] == "waiting")
            await lab.cloud.start()
            await reports_again(lab)
        await lab.all_told()
        assert (await lab.agent.status())["uplink"]["connects"] == 3


async def test_cloud_without_resume(directory):
    """The device is let go with the connection, and served again once the cloud is back."""
    async with running_lab(directory, cloud={"resume_ms": 0, **KEEPS_OPEN}) as lab:
        await lab.working()
        device = EchoDevice()
        events = []
        device.on_event = lambda name, details: events.append(name)
        peer = lab.sim.add_device(device, interval_s=0.05)
        await open_session(lab, device)
        await lab.cloud.kill()
        await until(lambda: "closed" in events, what="the device to be let go")
        await until(lambda: peer.link is None)
        device.ask(b"again")
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
        connects = len(lab.sim.called("Connect"))
        await lab.cloud.start()
        await open_session(lab, device, 2)
        assert len(lab.sim.called("Connect")) == connects + 1
        lab.cloud.sessions[0].close(0, "")
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        await lab.all_told()


async def test_all_at_once_and_unacknowledged(directory):
    """Batches stored and not acknowledged, both sides killed: every advert counts once."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacons_at_rate(lab, 10)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] > 20)
        lab.cloud.drop_before_ack = True
        await until(lambda: lab.cloud.find("batch", duplicate=True), what="a batch sent again")
        lab.cloud.ack_sightings = False
        acknowledged = len(lab.cloud.find("batch"))
        await until(lambda: len(lab.cloud.find("batch")) > acknowledged, what="the next batch")
        await asyncio.gather(lab.cloud.kill(), lab.sim.stop())
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up"
                                        and s["bluetooth"]["state"] == "no-bluetoothd")
        lab.cloud.ack_sightings = True
        await asyncio.gather(lab.cloud.start(), lab.sim.start())
        await reports_again(lab)
        await lab.all_told()
        assert len(lab.cloud.find("batch", duplicate=True)) >= 2
        assert (await lab.agent.status())["sightings"]["resent"] >= 2


async def test_dbus_daemon(directory):
    """The bus itself is killed, with an open session."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device, beacon = EchoDevice(), Beacon()
        lab.sim.add_device(device, interval_s=0.05)
        lab.sim.add_device(beacon)
        await open_session(lab, device)
        await lab.sim.advertise(beacon, count=20)
        # What the bus has taken and the agent has not is lost with the bus.
        await lab.agent.wait_for_status(
            lambda s: s["sightings"]["adverts"] == lab.sim.delivered.total())
        await lab.restart_bus()
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (4, "hotspot")
        await reports_again(lab)
        await open_session(lab, device, 2)
        lab.cloud.sessions[0].close(0, "")
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        await lab.all_told()


@pytest.mark.parametrize("index", [0, 1])
async def test_adapter_removed_and_added(directory, index):
    """A USB reset: the adapter is gone, and comes back, perhaps under another number."""
    async with running_lab(directory, {"bluetooth": {"adapters": ["00:AA:01:00:00:00"]}},
                           cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice()
        peer = lab.sim.add_device(device, interval_s=0.05)
        await open_session(lab, device)
        lab.sim.remove_adapter(0)
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "no-adapter")
        assert status["bluetooth"]["reason"] == 'no adapter 00:AA:01:00:00:00'
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (4, "hotspot")
        peer.adapters = (index,)
        lab.sim.add_adapter(index, "00:AA:01:00:00:00")
        status = await lab.scanning(BACK_S)
        assert [a["name"] for a in status["bluetooth"]["adapters"]] == [f"hci{index}"]
        await open_session(lab, device, 2)
        await lab.all_told()


async def test_adapter_starts_unpowered(directory):
    """The agent switches it on."""
    async with running_lab(directory, start_sim=False, start_agent=False) as lab:
        lab.sim.adapters[0].powered = False
        await lab.sim.start()
        await lab.agent.start()
        await lab.scanning(BACK_S)
        assert lab.sim.adapters[0].powered
        # Somebody else's "off" is undone too.
        lab.sim.set_powered(0, False)
        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "not-scanning")
        await lab.scanning(BACK_S)
        await reports_again(lab)


async def test_rfkill(directory):
    """Blocked: it says so, does not spin, and goes on once freed."""
    async with running_lab(directory) as lab:
        await lab.working()
        lab.sim.set_rfkill(0, True)
        reason = "hci0: switched off by rfkill"
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"].get("reason") == reason)
        assert status["bluetooth"]["adapters"][0]["state"] == "blocked"
        assert "rfkill unblock" in status["summary"]
        assert "switched off by rfkill" in await lab.agent.wait_for_log(" error   hci0")
        assert len(lab.sim.called("Set")) <= 1
        lab.sim.set_rfkill(0, False)
        await lab.scanning(BACK_S)
        await reports_again(lab)


async def test_blocked_from_the_start(directory):
    """Blocked before the agent starts."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].powered, lab.sim.adapters[0].rfkill = False, True
        await lab.sim.start()
        await lab.agent.wait_for_status(
            lambda s: any(a.get("state") == "blocked" for a in s["bluetooth"]["adapters"]))
        lab.sim.set_rfkill(0, False)
        await lab.scanning(BACK_S)
        await reports_again(lab)


async def test_discovery_fails(directory):
    """The error is in status and log; it is tried again until it works."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].discovery_error = ("org.bluez.Error.Failed", "the moon is full")
        await lab.sim.start()
        status = await lab.agent.wait_for_status(
            lambda s: "StartDiscovery" in s["bluetooth"].get("reason", ""))
        assert "the moon is full" in status["bluetooth"]["reason"]
        assert "the moon is full" in await lab.agent.wait_for_log(" warning hci0")
        await until(lambda: len(lab.sim.called("StartDiscovery")) >= 2)
        lab.sim.adapters[0].discovery_error = None
        await lab.scanning(BACK_S)
        await reports_again(lab)


async def test_access_denied(directory):
    """A D-Bus policy that does not let the agent speak to bluetoothd is named as such, once."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.objects_error = ("org.freedesktop.DBus.Error.AccessDenied", "Rejected")
        await lab.sim.start()
        status = await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "no-access")
        assert "may not talk to bluetoothd: allow it in a D-Bus policy" in status["summary"]
        await until(lambda: len(lab.sim.called("GetManagedObjects")) >= 3)
        assert lab.agent.log.count(" error   Bluetooth: ") == 1
        lab.sim.objects_error = None
        await lab.scanning(BACK_S)
        await reports_again(lab)


async def test_adapter_by_address(directory):
    """The configured one is used, whatever else is there, and whatever comes first."""
    async with running_lab(directory, {"bluetooth": {"adapters": ["00:aa:01:00:00:01"]}}) as lab:
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "no-adapter")
        assert status["bluetooth"]["adapters"][0]["used"] is False
        lab.sim.add_adapter(1, "00:AA:01:00:00:01")
        await lab.scanning()
        await lab.up()
        near, far = Beacon(), Beacon()
        lab.sim.add_device(near, adapter=0)
        lab.sim.add_device(far, adapter=1)
        assert await lab.sim.advertise(near) == 0
        assert await lab.sim.advertise(far) == 1
        told = await lab.cloud.wait_for("sighting")
        assert (told["device_id"], told["adapter"]) == (far.device_id, 1)
        assert {c.path for c in lab.sim.called("StartDiscovery")} == {"/org/bluez/hci1"}
