# SPDX-License-Identifier: Apache-2.0
"""How much flash and memory it takes on a hub with little of both."""

import re
import subprocess
from pathlib import Path

import pytest

from bluez_sim import Beacon
from device import EchoDevice
from harness import CTL, DAEMON, running_lab, show
from test_many import KEEPS_OPEN, hold

SIZE_MAX = 250_000              # bytes, of daemon and ctl, stripped, on x86-64
IDLE_RSS_MAX_KB = 4 * 1024
BUSY_RSS_MAX_KB = 8 * 1024
DEVICES, SESSIONS = 1000, 8     # as many as there are by default
SYSTEM_CAS = Path("/etc/ssl/certs/ca-certificates.crt")


def test_size(tmp_path):
    """Each file once, whichever names it has."""
    sizes = {}
    for program in {DAEMON.resolve(), CTL.resolve()}:
        stripped = tmp_path / program.name
        subprocess.run(["strip", "--strip-all", "-o", stripped, program], check=True)
        sizes[program.name] = stripped.stat().st_size
    total = sum(sizes.values())
    show(f"stripped: {total / 1024:.1f} KB " +
         ", ".join(f"{name} {size}" for name, size in sorted(sizes.items())))
    assert total <= SIZE_MAX


def memory_kb(agent):
    """Of its memory: all, the most there was, what is its own, and what is of files."""
    text = Path(f"/proc/{agent.process.pid}/status").read_text()
    return {name: int(re.search(rf"{name}:\s+(\d+) kB", text)[1])
            for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}


def as_on_a_hub(lab):
    """It trusts all CAs that a system does, and has the log level that it has by itself."""
    path = lab.directory / "all.pem"
    path.write_bytes(SYSTEM_CAS.read_bytes() + lab.ca.cert.read_bytes())
    lab.agent.options["uplink"]["ca_file"] = str(path)
    lab.agent.command = [DAEMON, "--foreground"]


def told(memory):
    return ", ".join(f"{name} {kb} kB" for name, kb in memory.items())


async def test_idle_rss(directory):
    """The uplink is up, and no device is there."""
    async with running_lab(directory, start_agent=False) as lab:
        as_on_a_hub(lab)
        del lab.agent.environment["LD_PRELOAD"]
        await lab.agent.start()
        await lab.working()
        memory = memory_kb(lab.agent)
        show(f"idle: {told(memory)}")
        assert memory["VmRSS"] <= IDLE_RSS_MAX_KB


@pytest.mark.long
async def test_busy_rss(directory):
    """All devices that it remembers are there, and each link has a session with frames."""
    limits = {"relay": {"max_links": SESSIONS, "max_links_per_adapter": SESSIONS,
                        "idle_timeout_s": 600}}
    async with running_lab(directory, limits, cloud=KEEPS_OPEN, start_agent=False) as lab:
        as_on_a_hub(lab)
        await lab.agent.start()
        await lab.working()
        for _ in range(DEVICES - SESSIONS):
            beacon = Beacon()
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
        devices = [EchoDevice() for _ in range(SESSIONS)]
        for number, device in enumerate(devices):
            device.l2cap = bool(number % 2)
            lab.sim.add_device(device, interval_s=0.1)
        await hold(lab, devices, 1)
        status = await lab.agent.wait_for_status(
            lambda s: s["sightings"]["devices"] == DEVICES and s["sightings"]["pending"] == 0)
        assert status["relay"]["links"] == SESSIONS
        memory = memory_kb(lab.agent)
        show(f"{DEVICES} devices and {SESSIONS} sessions: {told(memory)}")
        assert memory["VmRSS"] <= BUSY_RSS_MAX_KB
