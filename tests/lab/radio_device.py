# SPDX-License-Identifier: Apache-2.0
"""A Blecon device on a Bluetooth controller of this machine, for tests with the real BlueZ.

RadioDevice puts a virtual device (device.py) on the air: the kernel carries its advertising and its
L2CAP channels, bluetoothd its GATT service.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dbus_fast.aio import MessageBus

from advertiser import AD_PREFIX, Advertiser, Mgmt
from gatt_device import GattServer
from l2cap_device import L2capServer

# Seconds per notification: what a good radio link does. Where they come faster, the hotspot's
# bluetoothd drops those its client's socket has no room for.
PACE = 0.002
READ_SIZE = 512


class Pipe:
    """One open channel: a socket that keeps boundaries, and the frames that wait to go out.

    on_frame gets what comes in. When the other side has ended it and settle() is done, on_end() is
    called.
    """

    def __init__(self, sock: socket.socket, pace: float, on_frame: Callable[[bytes], None],
                 settle: Callable[[], Awaitable[None]], on_end: Callable[[], None]) -> None:
        self._socket = sock
        self._pace = pace
        self._on_frame = on_frame
        self._settle = settle
        self._on_end = on_end
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    def send(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._outgoing.put_nowait(frame)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._socket.close()

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # the end, which the reader sees too
            while True:
                frame = await self._outgoing.get()
                await asyncio.get_running_loop().sock_sendall(self._socket, frame)
                await asyncio.sleep(self._pace)

    async def _read(self) -> None:
        with contextlib.suppress(OSError):
            while frame := await asyncio.get_running_loop().sock_recv(self._socket, READ_SIZE):
                self._on_frame(frame)
        # Of an L2CAP channel the end is read first, as an error or as nothing, and then what came
        # before it.
        with contextlib.suppress(OSError):
            while frame := self._socket.recv(READ_SIZE):
                self._on_frame(frame)
        await self._settle()
        self._on_end()


async def _settled() -> None:
    """Where all that came before the end is read before the end."""


class RadioDevice:
    """A virtual device on `adapter`: advertises, and serves its channels over GATT and L2CAP.

    `device` is a device.VirtualDevice, or anything with its service_data, l2cap, channels, bearer,
    opened(), received() and closed(). Before opened(), its bearer is set to "gatt" or "l2cap".
    `bus` is a connected dbus_fast.aio.MessageBus with negotiate_unix_fd.

    A channel opens when the hotspot subscribes or connects to its PSM. The session ends with its
    last channel, or where the hotspot opens one anew.
    """

    def __init__(self, device: Any, bus: MessageBus, adapter: str = "hci1", interval: float = 0.3,
                 pace: float = PACE) -> None:
        self.device = device
        self.linked = False  # a hotspot holds the link
        self._channels: int = getattr(device, "channels", 1)
        self._mgmt = Mgmt(adapter, self._on_link)
        self._advertiser = Advertiser(self._mgmt, self._payloads, interval)
        self._gatt = GattServer(
            bus, adapter, self._channels,
            lambda *opened: self._open("gatt", *opened, pace, self._gatt.settle), self._on_frame,
            self._close)
        self._l2cap: L2capServer | None = None
        self._pipes: dict[int, Pipe] = {}  # of the channels that are open

    async def start(self) -> None:
        await self._mgmt.power_on()
        if getattr(self.device, "l2cap", False):
            self._l2cap = L2capServer(
                await self._mgmt.address(), self._channels,
                lambda *opened: self._open("l2cap", *opened, 0, _settled))
            self._l2cap.start()
        await self._gatt.start()
        await self._advertiser.start()

    async def stop(self) -> None:
        await self._advertiser.stop()
        self._close()
        if self._l2cap:
            await self._l2cap.stop()
        await self._gatt.stop()
        self._mgmt.close()

    @property
    def adverts(self) -> int:
        return self._advertiser.sent

    def _payloads(self) -> list[bytes]:
        return [] if self.linked else [AD_PREFIX + self.device.service_data]

    def _on_link(self, connected: bool) -> None:
        self.linked = connected

    def _open(self, bearer: str, channel: int, sock: socket.socket, max_frame: int, pace: float,
              settle: Callable[[], Awaitable[None]]) -> None:
        if channel in self._pipes:
            self._close()
        self._pipes[channel] = pipe = Pipe(sock, pace, lambda frame: self._on_frame(channel, frame),
                                           settle, lambda: self._end(channel))
        self.device.bearer = bearer
        pipe.send(self.device.opened(max_frame, channel))

    def _end(self, channel: int) -> None:
        self._pipes.pop(channel).close()
        if not self._pipes:
            self.device.closed()

    def _close(self) -> None:
        if self._pipes:
            for pipe in self._pipes.values():
                pipe.close()
            self._pipes.clear()
            self.device.closed()

    def _on_frame(self, channel: int, frame: bytes) -> None:
        if pipe := self._pipes.get(channel):
            pipe.send(self.device.received(frame, channel))
