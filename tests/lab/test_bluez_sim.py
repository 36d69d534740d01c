# SPDX-License-Identifier: Apache-2.0
"""Proves the simulated BlueZ with a D-Bus client: objects, adverts, restarts, monitors."""
from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

from dbus_fast import Variant

from bluez_lab import (ADDRESS, BLUEZ_FAILED, HCI0, RELAY, Client, Lab, eventually, recv, run)
from bluez_sim import (ADAPTER, DEVICE, FD0D, MONITOR_MANAGER, OBJECT_MANAGER, PROPERTIES,
                       Advert, Beacon)


def test_bus_dies_with_its_parent(tmp_path: Path) -> None:
    code = ("import sys, time; sys.path.insert(0, sys.argv[1]); "
            "from private_bus import PrivateBus; bus = PrivateBus(sys.argv[2]); bus.start(); "
            "print(bus.pid, flush=True); time.sleep(60)")
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)],
        stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    daemon = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    end = time.monotonic() + 3
    while Path(f"/proc/{daemon}/exe").exists():     # a zombie has none
        assert time.monotonic() < end, "dbus-daemon left behind"
        time.sleep(0.01)


def test_objects_and_properties(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client = lab.client
        assert (await client.objects())[HCI0][ADAPTER]["Address"] == ADDRESS
        assert await client.get(HCI0, ADAPTER, "PowerState") == "on"
        error, _ = await client.fails(HCI0 + "/dev_00", DEVICE, "Connect")
        assert error == "org.freedesktop.DBus.Error.UnknownObject"
        error, _ = await client.fails(HCI0, ADAPTER, "StartDiscovery", "s", "x")
        assert error == "org.freedesktop.DBus.Error.UnknownMethod"
        error, _ = await client.fails(HCI0, PROPERTIES, "Set", "ssv", ADAPTER, "Address",
                                      Variant("s", "x"))
        assert error == "org.freedesktop.DBus.Error.PropertyReadOnly"
        error, _ = await client.fails(HCI0, ADAPTER, "SetDiscoveryFilter", "a{sv}",
                                      {"RSSI": Variant("i", -80)})
        assert error == "org.bluez.Error.InvalidArguments"
    run(bus, test)


def test_adverts_are_told_while_discovering(bus: str) -> None:
    async def test(lab: Lab) -> None:
        sim, client, device = lab.sim, lab.client, lab.device
        assert await sim.advertise(device) == 0
        await client.discover()
        assert sim.called("SetDiscoveryFilter")[-1].args == [
            {"Transport": "le", "UUIDs": [FD0D], "RSSI": -127}]
        error, _ = await client.fails(HCI0, ADAPTER, "StartDiscovery")
        assert error == "org.bluez.Error.InProgress"
        assert await sim.advertise(device, rssi=-60) == 1
        assert await sim.advertise(device, rssi=-60, count=3) == 3
        device.asks = False
        assert await sim.advertise(device, rssi=-61) == 1
        await eventually(lambda: len(client.adverts()) == 5)
        (path, first), *later = client.adverts()
        assert path == lab.path
        assert first["RSSI"] == -60 and first["AddressType"] == "random"
        assert first["UUIDs"] == [FD0D] and first["ServiceData"][FD0D][0] == 1
        assert [props for _, props in later[:3]] == [{"RSSI": -60}] * 3
        assert later[3][1] == {"RSSI": -61, "ServiceData": {FD0D: device.service_data}}
        assert sim.delivered == Counter({device.device_id: 5})
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        assert client.signals[-2].body == [DEVICE, {}, ["RSSI"]]
        assert "RSSI" not in (await client.objects())[path][DEVICE]
        assert await sim.advertise(device) == 0
        error, _ = await client.fails(HCI0, ADAPTER, "StopDiscovery")
        assert error == BLUEZ_FAILED
    run(bus, test)


def test_filters(bus: str) -> None:
    async def test(lab: Lab) -> None:
        sim, client, device = lab.sim, lab.client, lab.device
        noise = sim.add_noise(Advert((), {}, {0x4C: b"\x02\x15"}))
        await client.discover()
        assert await sim.advertise(noise) == 0
        other = await Client.connect(bus)
        await other.discover({})
        assert await sim.advertise(noise) == 1
        other.bus.disconnect()
        await eventually(lambda: len(sim.adapters[0].clients) == 1)
        assert await sim.advertise(noise) == 0
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        await client.discover({**RELAY, "RSSI": Variant("n", -70),
                               "DuplicateData": Variant("b", True)})
        assert await sim.advertise(device, rssi=-71) == 0
        assert await sim.advertise(device, rssi=-70, count=2) == 2
        await eventually(lambda: len(client.adverts()) == 3)
        assert client.adverts()[-1][1]["ServiceData"] == {FD0D: device.service_data}
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        await client.discover({"Transport": Variant("s", "le")})    # a regular discovery
        assert await sim.advertise(device, rssi=-70) == 1
        assert await sim.advertise(device, rssi=-77) == 0
        assert await sim.advertise(device, rssi=-78) == 1
        assert sim.noise_delivered == 1
    run(bus, test)


def test_restart(bus: str) -> None:
    async def test(lab: Lab) -> None:
        sim, client = lab.sim, lab.client
        notify, _ = await lab.session()
        spare = sim.add_device(Beacon())
        assert await sim.advertise(spare) == 1
        path, spare_path = lab.path, sim.object_path(spare)
        await client.objects()
        count = len(client.signals)
        await sim.stop()
        assert [await recv(notify) for _ in range(3)] == [b"hello", b"world", b""]
        assert lab.device.sessions == ["opened 244", "closed"]
        assert await sim.advertise(spare) == 0
        error, _ = await client.fails("/", OBJECT_MANAGER, "GetManagedObjects")
        assert error == "org.freedesktop.DBus.Error.ServiceUnknown"
        assert len(client.signals) == count     # no goodbye
        sim.startup_delay_s = 0.1
        await sim.start()
        objects = await client.objects()
        assert spare_path not in objects
        assert "ServiceData" not in objects[path][DEVICE]   # it was made permanent by Connect
        assert not objects[HCI0][ADAPTER]["Powered"]
        await eventually(lambda: client.changes(HCI0, "Powered") == [True])
        await client.discover()
        assert await sim.advertise(lab.device) == 1
        await eventually(lambda: "ServiceData" in client.adverts()[-1][1])
    run(bus, test)


def test_adapter_removal(bus: str) -> None:
    async def test(lab: Lab) -> None:
        notify, _ = await lab.session()
        lab.sim.remove_adapter(0)
        await eventually(lambda: lab.client.signals[-1].body[0] == HCI0)
        gone = [m.body[0] for m in lab.client.signals if m.member == "InterfacesRemoved"]
        assert gone.index(lab.char) < gone.index(lab.path) < gone.index(HCI0)
        assert [await recv(notify) for _ in range(3)][-1] == b""
        assert HCI0 not in await lab.client.objects()
        lab.sim.add_adapter(0, ADDRESS)
        await lab.client.discover()
        assert await lab.sim.advertise(lab.device) == 1
    run(bus, test)


def test_vanishing_client_ends_its_discovery_not_its_link(bus: str) -> None:
    async def test(lab: Lab) -> None:
        await lab.session()
        lab.client.bus.disconnect()
        await eventually(lambda: not lab.sim.adapters[0].clients)
        assert lab.sim.adapters[0].filters == {}
        successor = await Client.connect(bus)
        assert await successor.get(lab.path, DEVICE, "Connected")
        await successor.call(lab.path, DEVICE, "Disconnect")
        successor.bus.disconnect()
    run(bus, test)


def test_rotating_address_and_expiry(bus: str) -> None:
    async def test(lab: Lab) -> None:
        lab.peer.rotates_address = True
        await lab.client.discover()
        assert await lab.sim.advertise(lab.device, count=2) == 2
        old = lab.path
        lab.device.asks = False
        assert await lab.sim.advertise(lab.device) == 1
        assert lab.path != old and {old, lab.path} < (await lab.client.objects()).keys()
        assert lab.sim.delivered[lab.device.device_id] == 3
        await eventually(lambda: lab.client.signals[-1].member == "InterfacesRemoved")
        await eventually(lambda: not lab.sim.adapters[0].known)
    run(bus, test, temporary_timeout_s=0.2)


def test_two_adapters_hear_one_device(bus: str) -> None:
    async def test(lab: Lab) -> None:
        lab.sim.add_adapter(1, "00:AA:01:01:00:01")
        device = Beacon()
        lab.sim.add_device(device, adapter=(0, 1))
        await lab.client.discover()
        await lab.client.discover(path="/org/bluez/hci1")
        assert await lab.sim.advertise(device) == 2
        assert lab.sim.delivered[device.device_id] == 2
    run(bus, test)


def test_monitor(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client = lab.client
        error, _ = await client.fails(HCI0, MONITOR_MANAGER, "RegisterMonitor", "o", "/app")
        assert error == "org.freedesktop.DBus.Error.UnknownMethod"
        lab.sim.adapters[0].monitors = True
        await client.call(HCI0, MONITOR_MANAGER, "RegisterMonitor", "o", "/app")
        await eventually(lambda: client.activated == ["GetManagedObjects", "Activate"])
        await client.discover()
        await lab.sim.advertise(lab.device)
        await eventually(lambda: client.activated[2:] == ["DeviceFound"])
        await client.call(HCI0, MONITOR_MANAGER, "UnregisterMonitor", "o", "/app")
        lab.sim.adapters[0].monitor_released = True
        await client.call(HCI0, MONITOR_MANAGER, "RegisterMonitor", "o", "/app")
        await eventually(lambda: client.activated[-1] == "Release")
    run(bus, test)


def test_automatic_adverts_are_all_received(bus: str) -> None:
    """What the simulator counted is what arrived, over a stop at full rate."""
    async def test(lab: Lab) -> None:
        for _ in range(50):
            lab.sim.add_device(Beacon(), interval_s=0.02)
        lab.sim.set_interval(lab.device, 0.02)
        await lab.client.discover()
        await eventually(lambda: len(lab.client.adverts()) > 500)
        await lab.sim.stop()
        await eventually(lambda: len(lab.client.adverts()) == lab.sim.delivered.total())
        seen = Counter(uuid.UUID(bytes=bytes(props["ServiceData"][FD0D][2:18]))
                       for _, props in lab.client.adverts() if "ServiceData" in props)
        assert seen.keys() == lab.sim.delivered.keys()
        assert len({props["RSSI"] for _, props in lab.client.adverts()}) > 5
    run(bus, test)
