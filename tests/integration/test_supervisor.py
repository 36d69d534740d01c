# SPDX-License-Identifier: Apache-2.0
"""An adapter that scans and hears nothing: it is helped step by step, and told of in the end."""

import asyncio
import re

from bluez_sim import Beacon
from device import EchoDevice
from harness import CTL, run, running_lab, until

# So short that a machine under load may add a restart of its own.
QUIET = {"bluetooth": {"silence_s": 1}}
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}


def supervisor_of(status, index=0):
    return status["bluetooth"]["adapters"][index].get("supervisor", {})


async def hears(lab):
    """Devices all around, and the supervisor has nothing to do."""
    beacon = Beacon()
    lab.sim.add_device(beacon, adapter=tuple(lab.sim.adapters), interval_s=0.1)
    await lab.working()
    await lab.agent.wait_for_status(lambda s: all(
        a.get("adverts", 0) > 3 and a["supervisor"]["step"] == "watching"
        for a in s["bluetooth"]["adapters"]))
    return beacon


async def hears_again(lab, heard):
    """The adapter's adverts come in, and the status says so."""
    status = await lab.agent.wait_for_status(
        lambda s: s["sightings"]["adverts"] > heard + 3
        and supervisor_of(s)["step"] == "watching" and s["working"])
    assert "cause" not in supervisor_of(status)
    return supervisor_of(status)


async def test_restart_helps(directory):
    """A discovery that has gone deaf is restarted, and that is all."""
    async with running_lab(directory, QUIET) as lab:
        await hears(lab)
        lab.sim.deafen(0, until="restart")
        heard = (await lab.agent.status())["sightings"]["adverts"]
        line = await lab.agent.wait_for_log("discovery was restarted")
        assert " info " in line and "no advert for 1 s" in line
        supervisor = await hears_again(lab, heard)
        assert supervisor["restarts"] > 0
        assert (supervisor["power_cycles"], supervisor["reports"]) == (0, 0)
        assert " info " in await lab.agent.wait_for_log(
            "adverts again, 0 s after discovery was restarted")
        # In the order that bluetoothd wants, and with the filter.
        order = [c.member for c in lab.sim.calls if c.path == "/org/bluez/hci0"]
        assert order[-3:] == ["StopDiscovery", "SetDiscoveryFilter", "StartDiscovery"]
        assert " warning " not in lab.agent.log
        await lab.all_told()


async def test_power_cycle_helps(directory):
    """A deaf controller is switched off and on."""
    async with running_lab(directory, QUIET) as lab:
        await hears(lab)
        lab.sim.deafen(0, until="power-cycle")
        heard = (await lab.agent.status())["sightings"]["adverts"]
        line = await lab.agent.wait_for_log("it was switched off and on")
        assert " info " in line and "no advert for 2 s" in line
        supervisor = await hears_again(lab, heard)
        assert supervisor["restarts"] > 0
        assert (supervisor["power_cycles"], supervisor["reports"]) == (1, 0)
        await lab.agent.wait_for_log("s after it was switched off and on")
        assert " warning " not in lab.agent.log
        await lab.all_told()


async def test_nothing_helps(directory):
    """One adapter is deaf for good: a person is told which, and the other does its work."""
    async with running_lab(directory, QUIET, start_sim=False) as lab:
        lab.sim.add_adapter(1, "00:AA:01:00:00:01")
        await lab.sim.start()
        await hears(lab)
        lab.sim.deafen(1, until=None)
        status = await lab.agent.wait_for_status(
            lambda s: supervisor_of(s, 1)["step"] == "reported")
        cause = "s: the radio may be deaf, or no device is near"
        assert supervisor_of(status, 1)["cause"].endswith(cause)
        assert supervisor_of(status, 0)["step"] == "watching"
        assert supervisor_of(status, 1)["step_s"] < 1
        assert 1 < supervisor_of(status, 1)["next_in_s"] <= 2
        assert status["working"]
        assert status["summary"].startswith(
            "Working: 1 device present, uplink up; but hci1: no advert for ")
        page = await run(CTL, "-s", lab.agent.socket, "status")
        assert page.code == 0
        lines = page.out.splitlines()
        assert cause in lines[0]
        [at] = [i for i, line in enumerate(lines) if line.startswith("  hci1 ")]
        assert lines[at + 1].strip().startswith("reported ")
        assert ", next step in " in lines[at + 1]
        page = await run(CTL, "-s", lab.agent.socket, "adapters")
        assert page.code == 0
        assert re.search(r"\n  silence  (reported|restarted), last step .* ago, next step in .*: "
                         rf"no advert for .*{cause}\n", page.out)
        # Tried again, and what was reported stands meanwhile.
        status = await lab.agent.wait_for_status(
            lambda s: supervisor_of(s, 1)["step"] == "restarted")
        assert "but hci1: " in status["summary"]
        assert lab.agent.log.count(" warning hci1 ") == 1
        assert " warning hci0 " not in lab.agent.log


async def test_nobody_there(directory):
    """A room without devices: reported once, and all is well when one comes."""
    async with running_lab(directory, QUIET) as lab:
        await lab.working()
        status = await lab.agent.wait_for_status(lambda s: supervisor_of(s)["step"] == "reported")
        assert status["working"]
        assert status["summary"].startswith("Working, but no device heard yet; and hci0: no advert")
        assert [supervisor_of(status)[k] for k in ("restarts", "power_cycles", "reports")] == \
            [1, 1, 1]
        assert len([line for line in lab.agent.log.splitlines() if " warning " in line]) == 1
        beacon = Beacon()
        lab.sim.add_device(beacon, interval_s=0.1)
        await hears_again(lab, 0)
        await lab.agent.wait_for_log("adverts again, ")
        assert (await lab.agent.status())["summary"] == "Working: 1 device present, uplink up"


async def test_links_are_not_broken(directory):
    """The power cycle waits for the end of the last session on its adapter."""
    async with running_lab(directory, QUIET, cloud=KEEPS_OPEN) as lab:
        await hears(lab)
        device = EchoDevice()
        lab.sim.add_device(device, interval_s=0.1)
        device.ask(b"hold")
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        heard = (await lab.agent.status())["sightings"]["adverts"]
        lab.sim.deafen(0, until="power-cycle")
        await lab.agent.wait_for_status(
            lambda s: "when no device is connected" in supervisor_of(s).get("cause", ""))
        # It goes on and on: that is told, and the cycle still waits.
        status = await lab.agent.wait_for_status(
            lambda s: "when no device is connected" in s["summary"])
        assert supervisor_of(status)["reports"] == 1
        assert supervisor_of(status)["step"] == "restarted"
        assert supervisor_of(status)["power_cycles"] == 0
        assert supervisor_of(status)["next_in_s"] == 0
        assert len(status["relay"]["sessions"]) == 1 and not lab.cloud.find("close")
        lab.cloud.sessions[0].close(0, "")
        supervisor = await hears_again(lab, heard)
        assert supervisor["power_cycles"] == 1
        assert (await lab.cloud.wait_for("close"))["code"] == 0


async def test_what_is_not_blecon_counts(directory):
    """Another program's discovery lets other devices through: the radio is not deaf."""
    async with running_lab(directory, QUIET) as lab:
        await lab.working()
        lab.sim.adapters[0].clients.append(":1.999")
        lab.sim.add_noise(interval_s=0.1)
        await until(lambda: lab.sim.noise_delivered > 25)
        status = await lab.agent.status()
        assert supervisor_of(status)["step"] == "watching"
        assert supervisor_of(status)["restarts"] == 0
        assert status["sightings"]["adverts"] == 0
        assert "last_advert_s" not in status["bluetooth"]["adapters"][0]


async def test_switched_off(directory):
    """silence_s = 0: whatever it hears or not, nothing is done and nothing is told."""
    async with running_lab(directory, {"bluetooth": {"silence_s": 0}}) as lab:
        await lab.working()
        await asyncio.sleep(3)
        status = await lab.agent.status()
        assert "supervisor" not in status["bluetooth"]["adapters"][0]
        assert status["summary"] == "Working, but no device heard yet"
        assert len(lab.sim.called("StartDiscovery")) == 1
        assert not lab.sim.called("StopDiscovery")


async def test_other_power_cycles_are_counted(directory):
    """A discovery that is nobody's makes the agent switch the adapter off and on, too."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].discovery_error = ("org.bluez.Error.InProgress", "not yours")
        await lab.sim.start()
        await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"]
            and supervisor_of(s).get("power_cycles") == 1)
        lab.sim.adapters[0].discovery_error = None
        supervisor = supervisor_of(await lab.scanning())
        assert [supervisor[k] for k in ("restarts", "power_cycles", "reports")] == [0, 1, 0]
        assert "step_s" not in supervisor
