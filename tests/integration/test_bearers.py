# SPDX-License-Identifier: Apache-2.0
"""The two bearers, L2CAP and GATT: which one a session gets, its channels, and its end."""

import asyncio
import os
import random
import time

import pytest

from bluez_sim import Beacon, CocRequest, Faults
from device import EchoDevice
from harness import running_lab, stopped, until

KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
ECHOES = {"raw_handler": lambda session, channel, payload: [payload]}
BEARERS = {"gatt": 0, "l2cap": 1}           # as OPEN has them
MAX_FRAME = {"gatt": 244, "l2cap": 245}     # of the simulated devices
MAIN, SECOND = 0xB2, 0xB3                   # PSMs
L2CAP_S, SECOND_S = 3, 2                    # what the agent waits for a device's answer
FRAMES = 1000
QUEUED_200 = 204                            # bytes a frame of 200 takes in the agent's queue
NO_LUCK = ("org.bluez.Error.Failed", "no such luck")


def frames_of(who, channel, max_frame, number=FRAMES):
    """Frames of 1 to max_frame bytes; no two streams of them are alike."""
    source = random.Random(f"{who} {channel}")
    return [source.randbytes(1 + i % max_frame) for i in range(number)]


def device_over(bearer, channels=2, sizes=()):
    """A device that has GATT, and L2CAP only where that is the bearer."""
    device = EchoDevice(sizes)
    device.l2cap = bearer == "l2cap"
    device.channels = channels
    return device


def hook(device, event, action):
    """Do something the moment that a device says so."""
    device.on_event = lambda name, details: action() if name == event else None


def psms(lab):
    """That the agent asked for, in order."""
    return [request.psm for request, _ in lab.sim.coc_requests]


def connections(lab, device):
    """All attempts to connect this device."""
    return [c for c in lab.sim.connections if c.device_id == device.device_id]


async def failure_of(lab, device):
    """Why the device's last session failed, as the status socket says; None if it did not."""
    return (await lab.agent.devices()).get(device.device_url, {}).get("failure")


async def session_of(lab, device, number=1):
    """The device's session, open on both sides, with the status the agent has of it."""
    opened = await lab.cloud.wait_for("open", 15, device_id=device.device_id, count=number)
    [session] = [s for s in lab.cloud.sessions if s.device_id == device.device_id]
    status = await lab.agent.wait_for_status(lambda s: any(
        r["device_url"] == device.device_url and r["accepted"] for r in s["relay"]["sessions"]))
    [told] = [s for s in status["relay"]["sessions"] if s["device_url"] == device.device_url]
    return session, opened, told


def check_told(opened, told, bearer, channels, max_frame):
    """The cloud and the status display were told the same."""
    assert (opened["bearer"], opened["channels"], opened["max_frame"]) == (
        BEARERS[bearer], channels, max_frame)
    assert (told["bearer"], told["channels"], told["max_frame"]) == (bearer, channels, max_frame)


async def works(device, session, channels):
    """Every open channel carries a frame each way."""
    for channel in range(channels):
        frame = b"on %d" % channel
        session.send_frames([frame], channel)
        await until(lambda: frame in device.received_on[channel])


# --- Frames ---

@pytest.mark.parametrize("bearer,channels", [("l2cap", 1), ("l2cap", 2), ("gatt", 1), ("gatt", 2)])
async def test_frames_both_ways(directory, bearer, channels):
    """1,000 frames of each size there is, each way on each channel at once: the same bytes arrive.
    """
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device, longest = device_over(bearer, channels), MAX_FRAME[bearer]
        for channel in range(channels):
            # In all less than FLOW_UP_MAX: over GATT, which cannot hold a device back, it fits.
            for frame in frames_of("device", channel, longest):
                device.ask(frame, channel)
        lab.sim.add_device(device, interval_s=0.05)
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, bearer, channels, longest)
        for channel in range(channels):
            session.send_frames(frames_of("cloud", channel, longest), channel)
        await until(lambda: session.frames_in >= channels * FRAMES, 20)
        await until(lambda: all(len(device.received_on[c]) >= FRAMES for c in range(channels)), 20)
        for channel in range(channels):
            assert session.received[channel] == frames_of("device", channel, longest)
            assert device.received_on[channel] == frames_of("cloud", channel, longest)
        assert lab.sim.sessions(device)[0].channels == dict.fromkeys(range(channels), bearer)
        session.close(0, "")
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        assert status["relay"]["frames_up"] == status["relay"]["frames_down"] == channels * FRAMES


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_longest_frame(directory, bearer):
    """512 bytes pass each way, whatever more the device would take."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over(bearer, 1, [512])
        peer = lab.sim.add_device(device, interval_s=0.05)
        peer.sndmtu, peer.mtu = 2000, 517
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, bearer, 1, 512)
        await until(lambda: device.answers)
        assert device.answers == device.sent


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_too_long_from_the_device(directory, bearer):
    """A frame of 513 bytes ends the session, and nothing of it reaches the cloud."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over(bearer, 1, [20])
        lab.sim.add_device(device, interval_s=0.05)
        await session_of(lab, device)
        lab.sim.send(device, bytes(513))
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"], close["bytes_in"]) == (1, "hotspot", 20)


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_too_long_from_the_cloud(directory, bearer):
    """A frame over max_frame ends the session with code 8, and nothing of it reaches the device."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over(bearer, 1, [20])
        lab.sim.add_device(device, interval_s=0.05)
        session, _, _ = await session_of(lab, device)
        session.send_frames([bytes(20), bytes(MAX_FRAME[bearer] + 1)])
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (8, "hotspot")
        assert device.answers in ([], [bytes(20)])


# --- Addresses ---

@pytest.mark.parametrize("adapter_type", ["public", "random"])
@pytest.mark.parametrize("device_type", ["public", "random"])
async def test_addresses(directory, adapter_type, device_type):
    """The sockets are bound to the adapter's address and connected to the device's, types too."""
    async with running_lab(directory, cloud=ECHOES, start_agent=False) as lab:
        lab.sim.adapters[0].address_type = adapter_type
        await lab.agent.start()
        await lab.working()
        device = device_over("l2cap", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        peer.address_type = device_type
        await until(lambda: device.answers)
        assert [request for request, _ in lab.sim.coc_requests] == [
            CocRequest("00:AA:01:00:00:00", adapter_type, peer.address, device_type, psm, 512, 1)
            for psm in (MAIN, SECOND)]


async def test_second_adapter(directory):
    """A device that another adapter hears is connected from that one's address."""
    async with running_lab(directory, cloud=ECHOES, start_agent=False) as lab:
        lab.sim.add_adapter(1, "00:AA:01:00:00:01")
        await lab.agent.start()
        await lab.working()
        device = device_over("l2cap", 2, [20])
        lab.sim.add_device(device, adapter=1, interval_s=0.05)
        await until(lambda: device.answers)
        assert {request.src for request, _ in lab.sim.coc_requests} == {"00:AA:01:00:00:01"}


# --- Which bearer ---

async def test_refused(directory):
    """A device that refuses L2CAP has GATT at once, in the same connection, and the next time GATT
    alone; L2CAP is tried again after GATT has failed.
    """
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("gatt", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, "gatt", 2, 244)
        [connection] = connections(lab, device)
        assert connection.channels == {0: "gatt", 1: "gatt"}
        loop_now = asyncio.get_running_loop().time()
        assert loop_now - connection.up_at < L2CAP_S / 2
        assert psms(lab) == [MAIN]
        session.close(0, "")

        device.ask(b"again")
        session, opened, told = await session_of(lab, device, 2)
        check_told(opened, told, "gatt", 2, 244)
        assert psms(lab) == [MAIN]

        peer.script.append(Faults(acquire_notify_error=NO_LUCK))
        device.l2cap = True
        session.close(0, "")
        device.ask(b"and again")
        session, opened, told = await session_of(lab, device, 3)
        check_told(opened, told, "l2cap", 2, 245)
        assert not peer.script and len(connections(lab, device)) == 4
        assert psms(lab) == [MAIN, MAIN, SECOND]
        await works(device, session, 2)


@pytest.mark.long
async def test_never_answers(directory):
    """A device that never answers over L2CAP has GATT after the deadline, then GATT at once."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 2, [20])
        lab.sim.add_device(device, interval_s=0.05)
        lab.sim.script(device, "l2cap-never-answers")
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, "gatt", 2, 244)
        [connection] = connections(lab, device)
        waited_s = asyncio.get_running_loop().time() - connection.up_at
        assert L2CAP_S - 0.5 < waited_s < L2CAP_S + 3
        await works(device, session, 2)
        session.close(0, "")
        device.ask(b"again")
        _, opened, told = await session_of(lab, device, 2)
        check_told(opened, told, "gatt", 2, 244)
        assert psms(lab) == [MAIN]


async def test_l2cap_stays(directory):
    """A device that took L2CAP has it the next time too."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 1, [20])
        lab.sim.add_device(device, interval_s=0.05)
        for number in (1, 2):
            session, opened, told = await session_of(lab, device, number)
            check_told(opened, told, "l2cap", 1, 245)
            session.close(0, "")
            await until(lambda: not lab.sim.peer(device).link)
            device.ask(b"again")
        assert lab.sim.called("AcquireNotify") == []


@pytest.mark.parametrize("fault,reason", [
    ("l2cap_refused", "L2CAP PSM 0xB2: Connection refused"),
    pytest.param("l2cap_never_answers", "L2CAP: no answer from the device",
                 marks=pytest.mark.long)])
async def test_l2cap_alone(directory, fault, reason):
    """With bearer = "l2cap" a device that does not take it fails, says why, and gets no GATT."""
    async with running_lab(directory, {"relay": {"bearer": "l2cap"}}, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        setattr(peer, fault, True)
        assert reason in await until(lambda: failure_of(lab, device))
        await lab.agent.wait_for_status(lambda s: s["relay"]["failed"] >= 1)
        setattr(peer, fault, False)
        await until(lambda: device.answers)
        assert [c.device_id for c in lab.cloud.sessions] == [device.device_id]
        assert lab.sim.called("AcquireNotify") == lab.sim.called("AcquireWrite") == []


async def test_gatt_alone(directory):
    """With bearer = "gatt" no PSM is ever asked for."""
    async with running_lab(directory, {"relay": {"bearer": "gatt"}}, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 2, [20])
        lab.sim.add_device(device, interval_s=0.05)
        for number in (1, 2):
            session, opened, told = await session_of(lab, device, number)
            check_told(opened, told, "gatt", 2, 244)
            session.close(0, "")
            device.ask(b"again")
        assert psms(lab) == []


# --- Without channel 1 ---

async def test_psm_of_channel_1_refused(directory):
    """A device without PSM 0xB3 has channel 0 alone, at once."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 1, [20])
        lab.sim.add_device(device, interval_s=0.05)
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, "l2cap", 1, 245)
        assert psms(lab) == [MAIN, SECOND]
        await works(device, session, 1)


async def without_channel_1(lab, device, spoil):
    """Channel 1 fails to answer after spoil(); the session is there in time, with channel 0."""
    times = []

    def channel_0_is_open():
        times.append(time.time())
        spoil()
    hook(device, "session_open", channel_0_is_open)
    session, opened, told = await session_of(lab, device)
    assert SECOND_S - 0.5 < opened["time"] - times[0] < SECOND_S + 1.5
    check_told(opened, told, device.bearer, 1, MAX_FRAME[device.bearer])
    await until(lambda: device.answers)         # what it said before OPEN
    await works(device, session, 1)
    return session


async def test_psm_of_channel_1_never_answers(directory):
    """A device that does not answer for PSM 0xB3 has channel 0 alone, after two seconds."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("l2cap", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await without_channel_1(lab, device, lambda: setattr(peer, "l2cap_never_answers", True))
        assert psms(lab) == [MAIN, SECOND]


async def test_subscription_of_channel_1_never_answers(directory):
    """The same over GATT, where AcquireNotify of channel 1 does not return."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("gatt", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await without_channel_1(
            lab, device, lambda: setattr(peer, "acquire_notify_never_answers", True))
        assert len(lab.sim.called("AcquireNotify")) == 2


async def test_subscription_of_channel_1_fails(directory):
    """The same over GATT, at once where AcquireNotify of channel 1 is an error."""
    async with running_lab(directory, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over("gatt", 2, [20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        hook(device, "session_open", lambda: setattr(peer, "acquire_notify_error", NO_LUCK))
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, "gatt", 1, 244)
        await works(device, session, 1)


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_channel_1_too_late(directory, bearer):
    """Channel 1 that opens after it was given up is closed again; the session goes on without."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over(bearer, 2, [20])
        device.ask(b"too early", 1)
        peer = lab.sim.add_device(device, interval_s=0.05)
        hook(device, "session_open", lambda: lab.sim.stall(device))
        session, opened, told = await session_of(lab, device)
        check_told(opened, told, bearer, 1, MAX_FRAME[bearer])
        before = open_fds(lab.agent)
        lab.sim.stall(device, False)
        await works(device, session, 1)
        await until(lambda: set(peer.link._open) == {0})
        await until(lambda: open_fds(lab.agent) <= before)
        assert session.frames == [(0, device.sent[0])]


# --- The end ---

@pytest.mark.parametrize("channel", [0, 1])
async def test_device_closes_a_channel(directory, channel):
    """Either channel's end is the session's, code 1, after all that was sent on both."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device, other = device_over("l2cap"), 1 - channel
        for frame in frames_of("device", channel, 245, 60):
            device.ask(frame, channel)
        for frame in frames_of("device", other, 245, 10):
            device.ask(frame, other)
        peer = lab.sim.add_device(device, interval_s=0.05)
        session, _, _ = await session_of(lab, device)
        await until(lambda: session.frames_in == 70)
        last = frames_of("last", channel, 245, 40)
        peer.l2cap_closes_after_frames = 100
        lab.cloud.withhold_credits = True           # so that they are on their way for a while
        lab.sim.send(device, *last, b"never", channel=channel)
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["state"] == "ending")
        lab.cloud.release_credits()
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (1, "hotspot")
        assert close["reason"] == f"peer: the device closed channel {channel}"
        assert session.received[channel] == device.sent_on[channel] + last
        assert session.received[other] == device.sent_on[other]
        await until(lambda: not peer.link)
        await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_link_breaks_both_ways_full(directory, bearer):
    """What the device sent before its link broke arrives, though frames to it did not."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over(bearer, 2, [20])
        lab.sim.add_device(device, interval_s=0.05)
        session, _, _ = await session_of(lab, device)
        await until(lambda: session.frames_in == 1)
        lab.sim.stall(device)
        session.send_frames(frames_of("cloud", 0, 244, 300))
        await until(lambda: session.credits_out == 0)
        for channel in (0, 1):
            lab.sim.send(device, *frames_of("device", channel, 244, 5), channel=channel)
        lab.sim.drop_link(device)
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["reason"][:6]) == (1, "peer: ")
        assert session.received[0][1:] == frames_of("device", 0, 244, 5)
        assert session.received[1] == frames_of("device", 1, 244, 5)


async def test_link_breaks_while_held_back(directory):
    """What waited in the sockets of a device that was held back arrives, though the link broke."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.withhold_credits = True
        device, beacon = device_over("l2cap", 2, [20]), Beacon()
        lab.sim.add_device(beacon)
        lab.sim.add_device(device, interval_s=0.05)
        session, _, _ = await session_of(lab, device)
        for channel in (0, 1):
            lab.sim.send(device, *frames_of("device", channel, 245), channel=channel)
        await until(lambda: all(lab.sim.waiting(device, c) for c in (0, 1)))
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["held"])
        lab.sim.stall(device)
        for channel in (0, 1):
            session.send_frames([bytes(200)] * 8, channel)
        # All have come, and those for which there was room are in the sockets, unread.
        await lab.agent.wait_for_status(
            lambda s: 2 <= s["relay"]["sessions"][0]["frames_down"]
            == 16 - s["relay"]["sessions"][0]["waiting_down"] / QUEUED_200)
        with stopped(lab.agent.process.pid):    # and then D-Bus has been ready for longer
            await lab.sim.advertise(beacon)
            lab.sim.drop_link(device)
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["state"] == "ending")
        lab.cloud.release_credits()
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["reason"][:6]) == (1, "peer: ")
        for channel in (0, 1):
            gone = [f.data for f in lab.sim.frames[device.device_id]
                    if f.direction == "from_device" and f.channel == channel]
            assert gone and session.received[channel] == gone


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_never_opens(directory, bearer):
    """A link that breaks while its channels open fails, with no session and nothing left open."""
    async with running_lab(directory, {"relay": {"bearer": bearer}}, cloud=ECHOES) as lab:
        await lab.working()
        device = device_over(bearer, 2, [20])
        before = open_fds(lab.agent)
        lab.sim.add_device(device, interval_s=0.05)
        hook(device, "session_open", lambda: asyncio.get_running_loop().call_soon(
            lab.sim.drop_link, device))
        await until(lambda: failure_of(lab, device))
        assert lab.cloud.find("open") == []
        await until(lambda: open_fds(lab.agent) <= before)  # one who asked may have been left
        device.on_event = None
        device.ask(b"again")
        await until(lambda: b"again" in device.answers)


def open_fds(agent):
    """How many file descriptors the agent has."""
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_nothing_leaks(directory, bearer):
    """After 50 sessions the agent has the files open that it had before."""
    sessions = 0

    def close(session, _channel, _payload):
        nonlocal sessions
        sessions += 1
        session.close(0, "")
        return []
    async with running_lab(directory, cloud={"raw_handler": close}) as lab:
        await lab.working()
        before = open_fds(lab.agent)
        devices = [device_over(bearer, 1 + i % 2) for i in range(4)]

        def ask_again(device):
            if device.sessions < 13:
                device.ask(b"again")
        for device in devices:
            hook(device, "closed", lambda device=device: ask_again(device))
            device.ask(b"first")
            peer = lab.sim.add_device(device, interval_s=0.02)
            peer.connect_delay_s = peer.resolve_delay_s = 0.01
        status = await lab.agent.wait_for_status(
            lambda s: s["relay"]["served"] == 52 and not s["relay"]["sessions"], 25)
        assert sessions == 52 and status["relay"]["failed"] == 0
        assert {b for d in devices for b, _ in d.opened_channels} == {bearer}
        await until(lambda: open_fds(lab.agent) <= before)  # one who asked may have been left
        assert not any(known.link for known in lab.sim.adapters[0].known.values())
