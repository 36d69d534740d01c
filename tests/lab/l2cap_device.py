# SPDX-License-Identifier: Apache-2.0
"""L2CAP LE credit-based channels on this machine's kernel: a Blecon device's end, and a client's.

Python's socket module cannot name the LE address type, so binding and connecting go through libc.
A connection of one channel is a socket of SOCK_SEQPACKET: one send is one SDU, one SDU one frame.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable

AF_BLUETOOTH, BTPROTO_L2CAP, SOL_BLUETOOTH = 31, 0, 274
BDADDR_LE_PUBLIC, BDADDR_LE_RANDOM = 1, 2
BT_SNDMTU, BT_RCVMTU = 12, 13
PSMS = (0xB2, 0xB3)  # by channel
MAX_SDU = 245

_libc = ctypes.CDLL(None, use_errno=True)


def sockaddr_l2(address: str, psm: int = 0, kind: int = BDADDR_LE_PUBLIC) -> bytes:
    """struct sockaddr_l2: family, PSM, address, CID, address type, padding."""
    octets = bytes.fromhex(address.replace(":", ""))[::-1]
    return struct.pack("=H", AF_BLUETOOTH) + struct.pack("<H6sHBx", psm, octets, 0, kind)


def _call(function: Callable[[int, bytes, int], int], sock: socket.socket, name: bytes) -> int:
    """The errno of bind() or connect()."""
    return ctypes.get_errno() if function(sock.fileno(), name, len(name)) else 0


def bound_socket(address: str, psm: int = 0, mtu: int = MAX_SDU) -> socket.socket:
    """A non-blocking socket bound to the adapter of this address, for SDUs of up to `mtu` bytes."""
    sock = socket.socket(AF_BLUETOOTH, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK, BTPROTO_L2CAP)
    if error := _call(_libc.bind, sock, sockaddr_l2(address, psm)):
        sock.close()
        raise OSError(error, f"bind to {address}, PSM {psm:#x}: {os.strerror(error)}")
    sock.setsockopt(SOL_BLUETOOTH, BT_RCVMTU, struct.pack("=H", mtu))
    return sock


def begin_connect(sock: socket.socket, address: str, psm: int) -> int:
    """The errno of a connect() that does not wait: EINPROGRESS where all is well."""
    return _call(_libc.connect, sock, sockaddr_l2(address, psm))


def send_mtu(sock: socket.socket) -> int:
    """The longest SDU that the other side takes, of a connected socket."""
    return struct.unpack("=H", sock.getsockopt(SOL_BLUETOOTH, BT_SNDMTU, 2))[0]


async def connect(own: str, peer: str, psm: int) -> socket.socket:
    """A channel from the adapter `own` to `peer`. OSError where the peer refuses it."""
    loop = asyncio.get_running_loop()
    sock = bound_socket(own)
    try:
        error = begin_connect(sock, peer, psm)
        if error == errno.EINPROGRESS:
            writable = loop.create_future()
            loop.add_writer(sock, lambda: writable.done() or writable.set_result(None))
            try:
                await writable
            finally:
                loop.remove_writer(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"connect to {peer}, PSM {psm:#x}: {os.strerror(error)}")
        return sock
    except BaseException:
        sock.close()
        raise


class L2capServer:
    """Listens on the PSMs of a device's channels.

    on_open(channel, socket, longest frame the hotspot takes) gets each connection, and owns it.
    """

    def __init__(self, address: str, channels: int,
                 on_open: Callable[[int, socket.socket, int], None]) -> None:
        self._address = address
        self._channels = channels
        self._on_open = on_open
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for channel, psm in enumerate(PSMS[:self._channels]):
            sock = bound_socket(self._address, psm)
            self._sockets.append(sock)
            sock.listen()
            self._tasks.append(asyncio.create_task(self._accept(channel, sock)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    async def _accept(self, channel: int, listener: socket.socket) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            self._on_open(channel, sock, min(send_mtu(sock), MAX_SDU))
