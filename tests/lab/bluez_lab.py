# SPDX-License-Identifier: Apache-2.0
"""For the tests of the simulated BlueZ: a lab with one device, and clients as a relay would be."""
from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from bluez_sim import (ADAPTER, CHARACTERISTIC, DBUS, DESCRIPTOR, DEVICE, FD0D, MONITOR,
                       OBJECT_MANAGER, PROPERTIES, Beacon, BluezSim, Peer)

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

    def opened(self, max_frame: int, channel: int = 0) -> list[bytes]:
        self.asks = False
        self.sessions.append(f"opened {max_frame}" + f" on {channel}" * channel)
        return self.greetings

    def received(self, frame: bytes, channel: int = 0) -> list[bytes]:
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

    @property
    def second_char(self) -> str:
        """Object path of channel 1's characteristic."""
        return f"{self.path}/service0010/char0015"

    async def read_ccc(self) -> bytes:
        """Read channel 0's CCC descriptor, which bluetoothd does after all writes."""
        return (await self.client.call(f"{self.char}/desc0013", DESCRIPTOR, "ReadValue", "a{sv}",
                                       {}))[0]

    def arrived(self) -> list[bytes]:
        """The frames the device has taken."""
        return [f.data for f in self.sim.frames[self.device.device_id]
                if f.direction == "to_device"]

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
