# SPDX-License-Identifier: Apache-2.0
"""Two hundred clients at the status socket of a hub with a thousand devices and a session.

What they measure is for people: it is that of whatever else this machine does meanwhile.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import pytest

from bluez_sim import Beacon
from harness import running_lab, show, until
from test_flow_control import SANITIZED, Arrivals, Meter, beside, percentile

LOAD = Path(__file__).resolve().parent / "status_load.py"
DEVICES = 1000              # as many as it knows by default, one of them with a session
LOAD_S = 8
RSS_GROWTH_KB = 1024        # of a heap that was larger for a while, and of the session


@contextlib.asynccontextmanager
async def load(*arguments):
    """One of status_load.py's processes; it ends with its input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, LOAD, *map(str, arguments), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, limit=1 << 24)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask_well(lab):
    """What status_load.py's good clients say of it."""
    async with load("good", lab.agent.socket, DEVICES, LOAD_S) as process:
        told = json.loads(await process.stdout.readline())
        assert told["wrong"] == []
        return told


def answers(told):
    return ", ".join(
        f"{request} {percentile(times, 50) / 1000:.1f} / {percentile(times, 99) / 1000:.1f} / "
        f"{max(times):.1f} (of {len(times)})" for request, times in told["times_ms"].items()
    ) + f", asked again {told['again']} times"


class Rss:
    """The most memory in use."""

    def __init__(self, agent):
        self.peak_kb = self.before_kb = agent.rss_kb
        self._agent = agent

    async def run(self):
        while True:
            self.peak_kb = max(self.peak_kb, self._agent.rss_kb)
            await asyncio.sleep(0.05)


def clients(agent):
    """Connections to its status socket."""
    return [line for line in Path("/proc/net/unix").read_text().splitlines()
            if line.endswith(f" {agent.socket}")][1:]


def descriptors(agent):
    return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))


@pytest.mark.long
async def test_bad_clients_harm_nobody(directory):
    """100 clients that ask are all answered well beside 100 bad ones; nothing is left of them."""
    arrivals = Arrivals()
    async with running_lab(directory, cloud={"raw_handler": arrivals}) as lab:
        await lab.working()
        for _ in range(DEVICES - 1):
            beacon = Beacon()
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
        meter = Meter(lab, arrivals, "l2cap")
        async with beside(meter.run()):
            await meter.measured(100)
            await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == DEVICES)
            await until(lambda: not clients(lab.agent))
            fds, rss = descriptors(lab.agent), Rss(lab.agent)
            async with beside(rss.run()):
                meter.phase = "beside the good"
                alone = await ask_well(lab)
                async with load("bad", lab.agent.socket) as bad:
                    assert await bad.stdout.readline() == b"begun\n"
                    meter.phase = "beside all"
                    beside_bad = await ask_well(lab)
                    bad.stdin.close()
                    drops = json.loads(await bad.stdout.readline())["drops"]
            meter.phase = "after"
            await meter.measured(100)
            await until(lambda: descriptors(lab.agent) == fds, what="descriptors as before")
        await until(lambda: SANITIZED or lab.agent.rss_kb - rss.before_kb < RSS_GROWTH_KB,
                    what=f"RSS as before, {rss.before_kb} kB")
        show(f"status socket: 100 ask of {DEVICES} devices, p50 / p99 / longest ms: "
             f"{answers(alone)}")
        show(f"status socket: the same beside 100 bad ones, dropped {drops} times: "
             f"{answers(beside_bad)}")
        meter.show("status socket")
        show(f"status socket: RSS {rss.before_kb} kB before, {rss.peak_kb} kB at most, "
             f"{lab.agent.rss_kb} kB after")
