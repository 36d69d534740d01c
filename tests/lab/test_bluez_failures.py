# SPDX-License-Identifier: Apache-2.0
"""Proves the failures that tests can script in the simulated BlueZ."""
from __future__ import annotations

import asyncio
import statistics

import pytest
from dbus_fast import Variant

from bluez_lab import BLUEZ_FAILED, HCI0, Echo, Lab, eventually, recv, run
from bluez_sim import ADAPTER, CHARACTERISTIC, DEVICE, PROPERTIES, Faults


def test_connect_faults(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client, peer = lab.client, lab.peer
        await client.discover()
        await lab.sim.advertise(lab.device)
        peer.connect_error = (BLUEZ_FAILED, "le-connection-abort-by-local")
        assert await client.fails(lab.path, DEVICE, "Connect") == peer.connect_error
        peer.connect_error = None
        peer.connect_succeeds_without_link = True
        await client.call(lab.path, DEVICE, "Connect")
        assert not await client.get(lab.path, DEVICE, "Connected")
        peer.connect_succeeds_without_link = False
        peer.connect_hangs = True
        pending = asyncio.create_task(client.fails(lab.path, DEVICE, "Connect"))
        await eventually(lambda: len(lab.sim.connections) == 3)
        error, _ = await client.fails(lab.path, DEVICE, "Connect")
        assert error == "org.bluez.Error.InProgress" and not pending.done()
        await client.call(lab.path, DEVICE, "Disconnect")
        assert await pending == (BLUEZ_FAILED, "br-connection-canceled")
        peer.connect_hangs = False
        error, _ = await client.fails(lab.path, DEVICE, "Disconnect")
        assert error == "org.bluez.Error.NotConnected"
        old = lab.path
        lab.sim.rotate_address(lab.device)      # nobody is at the old address any more
        error, text = await client.fails(old, DEVICE, "Connect")
        assert (error, text) == (BLUEZ_FAILED, "le-connection-abort-by-local")
        assert lab.sim.adapters[0].peak_connecting == 1
    run(bus, test, connect_timeout_s=0.2)


def test_service_faults(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client, peer = lab.client, lab.peer
        lab.sim.gatt_cache = False
        peer.services_never_resolve = True
        await client.discover()
        await lab.sim.advertise(lab.device)
        await client.call(lab.path, DEVICE, "Connect")
        await asyncio.sleep(0.15)
        assert not await client.get(lab.path, DEVICE, "ServicesResolved")
        await client.call(lab.path, DEVICE, "Disconnect")
        peer.services_never_resolve = False
        peer.no_blecon_service = True
        await client.call(lab.path, DEVICE, "Connect")
        await eventually(lambda: client.changes(lab.path, "ServicesResolved") == [True])
        assert lab.char not in await client.objects()
        await client.call(lab.path, DEVICE, "Disconnect")
        peer.no_blecon_service = False
        peer.resolves_before_objects = True
        await client.call(lab.path, DEVICE, "Connect")
        await eventually(lambda: client.changes(lab.path, "ServicesResolved")[2:] == [True])
        assert lab.char not in await client.objects()
        await eventually(lambda: lab.char in [m.body[0] for m in client.signals
                                              if m.member == "InterfacesAdded"])
    run(bus, test)


def test_session_faults(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client, peer = lab.client, lab.peer
        await lab.connected()
        peer.acquire_notify_never_answers = True
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.acquire(lab.char, "AcquireNotify"), 0.2)
        assert lab.device.sessions == []
        peer.acquire_notify_never_answers = False
        peer.acquire_write_error = (BLUEZ_FAILED, "Not connected")
        assert await client.fails(lab.char, CHARACTERISTIC, "AcquireWrite", "a{sv}", {}) == (
            peer.acquire_write_error)
        peer.acquire_write_error = None
        peer.vanish_after_frames = 3
        write = await client.acquire(lab.char, "AcquireWrite")
        notify = await client.acquire(lab.char, "AcquireNotify")
        write.send(b"third")
        assert [await recv(notify) for _ in range(3)] == [b"hello", b"world", b""]
        await eventually(lambda: client.changes(lab.path, "Connected") == [True, False])
        assert lab.device.sessions == ["opened 244", "closed"]
        error, text = await client.fails(lab.char, CHARACTERISTIC, "AcquireWrite", "a{sv}", {})
        assert (error, text) == (BLUEZ_FAILED, "Not connected")
    run(bus, test)


def test_discovery_and_power_faults(bus: str) -> None:
    async def test(lab: Lab) -> None:
        sim, client, adapter = lab.sim, lab.client, lab.sim.adapters[0]
        adapter.discovery_error = (BLUEZ_FAILED, "busy")
        assert await client.fails(HCI0, ADAPTER, "StartDiscovery") == adapter.discovery_error
        adapter.discovery_error = None
        sim.deafen(0, "power-cycle")
        await client.discover()
        assert await sim.advertise(lab.device) == 0
        power = (HCI0, PROPERTIES, "Set", "ssv", ADAPTER, "Powered")
        await client.call(*power, Variant("b", False))
        assert client.changes(HCI0, "Discovering") == [True, False]
        assert client.changes(HCI0, "PowerState") == ["on-disabling", "off"]
        error, _ = await client.fails(HCI0, ADAPTER, "StartDiscovery")
        assert error == "org.bluez.Error.NotReady"
        await client.call(*power, Variant("b", True))
        assert adapter.filters == {}
        await client.discover()
        assert await sim.advertise(lab.device) == 1
        sim.set_rfkill(0, True)
        assert await client.fails(*power, Variant("b", True)) == (
            "org.bluez.Error.Blocked", "Blocked through rfkill")
        assert await client.get(HCI0, ADAPTER, "PowerState") == "off-blocked"
        sim.set_rfkill(0, False)
        await client.call(*power, Variant("b", True))
    run(bus, test)


def test_deaf_adapter(bus: str) -> None:
    """Each sort is healed by its own remedy, and not by less."""
    async def test(lab: Lab) -> None:
        sim, client = lab.sim, lab.client
        power = (HCI0, PROPERTIES, "Set", "ssv", ADAPTER, "Powered")
        await client.discover()

        async def hears() -> bool:
            assert await client.get(HCI0, ADAPTER, "Discovering")
            return bool(await sim.advertise(lab.device))

        async def restart() -> None:
            await client.call(HCI0, ADAPTER, "StopDiscovery")
            await client.discover()

        async def cycle() -> None:
            await client.call(*power, Variant("b", False))
            await client.call(*power, Variant("b", True))
            await client.discover()

        assert await hears()
        sim.deafen(0, "restart")
        assert not await hears()
        await restart()
        assert await hears()
        sim.deafen(0, "power-cycle")
        await restart()
        assert not await hears()
        await cycle()
        assert await hears()
        sim.deafen(0, None)
        await restart()
        await cycle()
        assert not await hears()
    run(bus, test)


def test_script(bus: str) -> None:
    """One outcome an attempt, and then the device's own faults, of which it has none."""
    async def test(lab: Lab) -> None:
        sim, client = lab.sim, lab.client
        sim.script(lab.device, "connect-error", "no-link", "connect-hangs",
                   Faults(acquire_write_error=(BLUEZ_FAILED, "broken")), "ok")
        with pytest.raises(KeyError):
            sim.script(lab.device, "no such outcome")
        await client.discover()
        await sim.advertise(lab.device)
        assert await client.fails(lab.path, DEVICE, "Connect") == (
            BLUEZ_FAILED, "le-connection-abort-by-local")
        await client.call(lab.path, DEVICE, "Connect")
        assert not await client.get(lab.path, DEVICE, "Connected")
        pending = asyncio.create_task(client.fails(lab.path, DEVICE, "Connect"))
        await eventually(lambda: len(sim.connections) == 3)
        await client.call(lab.path, DEVICE, "Disconnect")
        assert await pending == (BLUEZ_FAILED, "br-connection-canceled")
        await client.call(lab.path, DEVICE, "Connect")
        await eventually(lambda: client.changes(lab.path, "ServicesResolved") == [True])
        assert await client.fails(lab.char, CHARACTERISTIC, "AcquireWrite", "a{sv}", {}) == (
            BLUEZ_FAILED, "broken")
        for _ in range(2):      # the script's "ok", and without a script
            await client.call(lab.path, DEVICE, "Disconnect")
            await client.call(lab.path, DEVICE, "Connect")
            (await client.acquire(lab.char, "AcquireWrite")).close()
        assert lab.peer.script == []
        assert [c.outcome for c in sim.connections] == [
            "le-connection-abort-by-local", "no-link", "cancelled", *["connected"] * 3]
        assert [c.end for c in sim.connections] == ["", "", "", "client", "client", ""]
        times = [t for c in sim.connections[:-1] for t in (c.tried_at, c.end_at)]
        assert times == sorted(times) and sim.connections[-1].end_at is None
    run(bus, test)


def test_records_of_ends(bus: str) -> None:
    """Who ended a connection, and what it carried."""
    async def test(lab: Lab) -> None:
        sim, client = lab.sim, lab.client
        sim.add_adapter(1, "00:AA:01:01:00:01")
        await lab.session()
        sim.drop_link(lab.device)
        await eventually(lambda: client.changes(lab.path, "Connected") == [True, False])
        sim.script(lab.device, Faults(vanish_after_frames=1))
        await client.call(lab.path, DEVICE, "Connect")
        await client.acquire(lab.char, "AcquireNotify")
        await eventually(lambda: client.changes(lab.path, "Connected")[2:] == [True, False])
        await client.call(lab.path, DEVICE, "Connect")
        sim.set_powered(0, False)
        assert [c.end for c in sim.connections] == ["device", "device", "adapter"]
        assert [c.channels for c in sim.connections] == [{0: "gatt"}, {0: "gatt"}, {}]
        assert sim.sessions(lab.device) == sim.connections[:2]
        assert {c.adapter for c in sim.connections} == {0}
    run(bus, test)


def test_two_adapters(bus: str) -> None:
    """A device is heard by each with its own RSSI, and connected by one at a time."""
    async def test(lab: Lab) -> None:
        sim, client, hci1 = lab.sim, lab.client, "/org/bluez/hci1"
        sim.add_adapter(1, "00:AA:01:01:00:01")
        device = Echo()
        sim.add_device(device, rssi={0: -70, 1: -50})
        await client.discover()
        await client.discover(path=hci1)
        assert await sim.advertise(device) == 2
        paths = [sim.object_path(device, n) for n in (0, 1)]
        assert [await client.get(path, DEVICE, "RSSI") for path in paths] == [-70, -50]
        for path in paths[::-1]:
            await client.call(path, DEVICE, "Connect")
            assert await client.get(path, DEVICE, "Connected")
            assert await sim.advertise(device) == 0
            await client.call(path, DEVICE, "Disconnect")
        assert [c.adapter for c in sim.connections] == [1, 0]
        assert [(a.peak_connected, a.peak_connecting) for a in sim.adapters.values()] == [
            (1, 1), (1, 1)]
        await client.call(paths[1], DEVICE, "Connect")
        assert await client.fails(paths[0], DEVICE, "Connect") == (
            BLUEZ_FAILED, "le-connection-abort-by-local")
        await client.call(paths[1], DEVICE, "Disconnect")
        sim.set_interval(device, 0.02)
        count = len(client.adverts())
        await eventually(lambda: len(client.adverts()) > count + 20)
        heard = {n: [p["RSSI"] for path, p in client.adverts()[count:] if path == paths[n]]
                 for n in (0, 1)}
        assert statistics.median(heard[0]) < -65 and statistics.median(heard[1]) > -55
    run(bus, test, connect_timeout_s=0.2)
