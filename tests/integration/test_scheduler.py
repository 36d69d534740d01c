# SPDX-License-Identifier: Apache-2.0
"""Which of the devices that ask is connected next, from which adapter, and why others wait."""

import asyncio

import pytest

from device import EchoDevice, VirtualDevice
from harness import running_lab, show, until
from test_relay import KEEPS_OPEN

ADDRESS = "00:AA:01:00:00:01"       # of hci1


def asking(lab, number=1, **radio):
    """Devices with a frame to send each."""
    devices = [EchoDevice([20]) for _ in range(number)]
    for device in devices:
        lab.sim.add_device(device, **radio)
    return devices


def asking_once(lab, **radio):
    """A device with a request: it is let go with its answer."""
    device = VirtualDevice(lab.cloud.device_public_key)
    device.ask(b"please")
    lab.sim.add_device(device, **radio)
    return device


async def queue(lab):
    """What the status says of each device in the queue, in the queue's order."""
    status = await lab.agent.status()
    return {told["device_url"]: told for told in status["relay"]["queue"]}


async def waits(lab, device, wait, timeout_s=10):
    """Wait until it waits for that; its entry in the queue."""
    async def look():
        told = (await queue(lab)).get(device.device_url, {})
        return told if told.get("wait") == wait else None
    return await until(look, timeout_s, f"{device.device_url} to wait: {wait}")


async def session_of(lab, device, count=1, timeout_s=10):
    """Its open session."""
    await lab.cloud.wait_for("open", timeout_s, count, device_id=device.device_id)
    return next(s for s in lab.cloud.sessions if s.device_id == device.device_id)


def most_at_once(connections):
    """How many attempts and links there were together."""
    times = sorted([(c.tried_at, 1) for c in connections]
                   + [(c.end_at, -1) for c in connections if c.end_at])
    most = now = 0
    for _, step in times:
        now += step
        most = max(most, now)
    return most


# --- Whose turn it is ---

async def test_order(directory):
    """Who asked first goes first, but a device that announces itself goes before all others."""
    async with running_lab(directory, {"relay": {"max_links": 1, "holdoff_ms": 0}}) as lab:
        await lab.working()
        lab.cloud.raw_devices.add((holder := asking(lab)[0]).device_id)
        await lab.sim.advertise(holder)
        held = await session_of(lab, holder)
        devices = [asking_once(lab) for _ in range(5)]
        devices[3].announces = True
        for number, device in enumerate(devices):
            await lab.sim.advertise(device)
            await lab.agent.wait_for_status(lambda s: s["relay"]["queued"] == number + 1)
        expected = [devices[n] for n in (3, 0, 1, 2, 4)]
        told = await queue(lab)
        assert list(told) == [device.device_url for device in expected]
        assert [t["announces"] for t in told.values()] == [True, False, False, False, False]
        assert {t["wait"] for t in told.values()} == {"no-slot"}
        held.close(0, "")
        await until(lambda: all(d.finished for d in devices))
        assert [c.device_id for c in lab.sim.connections] == [
            device.device_id for device in [holder, *expected]]
        assert most_at_once(lab.sim.connections) == 1


async def test_limits(directory):
    """max_links in all and max_links_per_adapter hold; each adapter connects one at a time."""
    async with running_lab(directory, {"relay": {"max_links": 3, "max_links_per_adapter": 2}},
                           start_agent=False) as lab:
        lab.sim.add_adapter(1, ADDRESS)
        await lab.agent.start()
        await lab.working()
        holders = asking(lab, 6, adapter=(0, 1), interval_s=0.1)
        lab.cloud.raw_devices |= {device.device_id for device in holders}
        for device in holders:
            lab.sim.peer(device).connect_delay_s = 0.3
        await until(lambda: len(lab.cloud.sessions) == 3)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["queued"] == 3)
        assert status["relay"]["links"] == 3
        assert (status["relay"]["max_links"], status["relay"]["max_links_per_adapter"]) == (3, 2)
        # Both adapters were at it together.
        first, second = lab.sim.connections[:2]
        assert first.adapter != second.adapter and second.tried_at < first.up_at
        for number in range(6):
            await until(lambda: lab.cloud.sessions)
            lab.cloud.sessions[0].close(0, "")
            await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == number + 1)
        assert [device.sessions for device in holders] == [1] * 6
        assert most_at_once(lab.sim.connections) == 3
        assert {lab.sim.adapters[n].peak_connecting for n in (0, 1)} == {1}
        assert max(lab.sim.adapters[n].peak_connected for n in (0, 1)) <= 2


async def test_limit_of_an_adapter(directory):
    """One adapter alone takes no more than max_links_per_adapter."""
    async with running_lab(directory, {"relay": {"max_links": 4, "max_links_per_adapter": 2}},
                           cloud=KEEPS_OPEN) as lab:
        await lab.working()
        asking(lab, 4, interval_s=0.1)
        await until(lambda: len(lab.cloud.sessions) == 2)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["queued"] == 2)
        assert status["relay"]["links"] == 2
        assert len(lab.sim.connections) == 2
        lab.cloud.sessions[0].close(0, "")
        await lab.cloud.wait_for("open", count=3)
        assert most_at_once(lab.sim.connections) == 2


async def test_floor(directory):
    """A device under the floor is reported and waits as "weak"; others are served."""
    async with running_lab(directory, {"relay": {"rssi_floor_dbm": -70, "holdoff_ms": 0}}) as lab:
        await lab.working()
        weak = asking_once(lab)
        await lab.sim.advertise(weak, rssi=-71, count=3)
        told = await waits(lab, weak, "weak")
        assert (told["adapter"], told["rssi_dbm"]) == ("hci0", -71)
        await lab.cloud.wait_for("sighting", device_id=weak.device_id)
        other = asking_once(lab)
        await lab.sim.advertise(other, rssi=-70)
        await until(lambda: other.finished)
        assert [c.device_id for c in lab.sim.connections] == [other.device_id]
        assert not weak.sessions


# --- Failures ---

async def serves_others(lab, number, interval_s=0.1):
    """Devices that ask now have their answers; how long the slowest took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    others = [asking_once(lab, interval_s=interval_s) for _ in range(number)]
    await until(lambda: all(device.finished for device in others), 15)
    return loop.time() - began


async def test_back_off(directory):
    """A device that fails waits longer each time and says why, while others are served."""
    async with running_lab(directory) as lab:
        await lab.working()
        failing = asking_once(lab, interval_s=0.1)
        lab.sim.script(failing, *["connect-error"] * 2)
        for failures in (1, 2):
            told = await waits(lab, failing, "back-off")
            assert "le-connection-abort-by-local" in told["failure"]
            assert 0 < told["retry_in_s"] <= 2.5
            listed = (await lab.agent.devices())[failing.device_url]
            assert (listed["failures"], listed["failure"]) == (failures, told["failure"])
            before = len(lab.sim.connections)
            await serves_others(lab, 2)
            assert len(lab.sim.connections) >= before + 2
            await until(lambda: len([c for c in lab.sim.connections
                                     if c.device_id == failing.device_id]) > failures)
        await until(lambda: failing.finished)
        first, second, third = [c for c in lab.sim.connections
                                if c.device_id == failing.device_id]
        assert second.tried_at - first.end_at >= 0.5 <= third.tried_at - second.end_at
        await until(lambda: third.end)
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        listed = (await lab.agent.devices())[failing.device_url]
        assert listed["failures"] == 0 and "retry_in_s" not in listed


@pytest.mark.long
async def test_hanging_attempt(directory):
    """One that never answers keeps others waiting for at most 6 s."""
    async with running_lab(directory) as lab:
        await lab.working()
        hanging = asking_once(lab, interval_s=0.1)
        lab.sim.script(hanging, "connect-hangs")
        await until(lambda: lab.sim.connections)
        others = [asking_once(lab, interval_s=0.1) for _ in range(3)]
        await waits(lab, others[0], "attempt")
        await until(lambda: all(device.finished for device in others), 15)
        first, second = lab.sim.connections[:2]
        assert (first.device_id, first.outcome) == (hanging.device_id, "cancelled")
        assert 5 < first.end_at - first.tried_at < 7 and second.tried_at < first.end_at + 1
        assert lab.sim.adapters[0].peak_connecting == 1
        told = (await lab.agent.devices())[hanging.device_url]
        assert told["failure"] == "timeout: Connect did not answer"
        await until(lambda: hanging.finished, 5)
        show(f"an attempt that hangs: the next one {second.tried_at - first.tried_at:.1f} s "
             "later")


@pytest.mark.long
async def test_hanging_services(directory):
    """One whose services are never resolved takes a slot, and delays nobody."""
    async with running_lab(directory, {"relay": {"max_links": 2}}) as lab:
        await lab.working()
        hanging = asking_once(lab, interval_s=0.1)
        lab.sim.script(hanging, "services-never-resolve")
        await lab.agent.wait_for_status(
            lambda s: [t["state"] for t in s["relay"]["sessions"]] == ["opening"])
        took_s = await serves_others(lab, 4)
        told = (await lab.agent.status())["relay"]["sessions"]
        assert (hanging.device_url, "opening") in [(t["device_url"], t["state"]) for t in told]
        assert took_s < 8       # of the 10 s that the other one takes
        await until(lambda: hanging.finished, 25)
        failure = (await lab.agent.devices())[hanging.device_url]["failure"]
        assert failure == "timeout: services were not resolved"
        show(f"beside a device without services: 4 others served in {took_s:.1f} s")


# --- Two adapters, two hubs ---

async def test_best_adapter(directory):
    """The adapter that hears a device best connects it; when that is full, the other."""
    async with running_lab(directory, {"relay": {"max_links_per_adapter": 1}}, cloud=KEEPS_OPEN,
                           start_agent=False) as lab:
        lab.sim.add_adapter(1, ADDRESS)
        await lab.agent.start()
        await lab.agent.wait_for_status(lambda s: [
            a.get("state") for a in s["bluetooth"]["adapters"]] == ["scanning"] * 2)
        await lab.up()
        for expected in (1, 0):
            [device] = asking(lab, rssi={0: -75, 1: -50})
            # It does not ask before both have heard it.
            device.asks = False
            await lab.sim.advertise(device)
            device.asks = True
            # Rarely enough that a late advert does not pass for a missed one.
            lab.sim.set_interval(device, 0.4)
            await session_of(lab, device)
            assert lab.sim.sessions(device)[0].adapter == expected
        [third] = asking(lab, rssi={0: -75, 1: -50}, interval_s=0.1)
        await waits(lab, third, "no-slot")
        assert len(lab.sim.connections) == 2


def share(labs, device, near):
    """One device in reach of several hubs: of labs[near] at -50 dBm, of others at -70."""
    peer = labs[0].sim.add_device(device)
    peer.rssi = {n: -50 if n == near else -70 for n in range(len(labs))}
    peer.adapters = tuple(peer.rssi)
    for lab in labs[1:]:
        lab.sim.peers.append(peer)
    return peer


async def on_air(labs, peer):
    """Each of its adverts is heard by all hubs."""
    while True:
        await asyncio.gather(*(lab.sim.advertise(peer) for lab in labs))
        await asyncio.sleep(0.1)


async def all_free(labs):
    """No hub has anything to do any more."""
    for lab in labs:
        for session in lab.cloud.sessions:
            session.close(0, "")
    told = [(await lab.agent.status())["relay"] for lab in labs]
    return not any(relay["queued"] or relay["sessions"] for relay in told)


async def is_taken_by(labs, device, peer, near):
    """It asks. Whether the hub labs[near] connected it, and no other so much as tried."""
    air = asyncio.create_task(on_air(labs, peer))
    try:
        await until(lambda: device.sessions)
        await until(lambda: all_free(labs), 15)
    finally:
        air.cancel()
    tried = [n for n, lab in enumerate(labs) for c in lab.sim.connections
             if c.device_id == device.device_id]
    return tried == [near]


@pytest.mark.long
@pytest.mark.parametrize("holdoff_ms", [300, 1000])
async def test_hold_off(directory, holdoff_ms):
    """Of two hubs in reach the nearer one connects a device, and the other leaves it alone."""
    options = {"relay": {"holdoff_ms": holdoff_ms}}
    async with running_lab(directory / "a", options, KEEPS_OPEN) as a, \
            running_lab(directory / "b", options, KEEPS_OPEN, start_sim=False,
                        start_agent=False) as b:
        b.sim.adapters.clear()
        b.sim.add_adapter(1, ADDRESS)       # so that the device's RSSI there can be told apart
        await b.sim.start()
        await b.agent.start()
        await asyncio.gather(a.working(), b.working())
        labs, good, rounds = [a, b], 0, 20
        for number in range(rounds):
            device, near = EchoDevice([20]), number % 2
            good += await is_taken_by(labs, device, share(labs, device, near), near)
        show(f"hold-off of {holdoff_ms} ms: of two hubs 20 dB apart the nearer took {good} of "
             f"{rounds} alone")
        assert good >= rounds - 2


async def test_hold_off_is_no_refusal(directory):
    """A hub that hears a device weakly connects it where no other does."""
    async with running_lab(directory, {"relay": {"holdoff_ms": 1000}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        loop = asyncio.get_running_loop()
        [device] = asking(lab)
        lab.sim.peer(device).rssi = -90
        began = loop.time()
        air = asyncio.create_task(on_air([lab], lab.sim.peer(device)))
        await waits(lab, device, "hold-off")
        await session_of(lab, device)
        air.cancel()
        assert 0.8 < lab.sim.connections[0].tried_at - began < 2


# --- Why a device waits ---

async def test_reasons(directory):
    """The queue in the status says for each device why it waits."""
    async with running_lab(directory, {"relay": {"max_links": 1, "rssi_floor_dbm": -80,
                                                 "holdoff_ms": 5000}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        [weak, far, silent] = asking(lab, 3)
        lab.sim.set_interval(weak, 0.1)
        lab.sim.peer(weak).rssi = -95
        lab.sim.peer(far).rssi = -70        # its hold-off: 2.2 s or a little more
        lab.sim.set_interval(far, 0.1)
        told = await waits(lab, far, "hold-off")
        assert told["adapter"] == "hci0" and told["rssi_dbm"] < -50
        await waits(lab, weak, "weak")
        session = await session_of(lab, far)
        near = asking(lab, rssi=-30, interval_s=0.1)[0]     # no hold-off but the jitter of 0.8 s
        await waits(lab, near, "no-slot")
        await lab.sim.advertise(silent, rssi=-40, count=2)
        told = await waits(lab, silent, "silent")
        assert told["since_s"] > 0
        lab.sim.script(near, "connect-error", "connect-error")
        session.close(0, "")
        told = await waits(lab, near, "back-off")
        assert "failure" in told
        await lab.cloud.kill()
        await waits(lab, near, "no-uplink")
        await lab.cloud.start()


async def test_reason_attempt(directory):
    """A device waits for the attempt at another, with free slots."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        [hanging] = asking(lab, interval_s=0.1)
        lab.sim.peer(hanging).connect_delay_s = 3
        await until(lambda: lab.sim.connections)
        [waiting] = asking(lab, interval_s=0.1)
        told = await waits(lab, waiting, "attempt")
        assert told["since_s"] >= 0 and not told["announces"]
        await session_of(lab, waiting)


async def test_forgotten(directory):
    """A device that no longer asks leaves the queue; one that has no link is never queued."""
    async with running_lab(directory, {"relay": {"rssi_floor_dbm": -60}}) as lab:
        await lab.working()
        [device] = asking(lab)
        await lab.sim.advertise(device, rssi=-65)
        await waits(lab, device, "weak")
        device.asks = False
        await lab.sim.advertise(device, rssi=-65)
        await lab.agent.wait_for_status(lambda s: s["relay"]["queued"] == 0)
        assert not lab.sim.connections
