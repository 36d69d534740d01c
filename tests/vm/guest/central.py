# SPDX-License-Identifier: Apache-2.0
"""The hotspot's side of the stack without the agent: a client of bluetoothd on hci0."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dbus_fast import Variant
from gatt_device import CHANNELS, SERVICE
from stack import HOTSPOT, Bluez, until

DEVICE1, CHARACTERISTIC = "org.bluez.Device1", "org.bluez.GattCharacteristic1"
DESCRIPTOR = "org.bluez.GattDescriptor1"
CCC = "00002902-0000-1000-8000-00805f9b34fb"


@asynccontextmanager
async def discovery(bluez: Bluez) -> AsyncIterator[None]:
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.SetDiscoveryFilter", "a{sv}", {
        "Transport": Variant("s", "le"), "UUIDs": Variant("as", [SERVICE]),
        "RSSI": Variant("n", -127)})
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.StartDiscovery")
    yield
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.StopDiscovery")


async def connect(bluez: Bluez) -> str:
    """Finds the device on the air and connects it: its path."""
    async with discovery(bluez):
        await until(lambda: bluez.devices(HOTSPOT))
        path = next(iter(await bluez.devices(HOTSPOT)))
        await bluez.call(path, f"{DEVICE1}.Connect")
    return path


async def resolve(bluez: Bluez, device: str, channel: int = 0) -> str:
    """The path of a channel's characteristic."""
    await bluez.wait_property(device, DEVICE1, "ServicesResolved", True)
    return next(path for path, interfaces in (await bluez.objects()).items()
                if path.startswith(device)
                and interfaces.get(CHARACTERISTIC, {}).get("UUID") == CHANNELS[channel])


async def ccc_of(bluez: Bluez, characteristic: str) -> str:
    """The path of a characteristic's Client Characteristic Configuration."""
    return next(path for path, interfaces in (await bluez.objects()).items()
                if path.startswith(f"{characteristic}/")
                and interfaces.get(DESCRIPTOR, {}).get("UUID") == CCC)


class Channel:
    """A channel over GATT: `async with Channel(bluez, characteristic)` subscribes to it."""

    def __init__(self, bluez: Bluez, path: str) -> None:
        self.bluez = bluez
        self.path = path
        self.mtu = 0
        self.writing: socket.socket
        self._notify: socket.socket

    async def __aenter__(self) -> Channel:
        self.writing, self.mtu = await self._acquire("AcquireWrite")
        self._notify, mtu = await self._acquire("AcquireNotify")
        assert mtu == self.mtu
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writing.close()
        self._notify.close()

    async def _acquire(self, method: str) -> tuple[socket.socket, int]:
        reply = await self.bluez.call(self.path, f"{CHARACTERISTIC}.{method}", "a{sv}", {})
        acquired = socket.socket(fileno=reply.unix_fds[reply.body[0]])
        acquired.setblocking(False)
        return acquired, reply.body[1]

    async def send(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.writing, frame)

    async def receive(self) -> bytes:
        """The next frame, or b"" when the link is gone."""
        return await asyncio.get_running_loop().sock_recv(self._notify, 512)


@asynccontextmanager
async def channel_0(bluez: Bluez) -> AsyncIterator[tuple[str, Channel]]:
    """Finds a device, connects it and opens channel 0 over GATT: its path, the channel."""
    device = await connect(bluez)
    async with Channel(bluez, await resolve(bluez, device)) as channel:
        yield device, channel
