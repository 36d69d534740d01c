# SPDX-License-Identifier: Apache-2.0
"""A session outlives the uplink's connection: nothing is lost, nothing comes twice."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

import tls
from device import EchoDevice
from harness import messages, running_lab, show, until
from network import CLOUD_ADDRESS, Network, Switch
from test_relay import KEEPS_OPEN, SteadyDevice

OPEN = 20
CUTS = 20
FRAMES = [number.to_bytes(4, "big") + bytes(236) for number in range(4200)]     # over 1 MB
HELD = 65536        # bytes of a device's frames from which on it is held back


class Gaps:
    """The longest time between two frames."""

    def __init__(self):
        self.longest_s, self._last = 0.0, None

    def tick(self):
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - (self._last or now))
        self._last = now


class Transfer:
    """FRAMES go to the cloud in one session, and all come back."""

    def __init__(self, lab, device):
        self.lab, self.device = lab, device
        self.up, self.down = Gaps(), Gaps()
        device.on_event = lambda name, details: name == "answer" and self.down.tick()
        lab.cloud.raw_handler = self._received
        for frame in FRAMES:
            device.ask(frame)

    def _received(self, session, channel, payload):
        self.up.tick()
        return [payload]

    async def begin(self):
        """The session is open."""
        # The radio is slow enough that it is seen how far the transfer is.
        self.lab.sim.add_device(self.device, interval_s=0.1).frames_per_s = 2000
        await until(lambda: self.lab.cloud.sessions and self.device.answers)
        [self.session] = self.lab.cloud.sessions

    @property
    def done(self):
        """Frames that are through, up and down."""
        return self.session.frames_in, len(self.device.answers)

    async def reaches(self, part):
        """So much of it is at the cloud."""
        await until(lambda: self.session.frames_in >= part * len(FRAMES), 30)
        assert not self.lab.cloud.find("close")

    def goes_on(self):
        return self.session.frames_in < len(FRAMES)

    async def resumed(self, times, done):
        """The session has gone on for the times-th time, with frames both ways since `done`."""
        await self.lab.cloud.wait_for("resumed", 20, times)
        await self.lab.agent.wait_for_status(
            lambda s: s["relay"]["sessions"][0]["resumed"] == times)
        await until(lambda: all(now > before for now, before in zip(self.done, done)))

    async def ends(self):
        """All came, as it was sent, in one session of one link."""
        await until(lambda: self.done == (len(FRAMES), len(FRAMES)), 30)
        assert self.device.answers == FRAMES
        assert self.session.frames == [(0, frame) for frame in FRAMES]
        assert self.device.sessions == len(self.lab.cloud.find("open")) == 1
        assert len(self.lab.sim.connections) == 1
        self.session.close(0, "")
        status = await self.lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
        assert status["relay"]["frames_up"] == status["relay"]["frames_down"] == len(FRAMES)
        assert status["relay"]["resumed"] == CUTS

    def tell(self, how):
        show(f"{CUTS} connections {how} in {2 * len(FRAMES) * len(FRAMES[0]) / 1e6:.1f} MB: "
             f"longest without a frame {self.up.longest_s:.2f} s up, "
             f"{self.down.longest_s:.2f} s down; {self.session.resent} sent again down")


def l2cap_device():
    """With many frames on their way."""
    device = SteadyDevice([], window=48)
    device.l2cap, device.channels = True, 1
    return device


def gatt_device():
    """With a few: it cannot be held back."""
    return SteadyDevice([])


@asynccontextmanager
async def switched_lab(directory, switch, address="127.0.0.1", options=None, prepare=None):
    """A lab whose agent reaches its cloud through a switch."""
    def certificate(path, ca):
        return tls.make_server_cert(path, [address], ca=ca)
    relay = {"uplink": {"url": f"wss://{address}:{switch.port}/", **(options or {})}}
    async with running_lab(directory, relay, start_agent=False, pair=certificate,
                           cloud={"record_raw": False}) as lab:
        switch.target = lab.cloud.port
        if prepare:
            lab.agent.prepare = prepare(lab.agent.prepare)
        await lab.agent.start()
        await lab.working()
        yield lab


@pytest.mark.long
@pytest.mark.parametrize("make", [l2cap_device, gatt_device])
async def test_reset(directory, make):
    """The connection is reset 20 times during a transfer of 1 MB each way."""
    async with Switch() as switch, switched_lab(directory, switch) as lab:
        transfer = Transfer(lab, make())
        await transfer.begin()
        for cut in range(1, CUTS + 1):
            await transfer.reaches(cut / (CUTS + 2))
            assert transfer.goes_on()
            done = transfer.done
            switch.reset()
            await transfer.resumed(cut, done)
        await transfer.ends()
        transfer.tell(f"reset ({transfer.device.bearer})")


@pytest.mark.long
async def test_silence(directory):
    """20 times during such a transfer packets are dropped, until the agent finds out by a ping."""
    options = {"ping_interval_s": 1, "ping_timeout_s": 1}
    async with Network() as network, Switch(await network.listen()) as switch, \
            switched_lab(directory, switch, CLOUD_ADDRESS, options, network.enter_hub) as lab:
        transfer = Transfer(lab, l2cap_device())
        await transfer.begin()
        for cut in range(1, CUTS + 1):
            await transfer.reaches(cut / (CUTS + 2))
            assert transfer.goes_on()
            await network.drop()
            done = transfer.done
            status = await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up", 5)
            assert "no answer to a ping" in status["uplink"]["error"]
            await network.restore()
            await transfer.resumed(cut, done)
        await transfer.ends()
        transfer.tell("silenced")


# --- The window, and what is not there any more ---

def quiet_device(l2cap=False):
    """One that sends a frame and stays; what it sees is in its events."""
    device = EchoDevice([20])
    device.l2cap = l2cap
    device.events = []
    device.on_event = lambda name, details: device.events.append(name)
    return device


async def opened(lab, device, number=1):
    """Its session, open at the cloud and accepted."""
    await lab.cloud.wait_for("open", 10, number, device_id=device.device_id)
    await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
    await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["accepted"])
    return lab.cloud.sessions[0]


async def cut(lab, keep_sessions=True):
    """The cloud is gone, and the agent knows."""
    await lab.cloud.kill(keep_sessions)
    await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")


async def let_go(lab, device, log):
    """The agent ended the session for that reason, without a fault of the device's."""
    await until(lambda: "closed" in device.events, what="the device to be let go")
    assert log in await lab.agent.wait_for_log("ended:")
    assert (await lab.agent.status())["relay"]["failed"] == 0


async def served_again(lab, device):
    device.ask(b"again")
    session = await opened(lab, device, 2)
    assert [frame for _, frame in session.frames] == [b"again"]
    assert device.sessions == 2


@pytest.mark.parametrize("resume_max_s", [0, 1])
async def test_past_the_agents_window(directory, resume_max_s):
    """The device is let go while the uplink is down, then served; the cloud drops its half."""
    async with running_lab(directory, {"relay": {"resume_max_s": resume_max_s}},
                           cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device()
        lab.sim.add_device(device, interval_s=0.05)
        old = await opened(lab, device)
        began = time.monotonic()
        await cut(lab)
        await let_go(lab, device, "the uplink was down for too long" if resume_max_s
                     else "the uplink is down")
        assert resume_max_s <= time.monotonic() - began < resume_max_s + 1
        assert old.suspended
        await lab.cloud.start()
        await lab.cloud.wait_for("close", session=old.number, reason="not listed by the hotspot")
        await served_again(lab, device)


async def test_past_the_window_before_welcome(directory):
    """The cloud goes on with what HELLO has listed, and is told that it is over."""
    async with running_lab(directory, {"relay": {"resume_max_s": 2}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device(l2cap=True)
        lab.sim.add_device(device, interval_s=0.05)
        old = await opened(lab, device)
        welcome = lab.cloud.welcome
        lab.cloud.welcome = lambda hotspot: asyncio.get_running_loop().call_later(
            2.5, welcome, hotspot)
        await cut(lab)
        await lab.cloud.start()
        close = await lab.cloud.wait_for("close", session=old.number, timeout_s=8)
        assert (close["code"], close["by"]) == (6, "hotspot")
        assert lab.cloud.find("resumed", session=old.number)
        await let_go(lab, device, "the uplink was down for too long")
        lab.cloud.welcome = welcome
        await served_again(lab, device)


@pytest.mark.parametrize("how", ["window", "forgotten"])
async def test_cloud_has_it_no_more(directory, how):
    """It was kept for too short a time there, or lost: the device is let go, then served."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device(l2cap=True)
        lab.sim.add_device(device, interval_s=0.05)
        old = await opened(lab, device)
        lab.cloud.resume_ms = 50        # other than it said
        await cut(lab, keep_sessions=how == "window")
        close = await lab.cloud.wait_for("close", session=old.number)
        assert close["code"] == (6 if how == "window" else None)
        assert (await lab.agent.status())["relay"]["sessions"][0]["suspended"]
        assert "closed" not in device.events
        await lab.cloud.start()
        await let_go(lab, device, "the cloud does not have the session any more")
        await served_again(lab, device)


@pytest.mark.parametrize("how", ["unread", "forgotten", "kept"])
async def test_before_accept(directory, how):
    """The connection ends between OPEN and ACCEPT: the device does not notice."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.accept_delay_s = 0.5
        [hotspot] = lab.cloud.hotspots.values()
        device = quiet_device(l2cap=True)
        lab.sim.add_device(device, interval_s=0.05)
        if how == "unread":
            hotspot.stall()
            await until(lambda: lab.sim.sessions(device))
            await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["frames_up"] == 1)
            hotspot.abort()
            assert not messages(lab, "in", OPEN)
        else:
            await lab.cloud.wait_for("open")
            await cut(lab, keep_sessions=how == "kept")
            assert not (await lab.agent.status())["relay"]["sessions"][0]["accepted"]
            await lab.cloud.start()
        session = await opened(lab, device)
        numbers = [m[0] for m in messages(lab, "in", OPEN)]
        assert len(numbers) == (2 if how == "forgotten" else 1) == len(set(numbers))
        assert numbers[-1] == session.number
        lab.sim.send(device, b"up")
        session.send_frames([b"down"])
        await until(lambda: len(session.frames) == 2 and device.answers)
        assert session.frames == [(0, frame) for frame in [*device.sent, b"up"]]
        assert device.answers == [b"down"]
        assert device.sessions == 1 and "closed" not in device.events


# --- What happens while the uplink is down ---

async def test_cloud_closes_meanwhile(directory):
    """CLOSE cannot be sent: the device is let go when the cloud does not list its session."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device()
        lab.sim.add_device(device, interval_s=0.05)
        session = await opened(lab, device)
        await cut(lab)
        session.close(0, "enough")
        await lab.cloud.start()
        await let_go(lab, device, "the cloud does not have the session any more")
        await served_again(lab, device)


@pytest.mark.parametrize("l2cap", [False, True])
async def test_device_goes_meanwhile(directory, l2cap):
    """Its last frames and then CLOSE reach the cloud over the next connection; its slot is free."""
    async with running_lab(directory, {"relay": {"max_links": 1}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device(l2cap)
        lab.sim.add_device(device, interval_s=0.05)
        session = await opened(lab, device)
        await cut(lab)
        last = [bytes([n]) * 100 for n in range(50)]        # more than the credits there are
        lab.sim.send(device, *last)
        await lab.agent.wait_for_status(
            lambda s: s["relay"]["sessions"][0]["waiting_up"] >= 50 * 100)
        lab.sim.drop_link(device)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["links"] == 0)
        [told] = status["relay"]["sessions"]
        assert (told["state"], told["suspended"]) == ("ending", True)
        await lab.cloud.start()
        close = await lab.cloud.wait_for("close", session=session.number)
        assert (close["code"], close["by"], close["frames_in"]) == (1, "hotspot", 51)
        assert [frame for _, frame in session.frames] == [*device.sent, *last]
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])
        await served_again(lab, device)


async def test_device_goes_meanwhile_and_frames_were_lost(directory):
    """What went over the connection that broke, and never arrived, goes again before CLOSE."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        [hotspot] = lab.cloud.hotspots.values()
        device = quiet_device()
        lab.sim.add_device(device, interval_s=0.05)
        session = await opened(lab, device)
        await until(lambda: session.frames_in == 1)
        hotspot.stall()
        last = [bytes([n]) * 100 for n in range(5)]
        lab.sim.send(device, *last)
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["frames_up"] == 6)
        await cut(lab)
        lab.sim.drop_link(device)
        await lab.agent.wait_for_status(lambda s: s["relay"]["links"] == 0)
        assert session.frames_in == 1
        await lab.cloud.start()
        close = await lab.cloud.wait_for("close", session=session.number)
        assert (close["code"], close["by"], close["frames_in"]) == (1, "hotspot", 6)
        assert [frame for _, frame in session.frames] == [*device.sent, *last]


async def test_idle_meanwhile(directory):
    """The time without an uplink does not count as idle; after it the count starts over."""
    async with running_lab(directory, {"relay": {"idle_timeout_s": 1}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device()
        lab.sim.add_device(device, interval_s=0.05)
        session = await opened(lab, device)
        await cut(lab)
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up"
                                        and s["relay"]["sessions"][0]["since_s"] > 2.5)
        await lab.cloud.start()
        resumed = await lab.cloud.wait_for("resumed", session=session.number)
        assert "closed" not in device.events
        close = await lab.cloud.wait_for("close", session=session.number)
        assert (close["code"], close["by"]) == (2, "hotspot")
        assert 0.8 < close["time"] - resumed["time"] < 2


async def test_held_back_meanwhile(directory):
    """A device over L2CAP waits with what does not fit, and then all arrives."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = quiet_device(l2cap=True)
        device.channels = 1
        lab.sim.add_device(device, interval_s=0.05)
        session = await opened(lab, device)
        await cut(lab)
        lab.sim.send(device, *FRAMES)
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["held"])
        await until(lambda: lab.sim.waiting(device))
        [told] = (await lab.agent.status())["relay"]["sessions"]
        assert told["suspended"] and told["held"]
        assert HELD < told["waiting_up"] < HELD + 1024
        assert told["waiting_up"] == status["relay"]["sessions"][0]["waiting_up"]
        assert lab.sim.waiting(device) > len(FRAMES) / 2
        await lab.cloud.start()
        await until(lambda: session.frames_in == 1 + len(FRAMES), 20)
        assert [frame for _, frame in session.frames] == [*device.sent, *FRAMES]
        assert session.frames_in == 1 + len(FRAMES)
        await lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"][0]["held"])
