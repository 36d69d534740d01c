# SPDX-License-Identifier: Apache-2.0
"""Behind the nginx and the HAProxy of Debian, which end TLS, and two clouds behind those."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from bluez_sim import Beacon
from cloud import Cloud
from device import EchoDevice
from harness import free_port, running_lab, show, until
from infrastructure import Haproxy, Nginx
from test_goaway import LINKS, BusyDevice, all_through, busy_sessions
from test_relay import ECHOES

IDLE_S = 3
NO_UPGRADE = 426      # from a cloud, to a request that is not for WebSocket

both = pytest.mark.parametrize("kind", [Nginx, Haproxy])


class TalkingDevice(BusyDevice):
    """Has always a few frames on their way, as long as it talks."""

    def __init__(self, l2cap):
        super().__init__(l2cap, frames=[])
        self.asks = self.talks = True

    @property
    def done(self):
        return self.answers == self.sent

    def _next(self, number):
        if not self.talks:
            return []
        first = len(self.sent)
        frames = [n.to_bytes(4, "big") + bytes(96) for n in range(first, first + number)]
        self.sent += frames
        return frames


class Cluster:
    """A lab, a proxy, and the two clouds behind it, which echo."""

    def __init__(self, lab, proxy, clouds):
        self.lab, self.proxy, self.clouds = lab, proxy, clouds

    def told(self, name):
        """So many of these events at both clouds."""
        return sum(len(c.find(name)) for c in self.clouds)

    def last(self, name):
        """When the last of these events was, at either cloud."""
        return max(c.find(name)[-1]["time"] for c in self.clouds if c.find(name))

    def has_hotspot(self):
        """The cloud the hotspot is connected to, and the other."""
        here, other = sorted(self.clouds, key=lambda c: not c.hotspots)
        assert here.hotspots and not other.hotspots
        return here, other

    async def busy(self):
        """Five devices in a session, with frames in both directions, and one that only advertises.
        """
        here, _ = self.has_hotspot()
        self.lab.sim.add_device(Beacon(), interval_s=0.05)
        return await busy_sessions(self.lab, here, kind=TalkingDevice)

    async def moved(self, devices, times):
        """All their sessions have gone on at some cloud, so many times each."""
        def resumed():
            counts = Counter(e["device_id"] for c in self.clouds for e in c.find("resumed"))
            return [counts[d.device_id] for d in devices] == [times] * len(devices)
        await until(resumed, 20, f"{times} times moved")

    async def away_s(self, times):
        """How long the hotspot was without a cloud when it moved for the times-th time."""
        # A cloud may hear of the end late, when the hotspot is at the other already.
        await until(lambda: self.told("disconnected") == times)
        return max(0, self.last("resumed") - self.last("disconnected"))

    async def restarted(self, cloud):
        """It is up again, and the proxy knows: before that no other may be restarted."""
        await cloud.start()
        await self.proxy.leads_to(cloud.port)

    async def nothing_lost(self, devices):
        """Each device has had one session and all its frames, and each advert counts once."""
        for device in devices:
            device.talks = False
        await all_through(self.lab, devices)
        assert self.told("open") == len(devices) and not self.told("close")
        assert not self.told("bad_message") and not self.told("refused")
        await self.lab.all_told()


@asynccontextmanager
async def cluster_lab(directory, kind, uplink=None, **proxy_options):
    """A lab that works, with its clouds behind a proxy of this kind."""
    directory.mkdir(exist_ok=True)
    ports = [free_port(), free_port()]
    async with running_lab(directory, LINKS, start_agent=False, pair=lambda *_: (None, None),
                           cloud={"port": ports[0], **ECHOES}) as lab:
        other = Cloud(None, None, port=ports[1], cluster=lab.cloud, **ECHOES)
        await other.start()     # the proxy is not to find it down first
        try:
            async with kind(directory, lab.pair, ports, **proxy_options) as proxy:
                # What the proxy passes on of the name must be what the hub has signed.
                lab.cloud.authorities = other.authorities = {proxy.authority}
                lab.agent.options["uplink"] |= {"url": proxy.url, **(uplink or {})}
                await lab.agent.start()
                await lab.working()
                yield Cluster(lab, proxy, [lab.cloud, other])
                # Before the proxy ends, and takes the connection away under it.
                assert await lab.agent.stop() == 0
        finally:
            await other.stop()


async def go_on(devices):
    """Some more frames come back to each."""
    before = [len(d.answers) for d in devices]
    await until(lambda: all(len(d.answers) > n + 20 for d, n in zip(devices, before)), 20)


@both
async def test_rolling_restart(directory, kind):
    """Each cloud in turn is drained, stopped and started again, twice, under load."""
    async with cluster_lab(directory, kind) as cluster:
        devices = await cluster.busy()
        away = []
        for times in range(1, 5):
            here, other = cluster.has_hotspot()
            here.drain(200, "rolling restart")
            # It leads here and there in turn: this takes the turn of the cloud that is up.
            assert await cluster.proxy.ask() == NO_UPGRADE
            await cluster.moved(devices, times)
            away.append(await cluster.away_s(times))
            await here.stop()
            assert cluster.has_hotspot() == (other, here)
            await cluster.restarted(here)
            await go_on(devices)
        await cluster.nothing_lost(devices)
        status = await cluster.lab.agent.status()
        assert status["uplink"]["connects"] == status["uplink"]["attempts"] == 5
        show(f"{cluster.proxy.name}, rolling restart, four times: 5 sessions without an uplink "
             f"for up to {max(away):.2f} s")


@both
async def test_killed(directory, kind):
    """Each cloud in turn is killed and started again, twice, under load."""
    async with cluster_lab(directory, kind) as cluster:
        devices = await cluster.busy()
        away = []
        for times in range(1, 5):
            here, other = cluster.has_hotspot()
            await here.kill()
            assert await cluster.proxy.ask() == NO_UPGRADE
            await cluster.moved(devices, times)
            away.append(await cluster.away_s(times))
            assert cluster.has_hotspot() == (other, here)
            await cluster.restarted(here)
            await go_on(devices)
        await cluster.nothing_lost(devices)
        assert (await cluster.lab.agent.status())["uplink"]["connects"] == 5
        show(f"{cluster.proxy.name}, clouds killed, four times: 5 sessions without an uplink "
             f"for up to {max(away):.2f} s")


@both
async def test_proxy_reloaded(directory, kind):
    """The connection stays with the process of before, until the agent goes by itself."""
    async with cluster_lab(directory, kind) as cluster:
        devices = await cluster.busy()
        before = await cluster.proxy.reload()
        await go_on(devices)
        assert before < cluster.proxy.workers()
        assert (await cluster.lab.agent.status())["uplink"]["connects"] == 1
        here, _ = cluster.has_hotspot()
        here.goaway(100, "there is a new configuration")
        await cluster.moved(devices, 1)
        await until(lambda: not before & cluster.proxy.workers(), what="the old process to end")
        await cluster.nothing_lost(devices)
        assert (await cluster.lab.agent.status())["uplink"]["connects"] == 2


@both
async def test_proxy_reloaded_with_deadline(directory, kind):
    """The process of before takes the connection along when its time is over."""
    async with cluster_lab(directory, kind, deadline_s=1) as cluster:
        devices = await cluster.busy()
        before = await cluster.proxy.reload()
        await cluster.moved(devices, 1)
        away_s = await cluster.away_s(1)
        await until(lambda: not before & cluster.proxy.workers(), what="the old process to end")
        await cluster.nothing_lost(devices)
        assert (await cluster.lab.agent.status())["uplink"]["connects"] == 2
        show(f"{cluster.proxy.name} reloaded, with a deadline: 5 sessions without an uplink for "
             f"{away_s:.2f} s")


@both
async def test_no_cloud(directory, kind):
    """Log and status name what the proxy answers instead; all goes on when a cloud is back."""
    async with cluster_lab(directory, kind) as cluster:
        devices = await cluster.busy()
        here, other = cluster.has_hotspot()
        for cloud in (other, here):
            await cloud.kill(keep_sessions=True)
        answer = f"HTTP {cluster.proxy.unavailable}"
        status = await cluster.lab.agent.wait_for_status(
            lambda s: answer in s["uplink"].get("error", ""), 20, answer)
        assert status["uplink"]["state"] != "up" and not status["working"]
        assert {s["suspended"] for s in status["relay"]["sessions"]} == {True}
        await cluster.lab.agent.wait_for_log(answer)
        await other.start()
        await cluster.moved(devices, 1)
        await cluster.nothing_lost(devices)
        assert (await cluster.lab.agent.status())["working"]


@pytest.mark.long
@both
async def test_pings_keep_it(directory, kind):
    """Nothing but the agent's pings passes, for several times what the proxy allows."""
    async with cluster_lab(directory, kind, {"ping_interval_s": 1}, idle_s=IDLE_S) as cluster:
        status = await cluster.lab.agent.wait_for_status(
            lambda s: s["uplink"]["state"] == "up" and s["uplink"]["since_s"] > 4 * IDLE_S,
            8 * IDLE_S)
        assert status["uplink"]["connects"] == 1 and not cluster.told("disconnected")
        assert status["uplink"]["rtt_us"] > 0


@pytest.mark.long
@both
async def test_without_pings(directory, kind):
    """The proxy drops what is silent, three times; the session there is goes on each time."""
    async with cluster_lab(directory, kind, {"ping_interval_s": 0}, idle_s=IDLE_S) as cluster:
        device, beacon = EchoDevice([20]), Beacon()
        cluster.lab.sim.add_device(device, interval_s=0.05)
        cluster.lab.sim.add_device(beacon)
        await until(lambda: device.answers)
        told = list(device.answers)
        for number in range(3):
            await until(lambda: cluster.told("disconnected") > number, 20)
            # While it is away, mostly: from the cloud to the device, and from the radio.
            [session] = [s for c in cluster.clouds for s in c.sessions]
            told.append(b"down %d" % number)
            session.send_frames(told[-1:])
            await cluster.lab.sim.advertise(beacon, count=7)
            await until(lambda: device.answers == told, what="the frame to arrive")
        status = await cluster.lab.agent.status()
        [session] = status["relay"]["sessions"]
        assert status["uplink"]["connects"] == session["resumed"] + 1 >= 4
        assert device.sessions == 1 and cluster.told("open") == 1 and not cluster.told("close")
        await cluster.lab.all_told()
        show(f"{cluster.proxy.name} drops what is silent: the status says "
             f"\"{status['uplink'].get('error')}\"")
