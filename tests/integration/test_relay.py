# SPDX-License-Identifier: Apache-2.0
"""A device's session through the agent, over simulated BlueZ and a real WebSocket."""

import os
import re
from collections import Counter

import cbor2
import pytest

from device import EchoDevice, VirtualDevice
from harness import CTL, messages, run, running_lab, until

DATA, CREDIT = 22, 23
LOST = 2    # state of a sighting
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
ECHOES = {"raw_handler": lambda session, channel, payload: [payload]}
# Every size that fits the MTU of 247, and a few again: 300 frames.
SIZES = [*range(1, 245), *range(1, 57)]


class SteadyDevice(EchoDevice):
    """Sends its frames as answers come, a few at a time: a device does not flood."""

    def __init__(self, sizes, window=8):
        super().__init__(sizes)
        self._window = window

    def opened(self, max_frame, channel=0):
        frames = super().opened(max_frame, channel)
        if channel:
            return frames
        self._waiting = frames
        return self._next(self._window)

    def received(self, frame, channel=0):
        super().received(frame, channel)
        return self._next(1)

    def _next(self, number):
        frames, self._waiting = self._waiting[:number], self._waiting[number:]
        return frames


async def test_session(directory):
    """A device asks, authenticates the cloud, sends 4,096 bytes and gets 4,096 back."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = VirtualDevice(lab.cloud.device_public_key)
        request = os.urandom(4096)
        device.ask(request)
        lab.sim.add_device(device, rssi=-57, interval_s=0.1)
        answer = await lab.cloud.wait_for("answer", device_id=device.device_id)
        await until(lambda: device.finished)
        assert lab.cloud.find("request")[0]["data"] == request
        assert device.answers == [request[::-1]] == [answer["data"]]
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["by"], close["code"]) == ("cloud", 0)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        assert status["working"], status
        assert status["relay"]["sessions"] == []
        opened = lab.cloud.find("open")[0]
        assert (opened["bearer"], opened["max_frame"]) == (0, 244)
        assert opened["service_data"][0] & 1
        # The device is let go for good: nothing of it stays in bluetoothd.
        await until(lambda: lab.sim.called("RemoveDevice"))


async def test_three_at_once(directory):
    """As many as max_links have a session together; a fourth gets the first free place."""
    async with running_lab(directory, {"relay": {"max_links": 3}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        devices = [EchoDevice([20]) for _ in range(4)]
        for device in devices[:3]:
            lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: len(lab.cloud.sessions) == 3)
        await until(lambda: all(s.frames_in == 1 for s in lab.cloud.sessions))
        lab.sim.add_device(devices[3], interval_s=0.05)
        await lab.cloud.wait_for("sighting", device_id=devices[3].device_id)
        await until(lambda: lab.sim.delivered[devices[3].device_id] > 10)
        assert len(lab.sim.called("Connect")) == 3
        assert len((await lab.agent.status())["relay"]["sessions"]) == 3
        lab.cloud.sessions[1].close(0, "")
        await lab.cloud.wait_for("open", device_id=devices[3].device_id)
        assert lab.sim.adapters[0].peak_connected == 3
        assert lab.sim.adapters[0].peak_connecting == 1


async def test_one_after_another(directory):
    """With one link, three devices that ask together are served in turn."""
    async with running_lab(directory, {"relay": {"max_links": 1}}) as lab:
        await lab.working()
        devices = [VirtualDevice(lab.cloud.device_public_key) for _ in range(3)]
        requests = [os.urandom(500) for _ in devices]
        for device, request in zip(devices, requests):
            device.ask(request)
            lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: all(d.finished for d in devices))
        assert [d.answers for d in devices] == [[r[::-1]] for r in requests]
        await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 3)
        assert lab.sim.adapters[0].peak_connected == 1


def check_credits(lab, credits):
    """Neither side sent a frame for which it had no credit, in the order of the wire."""
    budget = Counter({"in": credits, "out": credits})
    kinds = Counter()
    for direction, raw in lab.cloud.raw:
        message = cbor2.loads(raw)
        if message[0] == DATA:
            budget[direction] -= 1
            kinds[direction] += 1
            assert budget[direction] >= 0
        elif message[0] == CREDIT:
            budget["out" if direction == "in" else "in"] += message[2]
            assert budget["out" if direction == "in" else "in"] <= credits
    assert kinds == {"in": len(SIZES), "out": len(SIZES)}


@pytest.mark.parametrize("credits", [1, 16, 64])
async def test_frames_both_ways(directory, credits):
    """300 frames of 1 to 244 bytes each way: the same bytes, in order, within the credits."""
    async with running_lab(directory, cloud={"settings": {"credits": credits}, **ECHOES}) as lab:
        await lab.working()
        device = SteadyDevice(SIZES)
        lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: len(device.answers) == len(SIZES))
        assert device.answers == device.sent
        [session] = lab.cloud.sessions
        assert session.frames == [(0, frame) for frame in device.sent]
        assert [m[2] for m in messages(lab, "in", DATA)] == list(range(len(SIZES)))
        check_credits(lab, credits)
        session.close(0, "")
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        relay = status["relay"]
        assert relay["frames_up"] == relay["frames_down"] == len(SIZES)
        assert relay["bytes_up"] == relay["bytes_down"] == sum(SIZES)


async def test_radio_holds_back_the_cloud(directory):
    """While the radio takes nothing the cloud gets no credit; then all arrives, in order."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        [session] = lab.cloud.sessions
        peer.radio_stalls = True
        frames = [number.to_bytes(2, "big") * 120 for number in range(3000)]
        session.send_frames(frames)

        async def is_held():
            before = session.frames_out
            await lab.agent.status()
            return session.credits_out == 0 and session.frames_out == before < len(frames)
        await until(is_held)
        assert not device.answers
        peer.radio_stalls = False
        await until(lambda: len(device.answers) == len(frames), 15)
        assert device.answers == frames


async def test_cloud_without_credits(directory):
    """A cloud that gives no credits holds back a device for a while, and nothing is lost."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.withhold_credits = True
        device = EchoDevice([100] * 64)
        lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in == 16)
        [session] = lab.cloud.sessions
        await until(lambda: len([f for f in lab.sim.frames[device.device_id]
                                 if f.direction == "from_device"]) == 64)
        assert (await lab.agent.status())["relay"]["sessions"][0]["state"] == "open"
        assert session.frames_in == 16
        lab.cloud.release_credits()
        await until(lambda: session.frames_in == 64)
        assert [frame for _, frame in session.frames] == device.sent


async def test_cloud_without_credits_for_too_long(directory):
    """What is queued is bounded: a session that needs more ends, and says why."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.withhold_credits = True
        device = EchoDevice([200] * 1500)   # over 256 KiB
        device.channels = 1
        lab.sim.add_device(device, interval_s=0.05)
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (4, "hotspot")
        assert close["reason"] == "the cloud takes frames too slowly"
        assert close["frames_in"] <= 16
        await until(lambda: lab.sim.peer(device).link is None)
        lab.cloud.withhold_credits = False
        device.ask(b"again")
        await lab.cloud.wait_for("open", device_id=device.device_id, count=2)


@pytest.mark.parametrize("fault,code", [("refuse_devices", 3), ("unserved_devices", 5)])
async def test_cloud_refuses(directory, fault, code):
    """A refused device is let go at once, and tried again later."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = VirtualDevice(lab.cloud.device_public_key)
        getattr(lab.cloud, fault).add(device.device_id)
        device.ask(b"please")
        peer = lab.sim.add_device(device, interval_s=0.05)
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (code, "cloud")
        await until(lambda: peer.link is None)
        assert f"closed by the cloud ({code})" in await lab.agent.wait_for_log("ended:")
        await lab.agent.wait_for_status(lambda s: s["relay"]["failed"] >= 1)
        getattr(lab.cloud, fault).clear()
        await until(lambda: device.finished)
        assert device.answers == [b"esaelp"]


@pytest.mark.parametrize("fault,value,reason", [
    pytest.param("connect_hangs", True, "Connect did not answer", marks=pytest.mark.long),
    pytest.param("services_never_resolve", True, "services were not resolved",
                 marks=pytest.mark.long),
    pytest.param("acquire_notify_never_answers", True, "AcquireNotify did not answer",
                 marks=pytest.mark.long),
    pytest.param("no_blecon_service", True, "no Blecon characteristic", marks=pytest.mark.long),
    ("connect_succeeds_without_link", True, "Connect succeeded without a connection"),
    ("connect_error", ("org.bluez.Error.Failed", "le-connection-abort-by-local"),
     "le-connection-abort-by-local"),
    ("acquire_notify_error", ("org.bluez.Error.Failed", "no such luck"), "no such luck"),
    ("acquire_write_error", ("org.bluez.Error.NotPermitted", "Write acquired"),
     "Write acquired"),
])
async def test_connecting_fails(directory, fault, value, reason):
    """Each way a link can fail to come up has an end, a reason, and a later try that succeeds."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = VirtualDevice(lab.cloud.device_public_key)
        device.ask(b"please")
        peer = lab.sim.add_device(device, interval_s=0.05)
        setattr(peer, fault, value)
        await lab.agent.wait_for_status(lambda s: s["relay"]["failed"] == 1, 25)
        assert reason in await lab.agent.wait_for_log("ended:")
        assert lab.cloud.find("open") == []     # the cloud has no use for it
        setattr(peer, fault, type(value)() if value is True else None)
        if fault == "no_blecon_service":
            lab.sim.gatt_cache = False
        await until(lambda: device.finished, 10)
        assert device.answers == [b"esaelp"]
        await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        await lab.all_told()


async def test_services_resolved_before_objects(directory):
    """BlueZ may say so before its objects are there."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = VirtualDevice(lab.cloud.device_public_key)
        device.ask(b"please")
        lab.sim.add_device(device, interval_s=0.05).resolves_before_objects = True
        await until(lambda: device.finished)
        assert device.answers == [b"esaelp"]


async def test_device_vanishes(directory):
    """A link that breaks closes the session with code 1, and the device is served on its return."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = VirtualDevice(lab.cloud.device_public_key)
        request = os.urandom(4096)
        device.ask(request)
        peer = lab.sim.add_device(device, interval_s=0.05)
        peer.vanish_after_frames = 12
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (1, "hotspot")
        assert close["reason"].startswith("peer: ")
        peer.vanish_after_frames = None
        await until(lambda: device.finished)
        assert device.answers == [request[::-1]]


async def test_last_frames_arrive(directory):
    """What the device sent before its link broke reaches the cloud, before CLOSE."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.withhold_credits = True
        device = EchoDevice([200] * 60)
        lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in == 16)
        lab.sim.drop_link(device)
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["state"] == "ending")
        assert not lab.cloud.find("close")
        lab.cloud.release_credits()
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"], close["frames_in"]) == (1, "hotspot", 60)


async def test_burst(directory):
    """300 frames that come at once, to a cloud that takes them all, all arrive."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice(SIZES)
        lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.find("open"))
        await until(lambda: lab.cloud.find("close") or lab.cloud.sessions
                    and lab.cloud.sessions[0].frames_in == len(SIZES))
        assert lab.cloud.find("close") == []
        assert lab.cloud.sessions[0].frames == [(0, frame) for frame in device.sent]


async def test_idle(directory):
    """A session without frames is ended with code 2, its device let go."""
    async with running_lab(directory, {"relay": {"idle_timeout_s": 1}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        opened = await lab.cloud.wait_for("open")
        close = await lab.cloud.wait_for("close")
        assert (close["code"], close["by"]) == (2, "hotspot")
        assert 0.8 < close["time"] - opened["time"] < 2
        await until(lambda: peer.link is None)


async def test_busy_for_too_long(directory):
    """A session does not outlast max_duration_s, however busy it is."""
    async with running_lab(directory, {"relay": {"max_duration_s": 1}}, cloud=ECHOES) as lab:
        await lab.working()
        device = EchoDevice([20], echo=True)
        peer = lab.sim.add_device(device, interval_s=0.05)
        opened = await lab.cloud.wait_for("open")
        close = await lab.cloud.wait_for("close")
        assert (close["code"], close["by"], close["reason"]) == (2, "hotspot", "open for too long")
        assert 0.8 < close["time"] - opened["time"] < 2
        assert close["frames_in"] > 10
        await until(lambda: peer.link is None)


async def test_stop(directory):
    """SIGTERM during a session: code 7, the device is let go, exit code 0."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        lab.sim.set_interval(device, None)
        await lab.agent.wait_for_status(
            lambda s: s["sightings"]["adverts"] == lab.sim.delivered.total())
        assert await lab.agent.stop() == 0
        close = await lab.cloud.wait_for("close")
        assert (close["code"], close["by"]) == (7, "hotspot")
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["by"]) == (1001, "hotspot")
        await until(lambda: peer.link is None)
        assert lab.cloud.totals() == dict(lab.sim.delivered)


async def test_no_links(directory):
    """max_links = 0: devices are reported, none is connected."""
    async with running_lab(directory, {"relay": {"max_links": 0}}) as lab:
        await lab.working()
        device = EchoDevice([20])
        lab.sim.add_device(device, interval_s=0.02)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] > 30)
        assert lab.sim.called("Connect") == []
        assert (await lab.agent.status())["relay"]["started"] == 0


async def test_connected_is_not_lost(directory):
    """A device in a session does not advertise, and is present; it is lost some time after."""
    options = {"devices": {"lost_after_s": 1}}
    async with running_lab(directory, options, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        lab.sim.add_device(device, interval_s=0.05)
        await lab.cloud.wait_for("open")
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["since_s"] > 2.5)
        listed = (await lab.agent.devices())[device.device_url]
        assert (listed["state"], listed["connected"], listed["last_s"] > 2) == (
            "present", True, True)
        assert not lab.cloud.find("sighting", device_id=device.device_id, state=LOST)
        lab.sim.set_interval(device, None)
        lab.cloud.sessions[0].close(0, "")
        await lab.agent.wait_for_status(lambda s: s["relay"]["links"] == 0)
        assert not (await lab.agent.devices())[device.device_url]["connected"]
        await lab.cloud.wait_for("sighting", device_id=device.device_id, state=LOST)


async def test_failing_devices_are_told(directory):
    """The first line says that devices cannot be connected, and `devices` says why."""
    async with running_lab(directory) as lab:
        await lab.working()
        device = EchoDevice([20])
        lab.sim.add_device(device, interval_s=0.05)
        lab.sim.script(device, *["connect-error"] * 20)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["failed"])
        assert status["summary"] == ("Working: 1 device present, uplink up; but 1 device could not "
                                     "be connected: see devices")
        ctl = await run(CTL, "--socket", lab.agent.socket, "devices")
        assert re.search(r" failed [\d.]+ s ago(, again in [\d.]+ s)?: connect: Connect: "
                         "org.bluez.Error.Failed: le-connection-abort", ctl.out)


async def test_rssi_floor(directory):
    """A device heard too weakly is reported, not connected, until it is heard better."""
    options = {"relay": {"rssi_floor_dbm": -70, "holdoff_ms": 0}}
    async with running_lab(directory, options, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        lab.sim.add_device(device)
        await lab.sim.advertise(device, rssi=-71, count=5)
        await lab.cloud.wait_for("sighting")
        assert lab.sim.called("Connect") == []
        await lab.sim.advertise(device, rssi=-70)
        opened = await lab.cloud.wait_for("open")
        assert opened["rssi"] == -70
