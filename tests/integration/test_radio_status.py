# SPDX-License-Identifier: Apache-2.0
"""What the status says of the radio: each field, each fault with its cause and the next step."""

import os

import pytest

from bluez_sim import Beacon
from harness import CTL, run, running_lab, until

QUIET = {"bluetooth": {"silence_s": 1}}
OTHER_PROGRAM = ":1.999"     # a client of bluetoothd that scans without a filter
DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "Rejected send message")
ALLOW = "allow it in a D-Bus policy for org.bluez, or put the user into the group bluetooth"

# In dbus-daemon's configuration, as a distribution's may have it.
NO_ACCESS = """\
  <policy context="mandatory">
    <deny send_destination="org.bluez"/>
  </policy>
</busconfig>
"""


def first(status):
    return status["bluetooth"]["adapters"][0]


async def fault(lab, condition, **wait):
    """The radio's part of the status once condition is true of it: what is wrong and what to do.

    They are also in the first line of what a person sees, and nothing works.
    """
    status = await lab.agent.wait_for_status(lambda s: condition(s["bluetooth"]), **wait)
    radio = status["bluetooth"]
    assert not status["working"]
    page = await run(CTL, "-s", lab.agent.socket, "status")
    assert page.code == 3
    assert f"{radio['reason']}: {radio['advice']}" in page.out.splitlines()[0]
    return radio


async def test_powered_and_discovering(directory):
    """As bluetoothd says, with and without us."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].discovery_error = ("org.bluez.Error.Failed", "not now")
        await lab.sim.start()
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"] and first(s)["state"] == "failed")
        assert (first(status)["powered"], first(status)["discovering"]) == (True, False)
        lab.sim.adapters[0].discovery_error = None
        status = await lab.scanning()
        await lab.agent.wait_for_status(lambda s: first(s)["discovering"])
        lab.sim.set_rfkill(0, True)
        await lab.agent.wait_for_status(
            lambda s: not first(s)["powered"] and not first(s)["discovering"])


async def test_version(directory):
    """bluetoothd's, again after a restart, and not where main.conf names another product."""
    async with running_lab(directory) as lab:
        status = await lab.scanning()
        assert status["bluetooth"]["version"] == "5.66"
        await lab.sim.stop()
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "no-bluetoothd")
        assert "version" not in status["bluetooth"]
        lab.sim.adapters[0].modalias = "usb:v1D6Bp0246d0556"
        await lab.sim.start()
        assert (await lab.scanning())["bluetooth"]["version"] == "5.86"
        for modalias in ("bluetooth:v05F1p0001d0542", None):
            await lab.sim.stop()
            await lab.agent.wait_for_status(
                lambda s: s["bluetooth"]["state"] == "no-bluetoothd")
            lab.sim.adapters[0].modalias = modalias
            await lab.sim.start()
            assert "version" not in (await lab.scanning())["bluetooth"]


async def test_nothing_to_do(directory):
    """Nothing heard yet: no age of it, no advice, a rate of zero."""
    async with running_lab(directory) as lab:
        await lab.working()
        status = await lab.agent.status()
        assert "advice" not in status["bluetooth"] and "reason" not in status["bluetooth"]
        adapter = first(status)
        assert not {"last_advert_s", "last_heard_s", "reason"} & adapter.keys()
        assert (adapter["adverts"], adapter["others"], adapter["adverts_per_s"]) == (0, 0, 0)


async def test_adverts_per_second(directory):
    """The mean of ten seconds, to a tenth; it ends with the adverts."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=37)
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"][0]["adverts_per_s"] == 3.7)
        assert first(status)["adverts"] == 37 and first(status)["last_heard_s"] < 10
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"][0]["adverts_per_s"] == 0, 15)
        assert first(status)["last_advert_s"] >= 10
        assert first(status)["adverts"] == 37


async def test_others_are_counted(directory):
    """What is not Blecon's is a number and an age, and nothing else of it is anywhere."""
    async with running_lab(directory) as lab:
        await lab.working()
        lab.sim.adapters[0].clients.append(OTHER_PROGRAM)
        beacon, noise = Beacon(), lab.sim.add_noise()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=3)
        await lab.sim.advertise(noise, count=5)
        status = await lab.agent.wait_for_status(lambda s: first(s)["others"] == 5)
        assert first(status)["adverts"] == 3
        assert first(status)["last_heard_s"] <= first(status)["last_advert_s"]
        await lab.sim.advertise(noise)
        await lab.agent.wait_for_status(lambda s: first(s)["others"] == 6)
        text = str(status) + str(await lab.agent.devices()) + lab.agent.log
        for form in (noise.address, noise.address.replace(":", "_")):
            assert form not in text and form.lower() not in text
        await lab.all_told()


async def test_counters_outlive_the_adapter(directory):
    """As those of its adverts do."""
    async with running_lab(directory) as lab:
        await lab.working()
        lab.sim.adapters[0].clients.append(OTHER_PROGRAM)
        await lab.sim.advertise(lab.sim.add_noise(), count=4)
        await lab.agent.wait_for_status(lambda s: first(s)["others"] == 4)
        lab.sim.remove_adapter(0)
        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "no-adapter")
        lab.sim.add_adapter(0, "00:AA:01:00:00:00")
        adapter = first(await lab.scanning())
        assert adapter["others"] == 4 and "last_heard_s" in adapter


async def test_no_bus(directory):
    """The address that was tried is named, for it may be the wrong one."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.agent.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={directory}/none"
        await lab.agent.start()
        radio = await fault(lab, lambda b: "No such file" in b.get("reason", ""))
        assert radio["state"] == "no-bus"
        assert radio["reason"].startswith(
            "D-Bus cannot be reached: No such file or directory (DBUS_SYSTEM_BUS_ADDRESS=unix:")
        assert radio["advice"] == "start dbus-daemon (systemctl start dbus, on OpenWrt service " \
            "dbus start), or correct DBUS_SYSTEM_BUS_ADDRESS"


async def test_no_bluetoothd(directory):
    """How to start it, on either system."""
    async with running_lab(directory, start_sim=False) as lab:
        radio = await fault(lab, lambda b: b["state"] == "no-bluetoothd")
        assert radio["reason"] == "bluetoothd is not running"
        assert radio["advice"] == "start the bluetooth service (systemctl start bluetooth, " \
            "on OpenWrt service bluetoothd start)"


async def test_bluetoothd_that_hangs(directory):
    """It has its name and does not say what it has."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.objects_error = ("org.freedesktop.DBus.Error.NoReply", "too late")
        await lab.sim.start()
        radio = await fault(lab, lambda b: "too late" in b.get("reason", ""))
        assert radio["state"] == "no-bluetoothd"
        assert radio["reason"].startswith("bluetoothd does not say what it has: ")
        assert radio["advice"].startswith("restart it (systemctl restart bluetooth, ")


async def test_no_access(directory):
    """A policy of dbus-daemon itself."""
    async with running_lab(directory, start_agent=False) as lab:
        config = directory / "bus/bus.conf"
        config.write_text(config.read_text().replace("</busconfig>\n", NO_ACCESS))
        await lab.sim._call_driver(lab.sim._bus, "ReloadConfig")
        await lab.agent.start()
        radio = await fault(lab, lambda b: b["state"] == "no-access")
        assert radio["reason"].endswith(" may not talk to bluetoothd")
        assert radio["advice"] == ALLOW


async def test_no_adapter(directory):
    """Nothing is said of it while bluetoothd may still be finding one."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters.clear()
        await lab.sim.start()
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["state"] == "no-adapter")
        assert status["bluetooth"]["reason"] == "bluetoothd is looking for adapters"
        assert "advice" not in status["bluetooth"]
        radio = await fault(lab, lambda b: b["reason"] == "no adapter")
        assert radio["advice"].startswith("plug one in, or see dmesg ")


async def test_configured_adapter_missing(directory):
    """The configuration may be wrong; also where another adapter works."""
    advice = "plug it in, see dmesg if it is, or correct bluetooth.adapters in the configuration " \
        "(bluetoothctl list shows what there is)"
    async with running_lab(directory, {"bluetooth": {"adapters": ["hci5", "hci6"]}}) as lab:
        radio = await fault(lab, lambda b: b["reason"] == "no adapter hci5; no adapter hci6")
        assert (radio["state"], radio["advice"]) == ("no-adapter", advice)
        lab.sim.add_adapter(5, "00:AA:01:00:00:05")
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"].get("reason") == "no adapter hci6" and s["working"])
        assert status["bluetooth"]["advice"] == advice
        assert status["summary"] == \
            f"Working, but no device heard yet; and no adapter hci6: {advice}"


async def test_blocked(directory):
    """By rfkill: one command."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].powered, lab.sim.adapters[0].rfkill = False, True
        await lab.sim.start()
        radio = await fault(lab, lambda b: b.get("reason") == "hci0: switched off by rfkill")
        assert radio["adapters"][0]["reason"] == "switched off by rfkill"
        assert radio["advice"] == "rfkill unblock bluetooth, or without that program: " \
            "echo 0 | tee /sys/class/bluetooth/hci*/rfkill*/soft"
        assert radio["adapters"][0]["powered"] is False


async def test_power_fails(directory):
    """As with firmware that is missing."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].powered = False
        lab.sim.adapters[0].power_error = ("org.bluez.Error.Failed", "no firmware")
        await lab.sim.start()
        radio = await fault(lab, lambda b: "no firmware" in b.get("reason", ""))
        assert radio["reason"] == "hci0: Powered: org.bluez.Error.Failed: no firmware"
        assert radio["advice"] == \
            "see dmesg for its firmware and USB power, and plug it out and in"


@pytest.mark.parametrize("name, advice", [
    ("org.bluez.Error.NotReady", "bluetoothctl power on, and if that fails see dmesg"),
    ("org.bluez.Error.NotAuthorized", ALLOW),
    ("org.bluez.Error.InProgress", "end other programs that scan "),
    ("org.bluez.Error.NotPermitted", "see that /etc/bluetooth/main.conf does not say "),
    ("org.bluez.Error.NotSupported", "use an adapter with Bluetooth LE"),
    ("org.bluez.Error.Failed", "see dmesg for errors of the adapter"),
    ("org.bluez.Error.Surprise", "see dmesg for errors of the adapter"),
])
async def test_scanning_refused(directory, name, advice):
    """What bluetoothd answers decides what to do, which stands while it is tried again."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].discovery_error = (name, "not you")
        await lab.sim.start()
        reason = f"hci0: StartDiscovery: {name}: not you"
        radio = await fault(lab, lambda b: b.get("reason") == reason)
        assert radio["state"] == "not-scanning"
        assert radio["advice"].startswith(advice)
        await until(lambda: len(lab.sim.called("StartDiscovery")) >= 2)
        lab.sim.adapters[0].discovery_error = None
        status = await lab.scanning()
        assert "advice" not in status["bluetooth"]


async def test_denied_words_are_short(directory):
    """Those of dbus-daemon itself are hundreds of bytes of rules and names."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].discovery_error = DENIED
        await lab.sim.start()
        radio = await fault(lab, lambda b: "policy" in b.get("reason", ""))
        assert radio["reason"] == \
            f"hci0: StartDiscovery: a D-Bus policy denies it to user {os.geteuid()}"
        assert radio["advice"] == ALLOW


async def test_no_bluetooth_le(directory):
    """bluetoothd says InProgress, which would have other programs searched for."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].le = False
        await lab.sim.start()
        radio = await fault(lab, lambda b: "Bluetooth LE" in b.get("reason", ""))
        assert radio["reason"] == "hci0: it has no Bluetooth LE"
        assert radio["advice"].startswith("use an adapter with Bluetooth LE")
        await until(lambda: len(lab.sim.called("StartDiscovery")) >= 3)
        status = await lab.agent.status()
        assert first(status)["supervisor"]["power_cycles"] == 0


async def test_switched_on_by_somebody_else(directory):
    """Busy is nothing wrong, unless it stays."""
    async with running_lab(directory, start_sim=False) as lab:
        lab.sim.adapters[0].powered = False
        lab.sim.adapters[0].power_error = ("org.bluez.Error.Busy", "")
        await lab.sim.start()
        await until(lambda: len(lab.sim.called("Set")) == 1)
        status = await lab.agent.wait_for_status(lambda s: s["bluetooth"]["adapters"])
        assert first(status)["state"] == "off"
        radio = await fault(lab, lambda b: b.get("reason", "").endswith("Busy"))
        assert radio["reason"] == "hci0: Powered: org.bluez.Error.Busy"
        lab.sim.adapters[0].power_error = None
        lab.sim.set_powered(0, True)
        await lab.scanning()


async def test_nothing_is_heard(directory):
    """Once the supervisor has done what it can: a device, the antenna, noise, another adapter."""
    async with running_lab(directory, QUIET) as lab:
        await lab.working()
        status = await lab.agent.wait_for_status(lambda s: "advice" in s["bluetooth"])
        advice = status["bluetooth"]["advice"]
        assert advice.startswith("bring a Blecon device within 10 m, and if that is not heard ")
        assert "antenna" in advice and "USB 3" in advice and "another adapter" in advice
        assert first(status)["supervisor"]["reports"] == 1
        assert "last_heard_s" not in first(status) and first(status)["others"] == 0
        assert "hci0: no advert for " in status["summary"]
        assert status["summary"].endswith(f": {advice}")
        lab.sim.add_device(Beacon(), interval_s=0.1)
        await lab.agent.wait_for_status(lambda s: "advice" not in s["bluetooth"])


async def test_only_others_are_heard(directory):
    """The radio is not deaf: a device is missing."""
    async with running_lab(directory, {"bluetooth": {"silence_s": 3}}) as lab:
        await lab.working()
        lab.sim.adapters[0].clients.append(OTHER_PROGRAM)
        lab.sim.add_noise(interval_s=0.1)
        status = await lab.agent.wait_for_status(
            lambda s: "none of Blecon's" in s["bluetooth"].get("advice", ""))
        advice = status["bluetooth"]["advice"]
        assert advice.endswith(": is one switched on, and within some 10 m?")
        assert first(status)["others"] > 0 and first(status)["adverts"] == 0
        assert status["summary"] == f"Working, but no device heard yet; and {advice}"
        lab.sim.add_device(Beacon(), interval_s=0.1)
        status = await lab.agent.wait_for_status(lambda s: "advice" not in s["bluetooth"])
        assert first(status)["adverts"] > 0
