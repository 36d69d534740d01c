# SPDX-License-Identifier: Apache-2.0
"""Several adapters: each that is there and wanted is used, and they do not need each other."""

import asyncio

from bluez_sim import Beacon
from device import EchoDevice
from harness import CTL, run, running_lab, until

ADDRESSES = ["00:AA:01:00:00:00", "00:AA:01:00:00:01", "00:AA:01:00:00:02"]
# A cloud that answers nothing, so that a session stays open.
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
RFKILL = "switched off by rfkill"
UNBLOCK = "rfkill unblock bluetooth, or without that program: " \
    "echo 0 | tee /sys/class/bluetooth/hci*/rfkill*/soft"


def adapter_of(status, name):
    """What the status says of one adapter; empty where it is not there."""
    return next((a for a in status["bluetooth"]["adapters"] if a["name"] == name), {})


def scanning(status, *names):
    return all(adapter_of(status, n).get("state") == "scanning" for n in names)


async def test_all_are_used(directory):
    """By default both scan; a device is reported from where it is heard, by both if need be."""
    async with running_lab(directory, {"relay": {"max_links": 0}}, start_sim=False) as lab:
        lab.sim.add_adapter(1, ADDRESSES[1])
        await lab.sim.start()
        await lab.working()
        status = await lab.agent.wait_for_status(lambda s: scanning(s, "hci0", "hci1"))
        assert "reason" not in status["bluetooth"]
        assert [a["address"] for a in status["bluetooth"]["adapters"]] == ADDRESSES[:2]
        beacons = {0: Beacon(), 1: Beacon(), (0, 1): Beacon()}
        for adapters, beacon in beacons.items():
            lab.sim.add_device(beacon, adapter=adapters)
            await lab.sim.advertise(beacon, count=3)
        for index in (0, 1):
            told = await lab.cloud.wait_for("sighting", device_id=beacons[index].device_id)
            assert told["adapter"] == index
        await lab.all_told()
        assert lab.cloud.totals()[beacons[0, 1].device_id] == 6
        status = await lab.agent.status()
        assert [a["adverts"] for a in status["bluetooth"]["adapters"]] == [6, 6]
        assert {c.path for c in lab.sim.called("StartDiscovery")} == \
            {"/org/bluez/hci0", "/org/bluez/hci1"}
    assert len(lab.sim.called("StopDiscovery")) == 2


async def test_only_those_named(directory):
    """By name or address; what is not named is left alone."""
    async with running_lab(directory, {"bluetooth": {"adapters": [ADDRESSES[2].lower(), "hci1"]}},
                           start_sim=False) as lab:
        for index in (1, 2):
            lab.sim.add_adapter(index, ADDRESSES[index])
        await lab.sim.start()
        await lab.working()
        status = await lab.agent.wait_for_status(lambda s: scanning(s, "hci1", "hci2"))
        assert [a["used"] for a in status["bluetooth"]["adapters"]] == [False, True, True]
        assert "reason" not in status["bluetooth"]
        beacons = [Beacon() for _ in range(3)]
        for index, beacon in enumerate(beacons):
            lab.sim.add_device(beacon, adapter=index)
        assert [await lab.sim.advertise(b) for b in beacons] == [0, 1, 1]
        await lab.all_told()
        assert "/org/bluez/hci0" not in {c.path for c in lab.sim.calls}


async def test_one_is_missing(directory):
    """It is named in status and log, the other is used, and it is used once it is there."""
    async with running_lab(directory, {"bluetooth": {"adapters": ["hci0", "hci7"]}}) as lab:
        await lab.working()
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"].get("reason") == "no adapter hci7")
        assert status["bluetooth"]["state"] == "scanning" and status["working"]
        assert status["summary"] == "Working, but no device heard yet; and no adapter hci7: " \
            + status["bluetooth"]["advice"]
        assert "goes on with what there is" in await lab.agent.wait_for_log(
            " warning Bluetooth: no adapter hci7: ")
        beacon = Beacon()
        lab.sim.add_device(beacon, adapter=7)
        lab.sim.add_adapter(7, ADDRESSES[1])
        await lab.agent.wait_for_status(lambda s: scanning(s, "hci7"))
        await lab.sim.advertise(beacon)
        await lab.cloud.wait_for("sighting", device_id=beacon.device_id)
        status = await lab.agent.status()
        assert "reason" not in status["bluetooth"]
        assert status["summary"] == "Working: 1 device present, uplink up"
        assert lab.agent.log.count(" warning ") == 1 and " error " not in lab.agent.log


async def test_all_are_missing(directory):
    """Not working, and all of them are named."""
    async with running_lab(directory, {"bluetooth": {"adapters": ["hci5", ADDRESSES[1]]}}) as lab:
        missing = f"no adapter hci5; no adapter {ADDRESSES[1]}"
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"].get("reason") == missing)
        assert status["bluetooth"]["state"] == "no-adapter" and not status["working"]
        assert missing in status["summary"] and "bluetooth.adapters" in status["summary"]
        assert missing in await lab.agent.wait_for_log(" error   Bluetooth: ")


async def test_found_one_after_the_other(directory):
    """As by a bluetoothd that has just started: no reason to log an error, or a warning."""
    async with running_lab(directory, {"bluetooth": {"adapters": ["hci0", "hci1"]}},
                           start_sim=False) as lab:
        lab.sim.adapters.clear()
        await lab.sim.start()
        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "no-adapter")
        for index in (0, 1):
            await asyncio.sleep(0.3)
            lab.sim.add_adapter(index, ADDRESSES[index])
        await lab.agent.wait_for_status(lambda s: scanning(s, "hci0", "hci1"))
        await asyncio.sleep(2)
        assert "reason" not in (await lab.agent.status())["bluetooth"]
        assert not [line for line in lab.agent.log.splitlines()
                    if (" warning " in line or " error " in line) and "uetooth" in line
                    and "bluetoothd: is not running" not in line]


async def test_one_goes_away(directory):
    """The other goes on, with its session; the one that comes back has its counters still."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        lab.sim.add_adapter(1, ADDRESSES[1])
        await lab.working()
        await lab.agent.wait_for_status(lambda s: scanning(s, "hci0", "hci1"))
        devices = [EchoDevice(), EchoDevice()]
        beacon = Beacon()
        peers = [lab.sim.add_device(d, adapter=i, interval_s=0.05) for i, d in enumerate(devices)]
        lab.sim.add_device(beacon, adapter=(0, 1), interval_s=0.05)
        for device in devices:
            device.ask(b"hold")
        await until(lambda: len(lab.cloud.sessions) == 2
                    and all(s.frames_in for s in lab.cloud.sessions))
        before = adapter_of(await lab.agent.status(), "hci0")["adverts"]
        lab.sim.remove_adapter(0)
        close = await lab.cloud.wait_for("close")
        assert (close["device_id"], close["code"]) == (devices[0].device_id, 4)
        status = await lab.agent.wait_for_status(lambda s: len(s["bluetooth"]["adapters"]) == 1)
        assert status["bluetooth"]["state"] == "scanning" and status["working"]
        assert "reason" not in status["bluetooth"]      # nobody asked for it by name
        heard = adapter_of(status, "hci1")["adverts"]
        await lab.agent.wait_for_status(lambda s: adapter_of(s, "hci1")["adverts"] > heard + 5)

        # Back under another number.
        peers[0].adapters = (2,)
        lab.sim.add_adapter(2, ADDRESSES[0])
        status = await lab.agent.wait_for_status(lambda s: scanning(s, "hci1", "hci2"))
        assert adapter_of(status, "hci2")["adverts"] >= before > 0
        devices[0].ask(b"hold")
        await lab.cloud.wait_for("open", device_id=devices[0].device_id, count=2)
        assert len(lab.cloud.find("open", device_id=devices[1].device_id)) == 1
        assert not lab.cloud.find("close", device_id=devices[1].device_id)
        assert all(c.path != "/org/bluez/hci1" for c in lab.sim.called("StopDiscovery"))
        for session in list(lab.cloud.sessions):
            session.close(0, "")
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        await lab.all_told()


async def test_one_is_blocked(directory):
    """What is wrong with one stands beside that it works."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.add_adapter(1, ADDRESSES[1], rfkill=True)
        await lab.sim.start()
        await lab.working()
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"].get("reason") == f"hci1: {RFKILL}")
        assert status["bluetooth"]["state"] == "scanning" and status["working"]
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        await lab.cloud.wait_for("sighting", device_id=beacon.device_id)
        page = await run(CTL, "-s", lab.agent.socket, "status")
        assert page.code == 0
        assert page.out.splitlines()[0] == \
            f"Working: 1 device present, uplink up; but hci1: {RFKILL}: {UNBLOCK}"
        # And the first one too.
        lab.sim.set_rfkill(0, True)
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "not-scanning"
            and s["bluetooth"]["reason"] == f"hci0: {RFKILL}; hci1: {RFKILL}")
        assert not status["working"]
        lab.sim.set_rfkill(1, False)
        status = await lab.agent.wait_for_status(lambda s: scanning(s, "hci1"))
        await lab.agent.wait_for_status(lambda s: s["working"])


async def test_left_over_on_both(directory):
    """An agent that was killed with sessions on two adapters: the next one lets both devices go."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        lab.sim.add_adapter(1, ADDRESSES[1])
        await lab.working()
        devices = [EchoDevice(), EchoDevice()]
        for index, device in enumerate(devices):
            device.ask(b"hold")
            lab.sim.add_device(device, adapter=index, interval_s=0.05)
        await until(lambda: len(lab.cloud.sessions) == 2)
        for peer in lab.sim.peers:
            peer.device.asks = False
        lab.agent.process.kill()
        lab.agent.process.wait()
        assert all(peer.link for peer in lab.sim.peers)
        await lab.agent.start()
        await until(lambda: not any(peer.link for peer in lab.sim.peers))
        assert lab.agent.log.count("disconnects a device left over") == 2
