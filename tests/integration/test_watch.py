# SPDX-License-Identifier: Apache-2.0
"""The live screen, in terminals of tmux."""

import asyncio
import json
import re

import pytest

from bluez_sim import Beacon
from device import EchoDevice
from harness import CTL, run, running_lab
from terminal import terminal


def device_rows(lines):
    return [line for line in lines if re.match(r" *-\d+ ", line)]


@pytest.mark.parametrize("columns,rows", [(80, 24), (200, 50), (40, 10), (132, 24)])
async def test_sizes(directory, columns, rows):
    """It fits: no line is too long, the foot is on the last row, devices by RSSI with their bars."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacons = [Beacon() for _ in range(8)]
        for i, beacon in enumerate(beacons):
            lab.sim.add_device(beacon, rssi=-35 - 8 * i)
            await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 8)
        async with terminal(directory, columns, rows, CTL, "-s", lab.agent.socket,
                            "watch") as term:
            lines = await term.show("8 devices present")
            assert len(lines) == rows and max(map(len, lines)) <= columns
            assert lines[-1].startswith("q leaves, s sorts (by rssi)"[:columns])
            assert "scanning" in "".join(lines) and "cloud  up" in "\n".join(lines)
            shown = device_rows(lines)
            room = rows - 7             # summary, 4 lines, heading, foot
            assert len(shown) == (8 if room >= 8 else room - 1)
            assert any(f"and {8 - len(shown)} more" in line for line in lines) == (room < 8)
            strengths = [int(row.split()[0]) for row in shown]
            assert strengths == sorted(strengths, reverse=True) and strengths[0] == -35
            if columns >= 80:
                bars = [row.count("#") for row in shown]
                assert bars == sorted(bars, reverse=True) and bars[0] > bars[-1]
                assert str(beacons[0].device_id) in shown[0]


async def test_keys_and_sizes(directory):
    """s sorts anew, a new size is taken over, q leaves the terminal as it was: exit code 0."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacons = sorted((Beacon() for _ in range(3)), key=lambda b: str(b.device_id))
        for i, beacon in enumerate(reversed(beacons)):
            lab.sim.add_device(beacon, rssi=-40 - 10 * i)
            await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 3)
        async with terminal(directory, 80, 24, CTL, "-s", lab.agent.socket, "watch") as term:
            lines = await term.show("3 devices present")
            assert str(beacons[2].device_id) in device_rows(lines)[0]
            await term.type("s")
            await term.show("by last seen")
            await term.type("s")
            lines = await term.show("by id")
            assert [str(b.device_id) in row for b, row in zip(beacons, device_rows(lines),
                                                              strict=True)] == [True] * 3
            await term.resize(200, 50)
            lines = await term.show("https://blecon.dev/")
            for _ in range(100):
                if len(lines) == 50 and lines[-1].startswith("q leaves"):
                    break
                lines = await term.show("https://blecon.dev/")
            assert len(lines) == 50 and lines[-1].startswith("q leaves")
            await term.type("q")
            lines = await term.show("exit code 0")
            assert not device_rows(lines)
            assert (await term.tmux("display-message", "-p", "#{alternate_on}#{cursor_flag}")
                    ).strip() == "01"


async def test_lives(directory):
    """A session, a device that is lost, a daemon that goes and comes back: each on the screen."""
    async with running_lab(directory, {"devices": {"lost_after_s": 2}}) as lab:
        await lab.working()
        asker = EchoDevice()
        lab.sim.add_device(asker, rssi=-42)
        async with terminal(directory, 100, 30, CTL, "-s", lab.agent.socket, "watch") as term:
            await term.show("No device heard yet.")
            await lab.sim.advertise(asker)
            await term.show("1 device present")
            await term.show(" l-- ")
            await lab.agent.stop()
            await term.show("No such file or directory")
            await lab.agent.start()
            await term.show("No device heard yet.")
            await term.type("C-c")
            await term.show("exit code 0")


async def test_stopped(directory):
    """Ctrl-Z gives the terminal back, fg takes it again."""
    async with running_lab(directory) as lab:
        await lab.working()
        async with terminal(directory, 80, 24, "/bin/bash", "--norc", "-i") as term:
            await term.type(f"{CTL} -s {lab.agent.socket} watch", "Enter")
            await term.show("q leaves")
            await term.type("C-z")
            lines = await term.show("Stopped")
            assert not any("q leaves" in line for line in lines)
            await term.type("fg", "Enter")
            await term.show("q leaves")
            await term.type("q")
            await term.show("Stopped")  # what the screen was before; the shell reads again
            await term.type("exit", "Enter")
            await term.show("exit code 0")


async def test_no_terminal(directory):
    """Into a pipe, and on a terminal that can only print: exit code 2, and what to do."""
    directory.mkdir(exist_ok=True)
    ended = await run(CTL, "-s", directory / "none", "watch")
    assert ended == (2, "", "blecon-hotspotctl: watch needs a terminal: see status\n")
    async with terminal(directory, 80, 24, CTL, "watch", environment={"TERM": "dumb"}) as term:
        await term.show("exit code 2")


async def test_json(directory):
    """--json: the status as a line each second, without a terminal."""
    async with running_lab(directory) as lab:
        await lab.working()
        process = await asyncio.create_subprocess_exec(
            CTL, "--json", "-s", lab.agent.socket, "watch", stdout=asyncio.subprocess.PIPE)
        times = []
        for _ in range(2):
            line = await asyncio.wait_for(process.stdout.readline(), 10)
            times.append(json.loads(line)["uptime_s"])
        assert times[1] > times[0]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
