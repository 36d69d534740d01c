# SPDX-License-Identifier: Apache-2.0
"""Hundreds of devices in reach, dozens that ask together, a few links."""

import asyncio
import random

import pytest

from bluez_sim import Beacon, Faults
from device import EchoDevice, VirtualDevice
from harness import running_lab, show, until
from test_recovery import BACK_S

IN_REACH, ASKING, SLOTS = 500, 50, 5
LIMITS = {"relay": {"max_links": SLOTS, "max_links_per_adapter": SLOTS}}
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
VANISHES = Faults(vanish_after_frames=3)
# How an attempt fails, how many do, and what the agent then says of the device.
FAILURES = [
    ("connect-error", 9,
     "connect: Connect: org.bluez.Error.Failed: le-connection-abort-by-local"),
    ("no-link", 4, "connect: Connect succeeded without a connection"),
    ("services-never-resolve", 3, "timeout: services were not resolved"),
    ("notify-never-answers", 3, "timeout: AcquireNotify did not answer"),
    ("connect-hangs", 2, "timeout: Connect did not answer"),
    (VANISHES, 4, None),        # no failure to the agent: the cloud has heard of it
]


class Crowd:
    """Devices in reach of one adapter, a tenth of which is about to ask."""

    def __init__(self, lab, seed):
        self.lab, self.random = lab, random.Random(seed)
        self.waits_s = {}
        self.askers = [self._add_asker(number) for number in range(ASKING)]
        for _ in range(IN_REACH - ASKING):
            lab.sim.add_device(Beacon(), interval_s=1)

    def _add_asker(self, number):
        device = VirtualDevice(self.lab.cloud.device_public_key)
        device.l2cap, device.channels = bool(number % 2), 1 + number // 2 % 2
        self.lab.sim.add_device(device, interval_s=0.3)
        return device

    async def heard(self):
        """The agent knows all of them."""
        await self.lab.agent.wait_for_status(
            lambda s: s["sightings"]["devices"] == IN_REACH, 15)

    async def ask(self):
        """All ask, within a second."""
        loop = asyncio.get_running_loop()
        for device in self.random.sample(self.askers, ASKING):
            began = loop.time()
            device.on_event = lambda name, _, d=device, b=began: name == "established" \
                and self.waits_s.setdefault(d, loop.time() - b)
            device.ask(device.device_id.bytes * 20)
            await asyncio.sleep(self.random.uniform(0, 1.8 / ASKING))

    async def served(self, timeout_s):
        await until(lambda: all(d.finished for d in self.askers), timeout_s,
                    "all who ask to be served")
        await self.lab.agent.wait_for_status(lambda s: not s["relay"]["sessions"])

    def check(self, vanished=()):
        """All have their answer, in one session each, within the limits of the radio."""
        sim, adapter = self.lab.sim, self.lab.sim.adapters[0]
        for device in self.askers:
            assert device.answers == [(device.device_id.bytes * 20)[::-1]]
            assert len(sim.sessions(device)) == 1 + (device in vanished)
        assert adapter.peak_connected == SLOTS and adapter.peak_connecting == 1
        assert {c.device_id for c in sim.connections} == {d.device_id for d in self.askers}
        bearers = {sim.sessions(d)[-1].channels[0] for d in self.askers}
        assert bearers == {"l2cap", "gatt"}

    def told(self, without=()):
        """How long those waited who are not among these Device URLs."""
        waits_s = sorted(s for d, s in self.waits_s.items() if d.device_url not in without)
        return f"waited {waits_s[len(waits_s) // 2]:.1f} s, the longest {waits_s[-1]:.1f} s"


@pytest.mark.long
async def test_all_ask(directory):
    """50 of 500 ask within a second: all are served, none twice, five at a time."""
    async with running_lab(directory, LIMITS) as lab:
        await lab.working()
        crowd = Crowd(lab, 1)
        await crowd.heard()
        await crowd.ask()
        await crowd.served(30)
        crowd.check()
        assert len(lab.sim.connections) == len(lab.cloud.find("open")) == ASKING
        relay = (await lab.agent.status())["relay"]
        assert (relay["served"], relay["failed"], relay["links"]) == (ASKING, 0, 0)
        show(f"{ASKING} of {IN_REACH} ask within a second, {SLOTS} slots: {crowd.told()}")


class Watch:
    """Collects the reasons the status gives, while something runs."""

    def __init__(self, agent):
        self._agent = agent
        self.queued = set()         # (Device URL, failure) of those that wait
        self.listed = set()         # and of those in the table

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _run(self):
        while True:
            told = (await self._agent.status())["relay"]["queue"]
            self.queued |= {(t["device_url"], t["failure"]) for t in told if "failure" in t}
            told = await self._agent.devices()
            self.listed |= {(url, t["failure"]) for url, t in told.items() if "failure" in t}
            await asyncio.sleep(0.3)


@pytest.mark.long
async def test_a_third_fails(directory):
    """The same with 25 attempts that fail: still all are served, and each failure is told."""
    async with running_lab(directory, LIMITS) as lab:
        await lab.working()
        crowd = Crowd(lab, 2)
        kinds = [(kind, words) for kind, number, words in FAILURES for _ in range(number)]
        # What concerns GATT happens to devices without L2CAP alone, and all others to any.
        gatt = [d for d in crowd.askers if not d.l2cap]
        others = [d for d in crowd.askers if d.l2cap]
        expected, vanishing = {}, set()
        for kind, words in kinds:
            pool = gatt if kind in ("services-never-resolve", "notify-never-answers") or \
                len(gatt) > len(others) else others
            device = pool.pop()
            lab.sim.script(device, kind)
            if words:
                expected[device.device_url] = words
            else:
                vanishing.add(device)
        await crowd.heard()
        async with Watch(lab.agent) as watch:
            await crowd.ask()
            await crowd.served(90)
        crowd.check(vanishing)
        assert len(lab.sim.connections) == ASKING + len(kinds)
        assert watch.listed == set(expected.items())
        assert {words for _, words in watch.queued} == set(expected.values())
        assert watch.queued <= watch.listed
        for device in vanishing:
            [close] = lab.cloud.find("close", device_id=device.device_id, by="hotspot")
            assert close["code"] == 1 and close["reason"].startswith("peer: ")
        relay = (await lab.agent.status())["relay"]
        assert (relay["failed"], relay["links"]) == (len(expected), 0)
        assert relay["served"] == ASKING + len(vanishing)
        without = {*expected, *(device.device_url for device in vanishing)}
        show(f"the same with {len(kinds)} attempts that fail: {crowd.told()}; devices that did "
                f"not fail {crowd.told(without)}")


async def hold(lab, devices, number):
    """Each has its number-th session, with a frame through."""
    for device in devices:
        device.ask(b"hold")
    for device in devices:
        await lab.cloud.wait_for("open", 10, number, device_id=device.device_id)
    await until(lambda: len(lab.cloud.sessions) == len(devices)
                and all(s.frames_in for s in lab.cloud.sessions))


async def test_bluetoothd_with_five_sessions(directory):
    """It is killed: all five end with code 4, their slots are free, and all come back with it."""
    async with running_lab(directory, LIMITS, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        devices = [EchoDevice() for _ in range(SLOTS)]
        for number, device in enumerate(devices):
            device.l2cap = bool(number % 2)
            lab.sim.add_device(device, interval_s=0.1)
        await hold(lab, devices, 1)
        assert {d.bearer for d in devices} == {"l2cap", "gatt"}
        assert (await lab.agent.status())["relay"]["links"] == SLOTS
        await lab.sim.stop()
        for device in devices:
            close = await lab.cloud.wait_for("close", device_id=device.device_id)
            assert (close["code"], close["by"]) == (4, "hotspot")
            assert "bluetoothd went away" in close["reason"]
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["links"] == 0)
        assert status["relay"]["sessions"] == []
        began = asyncio.get_running_loop().time()
        await lab.sim.start()
        await hold(lab, devices, 2)
        back_s = asyncio.get_running_loop().time() - began
        show(f"bluetoothd killed with {SLOTS} sessions: all again {back_s:.1f} s after its "
                "return")
        assert back_s < BACK_S
        assert lab.sim.adapters[0].peak_connected == SLOTS
        assert (await lab.agent.status())["relay"]["links"] == SLOTS
