# SPDX-License-Identifier: Apache-2.0
"""Advertising of raw data on a Bluetooth controller of this machine, for tests with the real BlueZ.

The kernel's management socket takes the advertising data byte for byte. As a program:

    advertiser.py --adapter hci1 02010603030dfd17160dfd3a… 02010603030dfd17160dfd3b…

Advertiser re-enables advertising every `interval`: btvirt sends an advert once per enabling.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import itertools
import socket
import struct
from collections.abc import Callable, Sequence

AD_PREFIX = bytes.fromhex("02010603030dfd17160dfd")

AF_BLUETOOTH, BTPROTO_HCI = 31, 1
HCI_DEV_NONE, HCI_CHANNEL_CONTROL = 0xFFFF, 3
READ_INFO, SET_POWERED, ADD_ADVERTISING, REMOVE_ADVERTISING = 0x0004, 0x0005, 0x003E, 0x003F
COMMAND_COMPLETE, COMMAND_STATUS = 0x0001, 0x0002
DEVICE_CONNECTED, DEVICE_DISCONNECTED = 0x000B, 0x000C
CONNECTABLE = 1 << 0
INSTANCE = 1
COMMAND_SECONDS = 5


class MgmtError(Exception):
    """A management command ended with a status other than success."""


class Mgmt:
    """The kernel's Bluetooth management socket, for one controller. One command at a time."""

    def __init__(self, adapter: str, on_link: Callable[[bool], None] | None = None) -> None:
        self.index = int(adapter.removeprefix("hci"))
        self.on_link = on_link
        self._lock = asyncio.Lock()
        self._pending: tuple[int, asyncio.Future[tuple[int, bytes]]] | None = None
        self._socket = socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK,
                                     BTPROTO_HCI)
        # socket.bind() cannot name the channel.
        address = struct.pack("<HHH", AF_BLUETOOTH, HCI_DEV_NONE, HCI_CHANNEL_CONTROL)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "cannot bind the management socket")
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def command(self, opcode: int, parameters: bytes) -> bytes:
        """What the kernel returns; MgmtError if that is a failure."""
        async with self._lock:
            reply = asyncio.get_running_loop().create_future()
            self._pending = opcode, reply
            self._socket.send(struct.pack("<HHH", opcode, self.index, len(parameters)) + parameters)
            async with asyncio.timeout(COMMAND_SECONDS):  # wait_for() may swallow a cancellation
                status, returned = await reply
        if status:
            raise MgmtError(f"management command {opcode:#06x}: status {status:#04x}")
        return returned

    async def address(self) -> str:
        """The controller's public address."""
        return (await self.command(READ_INFO, b""))[5::-1].hex(":").upper()

    async def power_on(self) -> None:
        """Tried for 5 s: bluetoothd may be doing the same at this moment."""
        for last in [False] * 24 + [True]:
            try:
                await self.command(SET_POWERED, b"\x01")
                return
            except MgmtError:
                if last:
                    raise
                await asyncio.sleep(0.2)

    def _readable(self) -> None:
        packet = self._socket.recv(2048)
        event, index, _ = struct.unpack_from("<HHH", packet)
        if index != self.index:
            return
        if event in (COMMAND_COMPLETE, COMMAND_STATUS):
            opcode, status = struct.unpack_from("<HB", packet, 6)
            if self._pending and self._pending[0] == opcode and not self._pending[1].done():
                self._pending[1].set_result((status, packet[9:]))
        elif event in (DEVICE_CONNECTED, DEVICE_DISCONNECTED) and self.on_link:
            self.on_link(event == DEVICE_CONNECTED)


class Advertiser:
    """Connectable legacy advertising of raw data: what `payloads()` returns now, in rotation.

    Nothing is advertised while it returns nothing. `sent` counts the enablings.
    """

    def __init__(self, mgmt: Mgmt, payloads: Callable[[], Sequence[bytes]],
                 interval: float = 0.3) -> None:
        self.sent = 0
        self._mgmt = mgmt
        self._payloads = payloads
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._mgmt.power_on()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self.silence()

    async def silence(self) -> None:
        try:
            await self._mgmt.command(REMOVE_ADVERTISING, bytes([INSTANCE]))
        except MgmtError:
            pass  # there was none

    async def _run(self) -> None:
        silent = True
        for turn in itertools.count():
            payloads = self._payloads()
            if payloads:
                silent = not await self._advertise(payloads[turn % len(payloads)])
            elif not silent:
                await self.silence()
                silent = True
            await asyncio.sleep(self._interval)

    async def _advertise(self, payload: bytes) -> bool:
        # No flag but "connectable": the kernel then adds no AD structure of its own.
        parameters = struct.pack("<BIHHBB", INSTANCE, CONNECTABLE, 0, 0, len(payload), 0)
        try:
            await self._mgmt.command(ADD_ADVERTISING, parameters + payload)
            self.sent += 1
            return True
        except MgmtError:
            await self._mgmt.power_on()  # somebody turned it off
            return False


async def advertise(adapter: str, payloads: Sequence[bytes], interval: float) -> None:
    """Advertises the payloads in rotation until cancelled."""
    mgmt = Mgmt(adapter)
    advertiser = Advertiser(mgmt, lambda: payloads, interval)
    try:
        await advertiser.start()
        await asyncio.Event().wait()
    finally:
        await advertiser.stop()
        mgmt.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Advertise raw data in rotation.")
    parser.add_argument("--adapter", default="hci1")
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between adverts")
    parser.add_argument("payloads", nargs="+", type=bytes.fromhex, metavar="HEX")
    arguments = parser.parse_args()
    try:
        asyncio.run(advertise(arguments.adapter, arguments.payloads, arguments.interval))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
