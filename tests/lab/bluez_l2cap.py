# SPDX-License-Identifier: Apache-2.0
"""L2CAP LE credit-based channels in the simulation: the kernel's part, and the device's.

l2cap_preload.c, preloaded into the client, asks at a Unix socket for each connection, and hands
over one end of a socket pair that is the channel then: one packet is one SDU. As the client has
filled that pair, it is writable only when the answer comes. See l2cap_preload.c for both messages.
"""
from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bluez_bus import _ObjectServer
from bluez_gatt import Frame, _Outgoing
from bluez_objects import Adapter, _Known

if TYPE_CHECKING:       # not when it runs: bluez_link imports this module
    from bluez_link import _Link

PSMS = {0xB2: 0, 0xB3: 1}       # and their channels
ADDRESS_TYPES = {1: "public", 2: "random"}
REQUEST = struct.Struct("<6sB6sBHHB")
STATUS = struct.Struct("<iH")
SECURITY_LOW = 1
SDU_MAX = 65535
PRELOAD = "l2cap_preload.so"    # in the directory of the programs


class CocRequest(NamedTuple):
    """One connect() of a client's L2CAP socket."""

    src: str
    src_type: str
    dst: str
    dst_type: str
    psm: int
    rcvmtu: int
    security: int


def preload_environment(programs: Path, path: Path, sanitized: bool = False) -> dict[str, str]:
    """What a client's environment needs, for a simulation that listens at `path`."""
    environment = {"LD_PRELOAD": str((programs / PRELOAD).resolve()),
                   "BLECON_LAB_L2CAP": str(path)}
    if sanitized:
        # The library comes before ASan's runtime, which would not start.
        given = os.environ.get("ASAN_OPTIONS")
        environment["ASAN_OPTIONS"] = ":".join(filter(None, [given, "verify_asan_link_order=0"]))
    return environment


class _Coc:
    """One credit-based channel of a link, or an attempt at one."""

    def __init__(self, link: _Link, number: int, end: socket.socket, rcvmtu: int) -> None:
        self.link = link
        self.number = number
        self.end: socket.socket | None = end
        self.is_up = False
        self.outgoing = _Outgoing(link, "l2cap", number, rcvmtu, self.close)
        self._loop = asyncio.get_running_loop()
        self._rcvmtu = rcvmtu
        self._paused = False                # frames wait for the radio

    def pump(self) -> None:
        """The radio may be ready: connect, or take frames."""
        if not self.link.radio_is_ready() or self.link.faults.l2cap_never_answers:
            return
        if not self.is_up:
            self._accept()
        elif self.end and self._paused:
            self._paused = False
            if _is_hung_up(self.end):
                self._purge()
            else:
                self._loop.add_reader(self.end, self._read)

    def _accept(self) -> None:
        assert self.end
        peer = self.link.peer
        self.is_up = True
        answer(self.end, 0, peer.sndmtu)
        self._loop.add_reader(self.end, self._read)
        self.outgoing.end = self.end
        max_frame = min(peer.sndmtu, self._rcvmtu)
        self.outgoing.send(self.link.channel_opened(self.number, "l2cap", max_frame))

    def _read(self) -> None:
        """Take frames as long as the radio does."""
        while self.end:
            if not self.link.radio_is_ready():
                self._loop.remove_reader(self.end)
                self._paused = True
                return
            try:
                frame = self._receive()
            except BlockingIOError:
                return
            if not frame and _is_hung_up(self.end):
                self.close()
                return
            self.link.radio_took_one()
            self._deliver(frame)

    def _purge(self) -> None:
        """The client closed while frames waited for the radio: the kernel forgets them."""
        assert self.end
        try:
            while frame := self._receive():
                self.link.log(Frame("lost", frame, self.number, "l2cap"))
        except BlockingIOError:
            pass
        self.close()

    def _receive(self) -> bytes:
        assert self.end
        try:
            return self.end.recv(SDU_MAX)
        except ConnectionResetError:    # it closed, and what it sent is still there
            return self.end.recv(SDU_MAX)

    def _deliver(self, frame: bytes) -> None:
        if len(frame) > self.link.peer.sndmtu:
            # The kernel's send() would not have taken it.
            self.link.sim.fail(ValueError(f"an SDU of {len(frame)} bytes"))
            self.link.log(Frame("lost", frame, self.number, "l2cap"))
        elif self.link.log(Frame("to_device", frame, self.number, "l2cap")):
            if self.end:
                self.outgoing.send(self.link.received(frame, self.number))

    def close(self) -> None:
        """The channel ends, or the link."""
        self.outgoing.stop()
        if self in self.link.cocs:
            self.link.cocs.remove(self)
        if self.end:
            self._loop.remove_reader(self.end)
            self.end.close()
            self.end = None
            self.link.channel_closed(self.number, "l2cap")


class _L2cap(_ObjectServer):
    """Where clients ask for channels."""

    adapters: dict[int, Adapter]

    def __init__(self, bus_address: str) -> None:
        super().__init__(bus_address)
        self.l2cap_path: Path | None = None             # where it listens
        self.coc_requests: list[tuple[CocRequest, int]] = []    # and the errno they began with
        self._listener: socket.socket | None = None
        self._asking: set[socket.socket] = set()

    def _listen_l2cap(self, path: Path) -> None:
        """Be the kernel for clients with l2cap_preload.so."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(64)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _close_l2cap(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in [*self._asking, *filter(None, [self._listener])]:
            loop.remove_reader(sock)
            sock.close()
        self._asking.clear()
        self._listener = None

    def _accept(self) -> None:
        assert self._listener
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._asking.add(sock)
            asyncio.get_running_loop().add_reader(sock, self._read_request, sock)

    def _read_request(self, sock: socket.socket) -> None:
        try:
            data, fds, *_ = socket.recv_fds(sock, REQUEST.size, 1)
        except BlockingIOError:
            return
        asyncio.get_running_loop().remove_reader(sock)
        self._asking.discard(sock)
        sock.close()
        if not fds:     # it ended in between
            return
        end = socket.socket(fileno=fds[0])
        end.setblocking(False)
        src, src_type, dst, dst_type, psm, rcvmtu, security = REQUEST.unpack(data)
        self._connect_coc(CocRequest(_text(src), ADDRESS_TYPES[src_type], _text(dst),
                                     ADDRESS_TYPES[dst_type], psm, rcvmtu, security), end)

    def _connect_coc(self, request: CocRequest, end: socket.socket) -> None:
        known = self._connected_device(request)
        error = _refusal(known, request) if known else errno.EHOSTUNREACH
        self.coc_requests.append((request, error))
        if error or not known or not known.link:
            answer(end, error, 0)
            end.close()
            return
        coc = _Coc(known.link, PSMS[request.psm], end, request.rcvmtu)
        known.link.cocs.append(coc)
        coc.pump()

    def _connected_device(self, request: CocRequest) -> _Known | None:
        """The kernel would connect one that is not, but the relay does that with bluetoothd."""
        for adapter in self.adapters.values():
            if (adapter.address, adapter.address_type) == (request.src, request.src_type):
                known = adapter.known.get(request.dst)
                if known and known.link and known.peer.address_type == request.dst_type:
                    return known
        return None


def _refusal(known: _Known, request: CocRequest) -> int:
    """What the device says to a PSM."""
    device, link = known.peer.device, known.link
    channel = PSMS.get(request.psm)
    if not device or not device.l2cap or channel is None or channel >= device.channels:
        return errno.ECONNREFUSED
    if not link or link.faults.l2cap_refused or any(
            c.number == channel and c.end and not _is_hung_up(c.end) for c in link.cocs):
        return errno.ECONNREFUSED       # or its channel is taken
    if request.security > SECURITY_LOW:     # the device knows no pairing
        return errno.EACCES
    return 0


def answer(end: socket.socket, error: int, sndmtu: int) -> None:
    """Tell connect()'s outcome: first all room in the socket, so that it is writable."""
    with contextlib.suppress(BlockingIOError):
        while end.recv(1):
            pass
    with contextlib.suppress(BrokenPipeError):      # it gave up
        end.send(STATUS.pack(error, sndmtu))


def _is_hung_up(end: socket.socket) -> bool:
    """An empty SDU and the end both read as nothing."""
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


def _text(address: bytes) -> str:
    """As BlueZ writes it."""
    return address[::-1].hex(":").upper()
