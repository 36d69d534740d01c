# SPDX-License-Identifier: Apache-2.0
"""GOAWAY: the sessions move from one cloud of a cluster to another."""

import asyncio
from contextlib import asynccontextmanager

from cloud import Cloud
from device import EchoDevice
from harness import running_lab, show, until
from network import Switch
from test_relay import ECHOES, SteadyDevice

LINKS = {"relay": {"max_links": 8, "max_links_per_adapter": 8, "holdoff_ms": 0}}
FRAMES = [number.to_bytes(4, "big") + bytes(96) for number in range(1500)]


@asynccontextmanager
async def cluster_lab(directory, options=None):
    """A lab with two clouds that echo, A and B, behind a switch that leads to A."""
    async with Switch() as switch:
        uplink = {"uplink": {"url": f"wss://127.0.0.1:{switch.port}/", **(options or {})}}
        async with running_lab(directory, {**LINKS, **uplink}, cloud=ECHOES,
                               start_agent=False) as lab:
            other = Cloud(*lab.pair, cluster=lab.cloud, **ECHOES)
            await other.start()
            try:
                switch.target = lab.cloud.port
                await lab.agent.start()
                await lab.working()
                yield lab, switch, lab.cloud, other
            finally:
                await other.stop()


class BusyDevice(SteadyDevice):
    """Has always a few frames on their way, over GATT or L2CAP, until all are through."""

    def __init__(self, l2cap, frames=FRAMES):
        super().__init__([])
        self.l2cap, self.channels = l2cap, 1
        self.ends = 0
        for frame in frames:
            self.ask(frame)

    def closed(self):
        super().closed()
        self.ends += 1

    @property
    def done(self):
        return self.answers == FRAMES


async def busy_sessions(lab, cloud, number=5, kind=BusyDevice):
    """So many devices in a session, half of them over L2CAP, with frames in both directions."""
    devices = [kind(l2cap=bool(n % 2)) for n in range(number)]
    for device in devices:
        # Slow enough that a test has the time to do things meanwhile.
        lab.sim.add_device(device, interval_s=0.1).frames_per_s = 300
    await until(lambda: len(cloud.sessions) == number and all(d.answers for d in devices))
    return devices


async def moved(cloud, devices, count=1):
    """All their sessions go on at this cloud, for the count-th time."""
    for device in devices:
        await cloud.wait_for("resumed", 10, count, device_id=device.device_id)


async def all_through(lab, devices):
    """Each had one session, with all its frames there and back; the radio saw nothing else."""
    await until(lambda: all(d.done for d in devices), 40)
    assert [(d.sessions, d.ends) for d in devices] == [(1, 0)] * len(devices)
    assert all(len(lab.sim.sessions(d)) == 1 for d in devices)


async def test_drained(directory):
    """The agent reconnects when told, not before; no session is lost, none opened on A since."""
    async with cluster_lab(directory) as (lab, switch, a, b):
        devices = await busy_sessions(lab, a)
        loop = asyncio.get_running_loop()
        switch.target = b.port
        a.goaway(1500, "maintenance")
        began, so_far = loop.time(), [len(d.answers) for d in devices]
        await lab.agent.wait_for_log("asks to reconnect: maintenance")
        late = EchoDevice([20])
        lab.sim.add_device(late, interval_s=0.05)
        told = await lab.agent.wait_for_status(
            lambda s: [q["wait"] for q in s["relay"]["queue"]] == ["reconnect"])
        assert 0 < told["uplink"]["reconnect_in_s"] < 1.5 * 1.25 + 0.5
        assert told["uplink"]["state"] == "up"
        # Frames go on meanwhile.
        await until(lambda: all(len(d.answers) > n + 50 for d, n in zip(devices, so_far)))
        end = await a.wait_for("disconnected")
        after_s = loop.time() - began
        assert (end["code"], end["by"]) == (1001, "hotspot")
        assert 1.5 <= after_s < 1.5 * 1.25 + 0.5 + 0.5      # jitter, and what a loaded machine adds
        await moved(b, devices)
        await b.wait_for("open", device_id=late.device_id)
        assert not a.find("open", device_id=late.device_id) and len(a.find("open")) == 5
        await all_through(lab, devices)
        assert not a.find("close") and not b.find("close")
        assert {s.device_id for s in b.sessions} == {d.device_id for d in [*devices, late]}
        assert not a.sessions
        status = await lab.agent.status()
        assert [s["resumed"] for s in status["relay"]["sessions"]].count(1) == 5
        assert status["relay"]["failed"] == 0
        show(f"GOAWAY after 1.5 s: {after_s:.2f} s; back at the other cloud "
                f"{b.find('resumed')[-1]['time'] - end['time']:.2f} s later")


async def test_jitter(directory):
    """Several hubs would not come back all together: the delay is a random one, from the given on.
    """
    async with cluster_lab(directory) as (lab, switch, a, b):
        delays = []
        for number in range(6):
            a.goaway(100)
            began = asyncio.get_running_loop().time()
            await a.wait_for("disconnected", count=number + 1, code=1001)
            delays.append(asyncio.get_running_loop().time() - began)
            await a.wait_for("hello", count=number + 2)
            await lab.up()
        assert min(delays) >= 0.1 and max(delays) < 0.1 * 1.25 + 0.5 + 0.5
        assert max(delays) - min(delays) > 0.03
        show(f"GOAWAY after 0.1 s, six times: {min(delays):.2f} to {max(delays):.2f} s")


async def test_ends_before(directory):
    """Sessions that end before the delay is over end as ever, from either side."""
    async with cluster_lab(directory) as (lab, switch, a, b):
        devices = await busy_sessions(lab, a, 4)
        switch.target = b.port
        a.goaway(1500)
        await lab.agent.wait_for_log("asks to reconnect")
        closed, gone, *staying = devices
        next(s for s in a.sessions if s.device_id == closed.device_id).close(0, "")
        lab.sim.drop_link(gone)
        told = await a.wait_for("close", device_id=gone.device_id)
        assert (told["code"], told["by"]) == (1, "hotspot")
        told = await a.wait_for("close", device_id=closed.device_id)
        assert (told["code"], told["by"]) == (0, "cloud")
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["links"] == 2)
        assert status["uplink"]["connects"] == 1 and closed.ends == gone.ends == 1
        await moved(b, staying)
        assert {s.device_id for s in b.sessions} == {d.device_id for d in staying}
        assert len(a.find("open")) == 4 and not b.find("open")
        await all_through(lab, staying)


async def test_rolling(directory):
    """A is replaced by B, B by A, A by B, all under load."""
    async with cluster_lab(directory) as (lab, switch, a, b):
        devices = await busy_sessions(lab, a)
        away = []
        for number, (old, new) in enumerate([(a, b), (b, a), (a, b)]):
            assert not any(d.done for d in devices)
            switch.target = new.port
            old.goaway(200, "rolling")
            await moved(new, devices, number // 2 + 1)
            away.append(new.find("resumed")[-1]["time"] - old.find("disconnected")[-1]["time"])
            before = [len(d.answers) for d in devices]
            await until(lambda: all(len(d.answers) > n for d, n in zip(devices, before)))
        await all_through(lab, devices)
        assert len(a.find("open")) == 5 and not b.find("open")
        assert not a.find("close") and not b.find("close")
        status = await lab.agent.status()
        assert {s["resumed"] for s in status["relay"]["sessions"]} == {3}
        assert status["uplink"]["connects"] == switch.connections == 4
        show(f"rolling, three times: 5 sessions without an uplink for up to {max(away):.2f} s")
