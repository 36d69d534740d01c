# SPDX-License-Identifier: Apache-2.0
"""GATT in the simulated bluetoothd: a channel's two sockets, and the ATT bearer below them.

bluetoothd reads what a client writes as soon as it is there, into a queue without a bound, and
sends a request only when no write waits. So an answer to a request says that the writes before it
are through: it is the only way to know.
"""
from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:       # not when it runs: bluez_link imports this module
    from bluez_link import _Link

WRITE_CUT = 512         # bytes bluetoothd reads of one write


class Frame(NamedTuple):
    """One frame of a session; direction is "to_device", "from_device" or "lost"."""

    direction: str
    data: bytes
    channel: int = 0
    bearer: str = "gatt"


class _Request(NamedTuple):
    """An ATT request: what it does at the device, and what follows if it never gets there."""

    run: Callable[[], None]
    refuse: Callable[[], None]
    timer: asyncio.TimerHandle


class _Att:
    """What bluetoothd has to send to a device: all writes go before a request."""

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.writes: deque[tuple[_Channel, bytes]] = deque()
        self._requests: deque[_Request] = deque()

    def write(self, channel: _Channel, frame: bytes) -> None:
        """Queue a write without response."""
        self.writes.append((channel, frame))
        self.pump()

    def request(self, run: Callable[[], None], refuse: Callable[[], None]) -> None:
        """Queue a request. The link goes if it is not answered in time."""
        sim = self.link.sim
        timer = asyncio.get_running_loop().call_later(sim.att_timeout_s, self._timed_out)
        self._requests.append(_Request(run, refuse, timer))
        self.pump()

    def pump(self) -> None:
        """Send what the radio takes now."""
        while self.writes and self.link.radio_is_ready():
            channel, frame = self.writes.popleft()
            self.link.radio_took_one()
            channel.deliver(frame)
        while self._requests and not self.writes and self.link.radio_is_ready():
            request = self._requests.popleft()
            request.timer.cancel()
            request.run()

    def _timed_out(self) -> None:
        self.link.sim.link_down(self.link, "att-timeout")

    def close(self) -> None:
        """The link is gone."""
        self.writes.clear()
        requests, self._requests = self._requests, deque()
        for request in requests:
            request.timer.cancel()
            request.refuse()


class _Outgoing:
    """Frames from the device, on their way into a socket."""

    def __init__(self, link: _Link, bearer: str, number: int, max_frame: int | None = None,
                 on_too_long: Callable[[], None] = lambda: None) -> None:
        self.end: socket.socket | None = None
        self.frames: deque[bytes] = deque()
        self._link = link
        self._bearer = bearer
        self._number = number
        self._on_too_long = on_too_long
        self._max_frame = max_frame
        self._loop = asyncio.get_running_loop()

    def send(self, frames: Iterable[bytes]) -> None:
        """One packet a frame."""
        self.frames.extend(frames)
        self._flush()

    def stop(self) -> None:
        """Give up what is queued: the owner closes the socket."""
        self.frames.clear()
        if self.end:
            self._loop.remove_writer(self.end)
            self.end = None

    def _flush(self) -> None:
        """A full socket holds frames up, or bluetoothd loses them."""
        end = self.end
        while end and end is self.end and self.frames:
            frame = self.frames.popleft()
            if self._max_frame and len(frame) > self._max_frame:
                self._log("lost", frame)
                self._on_too_long()
                return
            try:
                end.send(frame)
            except BlockingIOError:
                if self._bearer == "l2cap" or not self._link.peer.drops_notifications:
                    self.frames.appendleft(frame)
                    self._loop.add_writer(end, self._flush)
                    return
                self._log("lost", frame)
            except (BrokenPipeError, ConnectionResetError):
                self.frames.clear()     # who reads the socket finds the end
            else:
                self._log("from_device", frame)
        if end and end is self.end:
            self._loop.remove_writer(end)

    def _log(self, direction: str, frame: bytes) -> None:
        self._link.log(Frame(direction, frame, self._number, self._bearer))


class _Channel:
    """One Blecon channel over GATT: bluetoothd's ends of the two sockets."""

    def __init__(self, link: _Link, number: int) -> None:
        self.link = link
        self.number = number
        self.write: socket.socket | None = None
        self.notify: socket.socket | None = None
        self.outgoing = _Outgoing(link, "gatt", number)
        self._loop = asyncio.get_running_loop()

    def acquire_write(self) -> socket.socket:
        """Client's end for writes without response."""
        self.write, client = _pair()
        self._loop.add_reader(self.write, self._read_writes)
        return client

    def acquire_notify(self) -> socket.socket:
        """Client's end for notifications; the device learns that the channel is open."""
        self.notify, client = _pair()
        self._loop.add_reader(self.notify, self._read_hangup)
        self.outgoing.end = self.notify
        self.outgoing.send(self.link.channel_opened(self.number, "gatt", self.link.peer.mtu - 3))
        return client

    def deliver(self, frame: bytes) -> None:
        """A write has reached the device."""
        if self.link.log(Frame("to_device", frame, self.number)) and self.notify:
            self.outgoing.send(self.link.received(frame, self.number))

    def close(self) -> None:
        """The link is gone."""
        self._close_write()
        self._close_notify()

    def _close_write(self) -> None:
        if self.write:
            self._loop.remove_reader(self.write)
            self.write.close()
            self.write = None

    def _close_notify(self) -> None:
        self.outgoing.stop()
        if self.notify:
            self._loop.remove_reader(self.notify)
            self.notify.close()
            self.notify = None
            self.link.channel_closed(self.number, "gatt")

    def _read_writes(self) -> None:
        peer, end = self.link.peer, self.write
        while end and end is self.write:
            try:
                frame = end.recv(WRITE_CUT)
            except BlockingIOError:
                return
            if not frame:
                self._close_write()
            elif len(frame) > peer.mtu - 3:
                self.link.log(Frame("lost", frame, self.number))
            else:
                self.link.att.write(self, frame)

    def _read_hangup(self) -> None:
        """The client closed its end: bluetoothd unsubscribes, and the link stays."""
        assert self.notify
        try:
            hangup = not self.notify.recv(1)
        except ConnectionResetError:
            hangup = True
        if hangup:
            self._close_notify()


def _pair() -> tuple[socket.socket, socket.socket]:
    mine, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setblocking(False)
    client.setblocking(False)
    return mine, client
