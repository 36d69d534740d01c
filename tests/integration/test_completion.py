# SPDX-License-Identifier: Apache-2.0
"""Shell completion, asked as bash asks for it."""

import re

import pytest

from bluez_sim import Beacon
from harness import CTL, DAEMON, ROOT, run, running_lab

FILE = ROOT / "packaging/completion/blecon-hotspotctl"


async def complete(*words, program=CTL):
    """What may follow: the last word is the one being typed."""
    function = {"blecon-hotspotctl": "_blecon_hotspotctl",
                "blecon-hotspotd": "_blecon_hotspotd"}[program.name]
    script = f'source {FILE}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; ' \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    ended = await run("/bin/bash", "-c", script, "bash", program, *words)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.split()


async def options_of(program):
    """The long options of --help."""
    return set(re.findall(r"--[a-z-]+", (await run(program, "--help")).out))


async def test_commands(directory):
    """All that --help has, and no others."""
    page = (await run(CTL, "--help")).out
    part = page.partition("\n  -")[0]
    commands = {name for line in re.findall(r"^  ([a-z-]+(?:, [a-z]+)?)", part, re.MULTILINE)
                for name in line.split(", ")}
    assert commands == set(await complete("")) and len(commands) == 15
    assert await complete("wa") == ["watch"]


async def test_options(directory):
    """Every option of --help is completed before a command; after it those that it takes."""
    assert set(await complete("--")) == await options_of(CTL)
    assert set(await complete("--", program=DAEMON)) == await options_of(DAEMON)
    for command in await complete(""):
        for option in set(await complete(command, "--")) - {"--help", "--version"}:
            value = {"--sort": "id", "--json": None, "--csr": None, "--follow": None}.get(
                option, "/nowhere/x")
            ended = await run(CTL, option, *([value] if value else []), command, "a", "b")
            assert "too many arguments" in ended.err, (command, option)     # and nothing else


@pytest.mark.parametrize("words,expected", [
    (("devices", "--sort", ""), {"rssi", "seen", "id"}),
    (("log-level", ""), {"error", "warning", "info", "debug"}),
    (("-s", "/x", "stat"), {"status"}),
    (("status", ""), set()),
])
async def test_values(directory, words, expected):
    """Words that an option or a command takes."""
    assert set(await complete(*words)) == expected


async def test_devices(directory):
    """`device` completes what the daemon has heard."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 1)
        assert await complete("-s", str(lab.agent.socket), "device", "") == [str(beacon.device_id)]
