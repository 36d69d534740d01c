#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An L2CAP client as the relay is one: C's calls, from a library or from what is preloaded.

    coc_client.py <adapter's address> <device's address> <frame>

connects to channel 0, sends the frame and prints what comes.
"""
from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from pathlib import Path

AF_BLUETOOTH = 31
SOL_BLUETOOTH, BT_SECURITY, BT_SNDMTU, BT_RCVMTU = 274, 4, 12, 13
PUBLIC, RANDOM = 1, 2
MAIN, SECOND = 0xB2, 0xB3           # PSMs


class CocSocket:
    """A socket of BTPROTO_L2CAP. Errors are OSError."""

    def __init__(self, library: Path | None, flags: int = socket.SOCK_NONBLOCK) -> None:
        self._c = ctypes.CDLL(str(library) if library else None, use_errno=True)
        self.fd = self._call("socket", AF_BLUETOOTH, socket.SOCK_SEQPACKET | flags, 0)
        self._sock: socket.socket | None = None

    @property
    def sock(self) -> socket.socket:
        """The same descriptor, for send() and recv()."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=self.fd)
        return self._sock

    def bind(self, address: str, kind: int = PUBLIC, psm: int = 0) -> None:
        name = _sockaddr(address, kind, psm)
        self._call("bind", self.fd, name, len(name))

    def connect(self, address: str, kind: int = RANDOM, psm: int = MAIN) -> None:
        """It does not wait: OSError EINPROGRESS is success."""
        name = _sockaddr(address, kind, psm)
        self._call("connect", self.fd, name, len(name))

    def get(self, level: int, name: int, size: int = 4) -> int:
        value, length = ctypes.create_string_buffer(size), ctypes.c_uint32(size)
        self._call("getsockopt", self.fd, level, name, value, ctypes.byref(length))
        return int.from_bytes(value.raw[:length.value], "little")

    def set(self, level: int, name: int, value: int, size: int) -> None:
        self._call("setsockopt", self.fd, level, name, value.to_bytes(size, "little"), size)

    def error(self) -> int:
        """SO_ERROR."""
        return self.get(socket.SOL_SOCKET, socket.SO_ERROR)

    def sndmtu(self) -> int:
        """BT_SNDMTU."""
        return self.get(SOL_BLUETOOTH, BT_SNDMTU, 2)

    def events(self) -> int:
        """What poll() tells now."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        return sum(events for _, events in poll.poll(0))

    def is_writable(self) -> bool:
        return bool(self.events() & select.POLLOUT)

    def unsent(self) -> int:
        """TIOCOUTQ."""
        return struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(4)))[0]

    def close(self) -> None:
        if self._sock:
            self._sock.detach()
        self._call("close", self.fd)

    def _call(self, name: str, *args: object) -> int:
        result = getattr(self._c, name)(*args)
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{name}: {os.strerror(error)}")
        return result


def _sockaddr(address: str, kind: int, psm: int) -> bytes:
    bdaddr = bytes.fromhex(address.replace(":", ""))[::-1]
    return struct.pack("<HH6sHBx", AF_BLUETOOTH, psm, bdaddr, 0, kind)


def main(adapter: str, device: str, frame: str) -> None:
    coc = CocSocket(None)
    coc.bind(adapter)
    with contextlib.suppress(BlockingIOError):
        coc.connect(device)
    select.select([], [coc.fd], [], 5)
    assert coc.error() == 0, errno.errorcode[coc.error()]
    coc.sock.setblocking(True)
    coc.sock.send(frame.encode())
    print(coc.sndmtu(), coc.sock.recv(1000).decode())
    coc.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
