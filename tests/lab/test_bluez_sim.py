#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Proves the simulated BlueZ with a D-Bus client: run with /usr/bin/python3 -m pytest."""
from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from bluez_sim import (ADAPTER, CHANNELS, CHARACTERISTIC, DBUS, DEVICE, FD0D, MONITOR,
                       MONITOR_MANAGER, OBJECT_MANAGER, PROPERTIES, Advert, Beacon, BluezSim, Peer)
from private_bus import PrivateBus

HCI0 = "/org/bluez/hci0"
ADDRESS = "00:AA:01:00:00:00"
RELAY = {"Transport": Variant("s", "le"), "UUIDs": Variant("as", [FD0D]),
         "RSSI": Variant("n", -127)}
ALL_SIGNALS = "type='signal',sender='org.bluez'"
BLUEZ_FAILED = "org.bluez.Error.Failed"


class Echo(Beacon):
    """A device that greets, asks for a connection until it has one, and echoes."""

    def __init__(self) -> None:
        super().__init__()
        self.asks = True
        self.sessions: list[str] = []
        self.greetings = [b"hello", b"world"]

    @property
    def service_data(self) -> bytes:
        """Twenty bytes; bit 0 asks."""
        return bytes([self.asks, 0]) + self.device_id.bytes + b"\x03\x00"

    @service_data.setter
    def service_data(self, _value: bytes) -> None:
        """Beacon's constant is not used."""

    def opened(self, max_frame: int) -> list[bytes]:
        self.asks = False
        self.sessions.append(f"opened {max_frame}")
        return self.greetings

    def received(self, frame: bytes) -> list[bytes]:
        return [b"echo " + frame]

    def closed(self) -> None:
        self.sessions.append("closed")


class Client:
    """What a relay does on the bus, in a few lines."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.signals: list[Message] = []
        self.activated: list[str] = []
        bus.add_message_handler(self._on_message)

    @classmethod
    async def connect(cls, address: str) -> Client:
        """Connect and subscribe to all of bluetoothd's signals."""
        bus = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
        client = cls(bus)
        await client.call("/org/freedesktop/DBus", DBUS, "AddMatch", "s",
                          ALL_SIGNALS, destination=DBUS)
        return client

    def _on_message(self, msg: Message) -> Message | bool:
        if msg.message_type is MessageType.SIGNAL and msg.sender != DBUS:
            self.signals.append(msg)
        if msg.message_type is MessageType.METHOD_CALL:
            self.activated.append(msg.member or "")
            if msg.member == "GetManagedObjects":
                pattern = [0, 0x16, b"\x0d\xfd"]
                return Message.new_method_return(msg, "a{oa{sa{sv}}}", [{"/app/m0": {MONITOR: {
                    "Type": Variant("s", "or_patterns"),
                    "Patterns": Variant("a(yyay)", [pattern])}}}])
            return True
        return False

    async def send(self, path: str, interface: str, member: str, signature: str = "",
                   *args: Any, destination: str = "org.bluez") -> Message:
        """Call and return the reply, whatever it is."""
        reply = await asyncio.wait_for(self.bus.call(Message(
            destination=destination, path=path, interface=interface, member=member,
            signature=signature, body=list(args))), 5)
        assert reply
        return reply

    async def call(self, path: str, interface: str, member: str, signature: str = "",
                   *args: Any, destination: str = "org.bluez") -> list[Any]:
        """Call and return the reply's body; it has to work."""
        reply = await self.send(path, interface, member, signature, *args,
                                destination=destination)
        assert reply.message_type is MessageType.METHOD_RETURN, (reply.error_name, reply.body)
        return unpack_variants(reply.body)

    async def fails(self, path: str, interface: str, member: str, signature: str = "",
                    *args: Any) -> tuple[str, str]:
        """Call and return the error's name and text; it has to fail."""
        reply = await self.send(path, interface, member, signature, *args)
        assert reply.message_type is MessageType.ERROR, reply.body
        return str(reply.error_name), reply.body[0]

    async def discover(self, wanted: dict[str, Variant] | None = None, path: str = HCI0) -> None:
        """Set a filter and start."""
        await self.call(path, ADAPTER, "SetDiscoveryFilter", "a{sv}",
                        RELAY if wanted is None else wanted)
        await self.call(path, ADAPTER, "StartDiscovery")

    async def get(self, path: str, interface: str, name: str) -> Any:
        """One property."""
        return (await self.call(path, PROPERTIES, "Get", "ss", interface, name))[0]

    async def objects(self) -> dict[str, Any]:
        """All of them."""
        return (await self.call("/", OBJECT_MANAGER, "GetManagedObjects"))[0]

    async def acquire(self, path: str, member: str) -> socket.socket:
        """A characteristic's socket."""
        reply = await self.send(path, CHARACTERISTIC, member, "a{sv}", {})
        assert reply.message_type is MessageType.METHOD_RETURN, (reply.error_name, reply.body)
        assert reply.body[1] == 247
        end = socket.socket(fileno=reply.unix_fds[0])
        end.setblocking(False)
        return end

    def adverts(self) -> list[tuple[str, dict[str, Any]]]:
        """(path, properties) of every signal so far that carries an RSSI."""
        found = []
        for msg in self.signals:
            props = {}
            if msg.member == "InterfacesAdded":
                props = unpack_variants(msg.body[1].get(DEVICE, {}))
            elif msg.body[0] == DEVICE:
                props = unpack_variants(msg.body[1])
            if "RSSI" in props:
                found.append((msg.body[0] if msg.path == "/" else msg.path, props))
        return found

    def changes(self, path: str, name: str) -> list[Any]:
        """The values told of a property."""
        return [m.body[1][name].value for m in self.signals
                if m.path == path and m.member == "PropertiesChanged" and name in m.body[1]]


class Lab:
    """A simulated daemon with one adapter and one device, and a client."""

    def __init__(self, sim: BluezSim, client: Client) -> None:
        self.sim = sim
        self.client = client
        self.device = Echo()
        self.peer: Peer = sim.add_device(self.device)

    @property
    def path(self) -> str:
        """Object path of the device."""
        return self.sim.object_path(self.device)

    @property
    def char(self) -> str:
        """Object path of channel 0's characteristic."""
        return f"{self.path}/service0010/char0011"

    async def connected(self) -> None:
        """Discover, connect, and wait for the services."""
        await self.client.discover()
        assert await self.sim.advertise(self.device) == 1
        await self.client.call(self.path, DEVICE, "Connect")
        await eventually(lambda: self.client.changes(self.path, "ServicesResolved") == [True])

    async def session(self) -> tuple[socket.socket, socket.socket]:
        """Connect and acquire channel 0: (notify, write)."""
        await self.connected()
        return (await self.client.acquire(self.char, "AcquireNotify"),
                await self.client.acquire(self.char, "AcquireWrite"))


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """Address of a bus."""
    with PrivateBus() as private:
        yield private.address


@asynccontextmanager
async def lab_on(bus: str, **options: Any) -> AsyncIterator[Lab]:
    """A lab that is running; no background failure may be left at its end."""
    sim = BluezSim(bus, **options)
    sim.add_adapter(0, ADDRESS)
    await sim.start()
    client = await Client.connect(bus)
    try:
        yield Lab(sim, client)
    finally:
        client.bus.disconnect()
        await sim.stop()
    assert sim.errors == []


def run(bus: str, test: Callable[[Lab], Awaitable[None]], **options: Any) -> None:
    """Run one test in a lab."""
    async def inner() -> None:
        async with lab_on(bus, **options) as lab:
            await asyncio.wait_for(test(lab), 10)
    asyncio.run(inner())


async def eventually(condition: Callable[[], bool], limit_s: float = 2) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen"
        await asyncio.sleep(0.005)


async def recv(end: socket.socket) -> bytes:
    """One packet; b"" is the end of the link."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 1000), 2)


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


def test_frames_both_ways(bus: str) -> None:
    async def test(lab: Lab) -> None:
        notify, write = await lab.session()
        added = [m.body[1][CHARACTERISTIC]["UUID"].value for m in lab.client.signals
                 if m.member == "InterfacesAdded" and CHARACTERISTIC in m.body[1]]
        assert set(CHANNELS) < set(added)
        assert [await recv(notify), await recv(notify)] == [b"hello", b"world"]
        write.send(b"a" * 244)
        assert await recv(notify) == b"echo " + b"a" * 244
        write.send(b"b" * 245)      # does not fit the MTU
        write.send(b"c")
        assert await recv(notify) == b"echo c"
        assert [f.direction for f in lab.sim.frames[lab.device.device_id]] == [
            "from_device", "from_device", "to_device", "from_device", "lost", "to_device",
            "from_device"]
        assert await lab.sim.advertise(lab.device) == 0     # connected
        error, _ = await lab.client.fails(lab.char, CHARACTERISTIC, "AcquireWrite", "a{sv}", {})
        assert error == "org.bluez.Error.NotPermitted"
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        assert await recv(notify) == b"" and await recv(write) == b""
        assert lab.client.changes(lab.path, "Connected") == [True, False]
        assert lab.device.sessions == ["opened 244", "closed"]
        assert await lab.sim.advertise(lab.device) == 1
        await lab.client.call(lab.path, DEVICE, "Connect")  # the services are cached
        await eventually(lambda: lab.client.changes(lab.path, "ServicesResolved")[-1])
        notify = await lab.client.acquire(lab.char, "AcquireNotify")
        assert await recv(notify) == b"hello"
        notify.close()              # unsubscribes, the link stays
        await eventually(lambda: lab.device.sessions[2:] == ["opened 244", "closed"])
        assert await lab.client.get(lab.path, DEVICE, "Connected")
        again = await lab.client.acquire(lab.char, "AcquireNotify")
        assert await recv(again) == b"hello"
        await lab.client.call(HCI0, ADAPTER, "RemoveDevice", "o", lab.path)
        assert lab.path not in str(await lab.client.objects())
        assert await recv(again) == b"world" and await recv(again) == b""
        assert await lab.sim.advertise(lab.device) == 1
        assert lab.path in await lab.client.objects()
    run(bus, test)


def test_full_socket_waits_or_drops(bus: str) -> None:
    async def test(lab: Lab) -> None:
        lab.device.greetings = [bytes([n % 256]) * 244 for n in range(2000)]
        notify, _ = await lab.session()
        await asyncio.sleep(0.05)
        assert [await recv(notify) for _ in range(2000)] == lab.device.greetings
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        lab.peer.drops_notifications = True
        await lab.client.call(lab.path, DEVICE, "Connect")
        notify = await lab.client.acquire(lab.char, "AcquireNotify")
        lost = [f for f in lab.sim.frames[lab.device.device_id] if f.direction == "lost"]
        assert 0 < len(lost) < 2000
    run(bus, test)


def test_stalled_radio_fills_the_write_socket(bus: str) -> None:
    async def test(lab: Lab) -> None:
        _, write = await lab.session()
        lab.peer.radio_stalls = True
        sent = 0
        with pytest.raises(BlockingIOError):
            for _ in range(5000):
                write.send(b"x" * 100)
                sent += 1
        await asyncio.sleep(0.05)
        frames = lab.sim.frames[lab.device.device_id]
        assert sum(f.direction == "to_device" for f in frames) == 0
        lab.peer.radio_stalls = False
        await eventually(lambda: sum(f.direction == "to_device" for f in frames) == sent)
    run(bus, test)


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
        await asyncio.sleep(0.1)
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
        await asyncio.sleep(0.1)
        assert lab.char in await client.objects()
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
        adapter.deaf = "power"
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
        await asyncio.sleep(0.5)
        await lab.sim.stop()
        await eventually(lambda: len(lab.client.adverts()) == lab.sim.delivered.total())
        seen = Counter(uuid.UUID(bytes=bytes(props["ServiceData"][FD0D][2:18]))
                       for _, props in lab.client.adverts() if "ServiceData" in props)
        assert seen.keys() == lab.sim.delivered.keys()
        assert len({props["RSSI"] for _, props in lab.client.adverts()}) > 5
    run(bus, test)


class Reader(threading.Thread):
    """A subscriber that only counts the signals it gets: it costs the least a relay could."""

    MEMBER = b"PropertiesChanged"

    def __init__(self, address: str, expected: int) -> None:
        super().__init__()
        self._expected = expected
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(10)
        self._sock.connect(address.split("path=")[1].split(",")[0])
        self._sock.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode()
                           + b"\r\nBEGIN\r\n")
        rule = f"type='signal',sender='org.bluez',interface='{PROPERTIES}'"
        for serial, (member, *args) in enumerate([("Hello",), ("AddMatch", rule)], 1):
            self._sock.sendall(Message(
                destination=DBUS, path="/org/freedesktop/DBus", interface=DBUS, member=member,
                signature="s" * len(args), body=args, serial=serial)._marshall(False))

    def run(self) -> None:
        tail, count = b"", 0
        while count < self._expected:
            data = tail + self._sock.recv(1 << 18)
            count += data.count(self.MEMBER)
            tail = data[1 - len(self.MEMBER):]
        self._sock.close()


def test_rate(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    """How fast 500 devices can be told; reported, not required."""
    async def measure(wanted: dict[str, Variant], rounds: int = 8) -> float:
        async with lab_on(bus) as lab:
            devices = [Beacon() for _ in range(500)]
            for device in devices:
                lab.sim.add_device(device)
            await lab.client.discover(wanted)
            await asyncio.gather(*(lab.sim.advertise(d) for d in devices))
            lab.client.bus.remove_message_handler(lab.client._on_message)
            await lab.client.call("/org/freedesktop/DBus", DBUS, "RemoveMatch", "s",
                                  ALL_SIGNALS, destination=DBUS)
            reader = Reader(bus, rounds * len(devices))
            await lab.client.objects()
            start = time.monotonic()
            reader.start()
            for _ in range(rounds):
                await asyncio.gather(*(lab.sim.advertise(d) for d in devices))
            await asyncio.to_thread(reader.join)
            return rounds * len(devices) / (time.monotonic() - start)

    plain = asyncio.run(measure(RELAY))
    data = asyncio.run(measure({**RELAY, "DuplicateData": Variant("b", True)}))
    with capsys.disabled():
        print(f"\n500 devices: {plain:.0f} signals/s, {data:.0f} with service data in each")
