# SPDX-License-Identifier: Apache-2.0
"""Whoever is too fast is held back by who is slow: device, cloud and radio, over both bearers.

Here are the waits of a minute, so they run beside each other and all else.
"""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from contextlib import asynccontextmanager

import pytest

from device import EchoDevice
from harness import PROGRAMS, running_lab, show, until

KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
HELD_S = 60                 # that the cloud, or the radio, takes nothing
PATIENT = {"relay": {"idle_timeout_s": 2 * HELD_S}}
IDLE_S, ATT_S = 30, 30      # defaults of the agent and of bluetoothd
FRAME = 240                 # bytes
# As in agent/flow.h and ble/gatt.h. A queue has 4 bytes more for each frame.
FLOW_UP_MAX, FLOW_UP_HOLD, FLOW_DOWN_MAX = 262144, 65536, 64 * 516
GATT_WINDOW = 64
RSS_GROWTH_KB = 1024        # more than all queues of a session; what is held back is more than that
SANITIZED = "sanitize" in PROGRAMS.name     # frees nothing soon


def device_over(bearer, sizes=(20,), echo=False):
    """A device with two channels, that has L2CAP only where that is the bearer."""
    device = EchoDevice(sizes, echo)
    device.l2cap = bearer == "l2cap"
    return device


def numbered(number, first=0):
    """Frames that differ."""
    return [i.to_bytes(4, "big") * (FRAME // 4) for i in range(first, first + number)]


async def session_of(lab, device):
    """The device's session, once its first frame is there."""
    def found():
        return [s for s in lab.cloud.sessions if s.device_id == device.device_id and s.frames_in]
    [session] = await until(found)
    return session


async def told_of(lab, device):
    """What the agent's status says of its session, or None."""
    sessions = (await lab.agent.status())["relay"]["sessions"]
    return next((s for s in sessions if s["device_url"] == device.device_url), None)


@asynccontextmanager
async def beside(*jobs):
    """Run these meanwhile. One that fails fails the test."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


class Watch:
    """The most the agent held for one device, and its memory."""

    def __init__(self, lab, device):
        self.up = self.down = 0
        self.was_held = False
        self._lab, self._device = lab, device
        self.before_kb = self.peak_kb = lab.agent.rss_kb

    async def run(self):
        while True:
            await self.look()
            await asyncio.sleep(0.1)

    async def look(self):
        told = await told_of(self._lab, self._device)
        if told:
            self.up = max(self.up, told["waiting_up"])
            self.down = max(self.down, told["waiting_down"])
            self.was_held |= told["held"]
        self.peak_kb = max(self.peak_kb, self._lab.agent.rss_kb)

    def check_memory(self):
        assert SANITIZED or self.peak_kb - self.before_kb < RSS_GROWTH_KB

    @property
    def memory(self):
        if SANITIZED:
            return "memory as with sanitizers"
        return (f"RSS {self.before_kb} kB before, {self.peak_kb} kB at most, "
                f"{self._lab.agent.rss_kb} kB after")


class Arrivals:
    """A raw_handler: answers nothing, and wakes who waits for a device's next frame."""

    def __init__(self):
        self.events = defaultdict(asyncio.Event)    # by device

    def __call__(self, session, _channel, _payload):
        self.events[session.device_id].set()
        return []


class Meter:
    """A session whose frames come back from the device, one at a time: how long each takes."""

    def __init__(self, lab, arrivals, bearer):
        self.device = device_over(bearer, echo=True)
        self._arrived = arrivals.events[self.device.device_id]
        self.times = defaultdict(list)      # by phase
        self.phase = "before"
        self._bearer = bearer
        self._lab = lab
        lab.sim.add_device(self.device, interval_s=0.05)

    async def run(self):
        session = await session_of(self._lab, self.device)
        for number in itertools.count(1):
            frame = number.to_bytes(4, "big") * (FRAME // 4)
            self._arrived.clear()
            began = time.monotonic()
            session.send_frames([frame])
            async with asyncio.timeout(5):
                await self._arrived.wait()
            self.times[self.phase].append(time.monotonic() - began)
            assert session.received[0][-1] == frame and session.frames_in == number + 1
            await asyncio.sleep(0.03)

    async def measured(self, number):
        """So many in this phase."""
        await until(lambda: len(self.times[self.phase]) >= number, 20, f"{number} {self.phase}")

    def show(self, what):
        phases = [f"{phase} {percentile(times, 50):.1f} / {percentile(times, 99):.1f} "
                  f"(of {len(times)})" for phase, times in self.times.items()]
        show(f"{what}: round trip beside it over {self._bearer}, p50 / p99 ms: "
             + ", ".join(phases))


def percentile(times, percent):
    """In milliseconds."""
    return 1000 * sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


# --- A cloud that gives no credits ---

class Sender:
    """A device that goes on sending, on both channels."""

    def __init__(self, lab, device, each, every_s):
        self.sent = {0: [], 1: []}
        self._lab, self._device = lab, device
        self._each, self._every_s = each, every_s

    async def run(self):
        while True:
            for channel, sent in self.sent.items():
                frames = numbered(self._each, len(sent))
                sent += frames
                self._lab.sim.send(self._device, *frames, channel=channel)
            await asyncio.sleep(self._every_s)

    @property
    def number(self):
        return sum(map(len, self.sent.values()))


async def held_by_the_cloud(lab, device, each, every_s):
    """The device sends for HELD_S to a cloud that takes nothing; then all arrives, in order."""
    lab.sim.add_device(device, interval_s=0.05)
    session = await session_of(lab, device)
    watch, sender = Watch(lab, device), Sender(lab, device, each, every_s)
    session.hold()
    async with beside(watch.run()):
        async with beside(sender.run()):
            await asyncio.sleep(HELD_S / 3)
            waiting = lab.sim.waiting(device)
            await asyncio.sleep(2 * HELD_S / 3)
        assert session.frames_in <= 1 + session.window
        grown = lab.sim.waiting(device) - waiting
        session.hold(False)
        await until(lambda: session.frames_in == 1 + sender.number, 30)
        await until(lambda: told_is(lab, device, held=False))
        assert session.received[0][1:] == sender.sent[0]
        assert session.received[1] == sender.sent[1]
    watch.check_memory()
    show(f"cloud without credits for {HELD_S} s, device over {session_bearer(lab, device)}: "
         f"{sender.number} frames of {FRAME} bytes, {watch.up} bytes held at most, {watch.memory}")
    return watch, grown


async def told_is(lab, device, **fields):
    told = await told_of(lab, device)
    return all(told[name] == value for name, value in fields.items())


def session_bearer(lab, device):
    return lab.sim.sessions(device)[-1].channels[0]


@pytest.mark.long
async def test_cloud_holds_back_l2cap(directory):
    """A device that sends 2.8 MB to a cloud that gives no credits for a minute is held back."""
    async with running_lab(directory, PATIENT, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        watch, grown = await held_by_the_cloud(lab, device_over("l2cap"), 10, 0.1)
        assert grown > 1000
        assert watch.was_held
        assert FLOW_UP_HOLD < watch.up <= FLOW_UP_HOLD + 516


@pytest.mark.long
async def test_cloud_holds_gatt(directory):
    """Over GATT a device cannot be held back: what it sends in a minute waits in the agent."""
    async with running_lab(directory, PATIENT, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        watch, grown = await held_by_the_cloud(lab, device_over("gatt"), 1, 0.15)
        assert grown == 0 and not watch.was_held
        assert FLOW_UP_HOLD < watch.up <= FLOW_UP_MAX


async def test_cloud_overflows_gatt(directory):
    """Over GATT a session whose frames do not fit any more is closed with code 4, and says why."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over("gatt")
        lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        session.hold()
        watch = Watch(lab, device)
        fits = FLOW_UP_MAX // (FRAME + 4)
        # From its first frame on: what was sent stays in the queue until the cloud says it came.
        lab.sim.send(device, *numbered(fits - 1))
        await until(lambda: told_is(lab, device, waiting_up=(fits - 1) * (FRAME + 4) + 24))
        await watch.look()
        assert watch.up <= FLOW_UP_MAX and not lab.cloud.find("close")
        lab.sim.send(device, *numbered(2))
        close = await lab.cloud.wait_for("close", device_id=device.device_id)
        assert (close["code"], close["by"]) == (4, "hotspot")
        assert close["reason"] == "the cloud takes frames too slowly"
        await until(lambda: lab.sim.peer(device).link is None)
        watch.check_memory()
        show(f"cloud without credits, device over gatt until it is full: {watch.up} bytes held at "
             f"most, {watch.memory}")


# --- A radio that takes no frames ---

@pytest.mark.long
@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_radio_holds_back_the_cloud(directory, bearer):
    """A radio that takes nothing for a minute holds back the cloud, not other sessions."""
    arrivals = Arrivals()
    async with running_lab(directory, PATIENT, cloud={"settings": {"credits": 64},
                                                      "raw_handler": arrivals}) as lab:
        await lab.working()
        lab.sim.att_timeout_s = 2 * HELD_S
        meters = [Meter(lab, arrivals, "l2cap"), Meter(lab, arrivals, "gatt")]
        device = device_over(bearer)
        lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        watch, frames = Watch(lab, device), numbered(6000)
        async with beside(watch.run(), *(m.run() for m in meters)):
            await measured(meters, "before")
            lab.sim.stall(device)
            for channel in (0, 1):
                session.send_frames(frames[channel::2], channel)
            end = time.monotonic() + HELD_S
            await until(lambda: session.credits_out == 0)
            await measured(meters, "during")
            gone = session.frames_out
            await asyncio.sleep(end - time.monotonic())
            assert session.credits_out == 0 and session.frames_out == gone < len(frames) / 10
            assert not device.answers and not lab.cloud.find("close")
            lab.sim.stall(device, False)
            await until(lambda: len(device.answers) + len(device.received_on[1]) == len(frames), 30)
            await measured(meters, "after")
            assert [device.received_on[c] for c in (0, 1)] == [frames[0::2], frames[1::2]]
        assert 0 < watch.down <= FLOW_DOWN_MAX
        watch.check_memory()
        what = f"radio stalled for {HELD_S} s over {bearer}"
        show(f"{what}: cloud stopped after {gone} frames of {FRAME} bytes, {watch.down} bytes held "
             f"at most, {watch.memory}")
        for meter in meters:
            meter.show(what)


async def measured(meters, phase):
    for meter in meters:
        meter.phase = phase
    for meter in meters:
        await meter.measured(100)


@pytest.mark.long
async def test_radio_stalls_for_too_long(directory):
    """Over GATT bluetoothd gives a device that answers nothing 30 s: the session ends, and tells.
    """
    async with running_lab(directory, PATIENT, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over("gatt")
        lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        lab.sim.stall(device)
        session.send_frames(numbered(300))
        began = time.monotonic()
        close = await lab.cloud.wait_for("close", ATT_S + 10, device_id=device.device_id)
        assert ATT_S - 1 < time.monotonic() - began
        assert (close["code"], close["by"]) == (1, "hotspot")
        assert close["reason"].startswith("peer: ")
        assert lab.sim.sessions(device)[0].end == "att-timeout"
        # It is served again.
        lab.sim.stall(device, False)
        device.ask(b"again")
        await lab.cloud.wait_for("open", device_id=device.device_id, count=2)


# --- Idle ---

@pytest.mark.long
@pytest.mark.parametrize("bearer,who", [("l2cap", "radio"), ("l2cap", "cloud"), ("gatt", "cloud")])
async def test_stalled_is_idle(directory, bearer, who):
    """A session that cannot go on does not keep its slot: code 4 after the default idle timeout."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = device_over(bearer)
        lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        if who == "radio":
            lab.sim.stall(device)
            session.send_frames(numbered(300))
            await until(lambda: session.credits_out == 0)
        else:
            session.hold()
            lab.sim.send(device, *numbered(40))
            await until(lambda: session.credits_in == 0)
        began = time.monotonic()
        close = await lab.cloud.wait_for("close", IDLE_S + 10, device_id=device.device_id)
        assert IDLE_S - 1 < time.monotonic() - began
        assert (close["code"], close["by"]) == (4, "hotspot")
        assert close["reason"] == f"the {who} takes no frames"
        await until(lambda: lab.sim.peer(device).link is None)


# --- Slow radios ---

class Peak(deque):
    """Remembers how long it was."""

    peak = 0

    def append(self, item):
        super().append(item)
        self.peak = max(self.peak, len(self))


async def test_gatt_is_paced(directory):
    """Of writes without response no more than the window wait in bluetoothd, and not much less."""
    async with running_lab(directory, cloud={"settings": {"credits": 64}, **KEEPS_OPEN}) as lab:
        await lab.working()
        device = device_over("gatt")
        peer = lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        peer.frames_per_s = 150
        waiting = peer.link.att.writes = Peak()
        frames = numbered(600)
        for channel in (0, 1):
            session.send_frames(frames[channel::2], channel)
        await until(lambda: len(device.answers) + len(device.received_on[1]) == len(frames), 15)
        assert GATT_WINDOW / 2 < waiting.peak <= GATT_WINDOW
        assert [device.received_on[c] for c in (0, 1)] == [frames[0::2], frames[1::2]]


@pytest.mark.parametrize("bearer", ["l2cap", "gatt"])
async def test_done_after_many_frames(directory, bearer):
    """A device has all frames before it is let go, where the cloud says that it is done."""
    async with running_lab(directory, cloud={"settings": {"credits": 64}, **KEEPS_OPEN}) as lab:
        await lab.working()
        device = device_over(bearer)
        peer = lab.sim.add_device(device, interval_s=0.05)
        session = await session_of(lab, device)
        peer.frames_per_s = 60
        frames = numbered(600)
        for number, frame in enumerate(frames):
            session.send_frames([frame], number % 2)
        await until(lambda: session.frames_out >= 100)
        # So that as many are on their way as credits allow: those of less than half are not due.
        lab.sim.stall(device)
        await until(lambda: session.credits_out == 0)
        sent = frames[:session.frames_out]
        arrived = len(device.answers) + len(device.received_on[1])
        session.close(0, "")
        assert arrived < len(sent) - session.window / 2
        lab.sim.stall(device, False)
        await until(lambda: peer.link is None)
        assert [device.received_on[c] for c in (0, 1)] == [sent[0::2], sent[1::2]]
        assert lab.sim.sessions(device)[0].end == "client"
        await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
