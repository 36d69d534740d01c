# SPDX-License-Identifier: Apache-2.0
"""Connections of the simulated bluetoothd.

_Channel and _Link are one connection with its sockets; _Connections has the calls about them:
Connect, Disconnect, AcquireWrite, AcquireNotify.
"""
from __future__ import annotations

import asyncio
import socket
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from dbus_fast import DBusError, Message

from bluez_bus import _error, _ObjectServer
from bluez_objects import (CHANNELS, DEVICE, Peer, VirtualDevice, _Characteristic, _gatt_tree,
                           _Known, _need_power)

WRITE_CUT = 512         # bytes bluetoothd reads of one write


class Frame(NamedTuple):
    """One frame of a session; direction is "to_device", "from_device" or "lost"."""

    direction: str
    data: bytes
    channel: int = 0


class _Channel:
    """One Blecon channel over GATT: bluetoothd's ends of the two sockets."""

    def __init__(self, link: _Link, number: int) -> None:
        self.link = link
        self.number = number
        self.write: socket.socket | None = None
        self.notify: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._open = False                  # the device knows
        self._outgoing: deque[bytes] = deque()
        self._stalled: asyncio.TimerHandle | None = None

    def acquire_write(self) -> socket.socket:
        """Client's end for writes without response."""
        self.write, client = _pair()
        self._loop.add_reader(self.write, self._read_writes)
        return client

    def acquire_notify(self) -> socket.socket:
        """Client's end for notifications; the device learns that the channel is open."""
        self.notify, client = _pair()
        self._loop.add_reader(self.notify, self._read_hangup)
        device = self.link.peer.device
        if self.number == 0 and device:
            self._open = True
            self._send(self.link.ask(device.opened, self.link.peer.mtu - 3))
        return client

    def close(self) -> None:
        """The link is gone."""
        self._close_write()
        self._close_notify()

    def _close_write(self) -> None:
        if self._stalled:
            self._stalled.cancel()
        if self.write:
            self._loop.remove_reader(self.write)
            self.write.close()
            self.write = None

    def _close_notify(self) -> None:
        self._outgoing.clear()
        if self.notify:
            self._loop.remove_reader(self.notify)
            self._loop.remove_writer(self.notify)
            self.notify.close()
            self.notify = None
        was_open, self._open = self._open, False
        if was_open and self.link.peer.device:
            self.link.ask(self.link.peer.device.closed)

    def _read_writes(self) -> None:
        peer, end = self.link.peer, self.write
        while end and end is self.write:
            if peer.radio_stalls:
                self._loop.remove_reader(end)
                self._stalled = self._loop.call_later(0.02, self._resume, end)
                return
            try:
                frame = end.recv(WRITE_CUT)
            except BlockingIOError:
                return
            if not frame:
                self._close_write()
            elif len(frame) > peer.mtu - 3:
                self.link.log(Frame("lost", frame, self.number))
            elif self.link.log(Frame("to_device", frame, self.number)):
                if self._open and peer.device:
                    self._send(self.link.ask(peer.device.received, frame))

    def _resume(self, end: socket.socket) -> None:
        self._loop.add_reader(end, self._read_writes)

    def _send(self, frames: Iterable[bytes]) -> None:
        self._outgoing.extend(frames)
        self._send_notifications()

    def _send_notifications(self) -> None:
        """One packet a frame; a full socket loses frames or holds them up."""
        end = self.notify
        while end and end is self.notify and self._outgoing:
            frame = self._outgoing.popleft()
            try:
                end.send(frame)
            except BlockingIOError:
                if not self.link.peer.drops_notifications:
                    self._outgoing.appendleft(frame)
                    self._loop.add_writer(end, self._send_notifications)
                    return
                self.link.log(Frame("lost", frame, self.number))
            except (BrokenPipeError, ConnectionResetError):
                self._close_notify()
            else:
                self.link.log(Frame("from_device", frame, self.number))
        if end and end is self.notify:
            self._loop.remove_writer(end)

    def _read_hangup(self) -> None:
        """The client closed its end: bluetoothd unsubscribes, and the link stays."""
        assert self.notify
        try:
            hangup = not self.notify.recv(1)
        except ConnectionResetError:
            hangup = True
        if hangup:
            self._close_notify()


class _Link:
    """A connection of one device object."""

    def __init__(self, sim: _Connections, known: _Known, channel: type[_Channel]) -> None:
        self.sim = sim
        self.known = known
        self.peer = known.peer
        self.resolving: asyncio.Task[None] | None = None
        self.channels = [channel(self, n) for n in range(len(CHANNELS))]
        self._frames = 0

    def log(self, frame: Frame) -> bool:
        """Note a frame; False if the link broke at it."""
        if self.peer.device:
            self.sim.frames[self.peer.device.device_id].append(frame)
        if frame.direction == "lost":
            return True
        self._frames += 1
        if self.peer.vanish_after_frames == self._frames:
            self.sim.drop_link(self.peer)
            return False
        return True

    def ask(self, method: Callable[..., list[bytes] | None], *args: Any) -> list[bytes]:
        """Let the device act; its mistakes go to the simulator's `errors`."""
        try:
            return method(*args) or []
        except Exception as err:
            self.sim.fail(err)
            return []

    def close(self) -> None:
        """End service discovery and the sockets, tell the device."""
        if self.resolving:
            self.resolving.cancel()
        for channel in self.channels:
            channel.close()


class _Connections(_ObjectServer):
    """The connections of all device objects."""

    def __init__(self, bus_address: str, connect_timeout_s: float) -> None:
        super().__init__(bus_address)
        self.connect_timeout_s = connect_timeout_s      # of an attempt at a device not there
        self.gatt_cache = True                          # GATT objects outlive the link
        self.frames: dict[uuid.UUID, list[Frame]] = defaultdict(list)

    def peer(self, device: VirtualDevice | Peer) -> Peer:
        """The radio of a device."""
        raise NotImplementedError

    def _new_link(self, known: _Known) -> _Link:
        raise NotImplementedError

    def _connect(self, msg: Message, known: _Known) -> Any:
        _need_power(known.adapter)
        if known.connecting:
            raise _error("InProgress", "In Progress")
        known.temporary = False
        if known.link:
            return None
        known.connecting = self.spawn(self._establish(known))
        adapter = known.adapter
        attempts = sum(1 for k in adapter.known.values() if k.connecting)
        adapter.peak_connecting = max(adapter.peak_connecting, attempts)
        known.connecting.add_done_callback(partial(self._attempted, known, msg))
        return False

    async def _establish(self, known: _Known) -> None:
        """Wait for a connectable advert of this address, then for the link."""
        loop, peer, adapter = asyncio.get_running_loop(), known.peer, known.adapter
        deadline = loop.time() + self.connect_timeout_s
        if peer.connect_hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(peer.connect_delay_s)
        while not peer.present or peer.link or peer.address != known.address:
            if loop.time() > deadline:
                raise _error("Failed", "le-connection-abort-by-local")
            await asyncio.sleep(0.02)
        if peer.connect_error:
            raise DBusError(*peer.connect_error)
        links = sum(1 for k in adapter.known.values() if k.link)
        if links >= adapter.max_connections:
            raise _error("Failed", "le-connection-abort-by-local")
        if peer.connect_succeeds_without_link:
            return
        adapter.peak_connected = max(adapter.peak_connected, links + 1)
        known.link = peer.link = self._new_link(known)
        self._changed(known, DEVICE, "Connected")

    def _attempted(self, known: _Known, msg: Message, task: asyncio.Task[None]) -> None:
        """Answer Connect."""
        known.connecting = None
        if task.cancelled():
            self._reply_error(msg, _error("Failed", "br-connection-canceled"))
        elif err := task.exception():
            self._reply_error(msg, err)
        else:
            self._reply(msg)
            if known.link and self._bus:
                known.link.resolving = self.spawn(self._resolve(known))

    async def _resolve(self, known: _Known) -> None:
        """Service discovery; with a cache the objects are there already."""
        peer = known.peer
        await asyncio.sleep(peer.resolve_delay_s)
        if peer.services_never_resolve:
            return
        if not peer.resolves_before_objects:
            self._export_attributes(known)
        known.resolved = True
        self._changed(known, DEVICE, "ServicesResolved", "UUIDs")
        if peer.resolves_before_objects:
            await asyncio.sleep(peer.resolve_delay_s)
            self._export_attributes(known)

    def _export_attributes(self, known: _Known) -> None:
        if known.attributes:
            return
        known.attributes = _gatt_tree(known)
        for attribute in known.attributes:
            self._export(attribute)

    def _forget_attributes(self, known: _Known) -> None:
        for attribute in reversed(known.attributes):
            self._unexport(attribute)
        known.attributes = []

    def _disconnect(self, msg: Message, known: _Known) -> Any:
        if known.connecting and not known.link:
            known.connecting.cancel()
            return None
        if not known.link:
            raise _error("NotConnected", "Not Connected")
        self.spawn(self._disconnect_link(known.link, msg))
        return False

    async def _disconnect_link(self, link: _Link, msg: Message) -> None:
        await asyncio.sleep(link.peer.disconnect_delay_s)
        self._link_down(link)
        self._reply(msg)

    def drop_link(self, device: VirtualDevice | Peer) -> None:
        """Break a device's link, as when it goes out of range; nothing if it has none."""
        peer = self.peer(device)
        if peer.link:
            self._link_down(peer.link)

    def _link_down(self, link: _Link) -> None:
        known = link.known
        if known.link is not link:
            return
        known.link = link.peer.link = None
        link.close()
        if known.resolved:
            known.resolved = False
            self._changed(known, DEVICE, "ServicesResolved")
        self._changed(known, DEVICE, "Connected")
        if not self.gatt_cache:
            self._forget_attributes(known)

    def _acquire_write(self, msg: Message, char: _Characteristic) -> Any:
        channel = self._channel_of(char)
        if channel.write:
            raise _error("NotPermitted", "Write acquired")
        if char.known.peer.acquire_write_error:
            raise DBusError(*char.known.peer.acquire_write_error)
        return self._reply_socket(msg, channel.acquire_write(), char.known.peer.mtu)

    def _acquire_notify(self, msg: Message, char: _Characteristic) -> Any:
        channel = self._channel_of(char)
        if channel.notify:
            raise _error("NotPermitted", "Notify acquired")
        if char.known.peer.acquire_notify_never_answers:
            return False
        if char.known.peer.acquire_notify_error:
            raise DBusError(*char.known.peer.acquire_notify_error)
        return self._reply_socket(msg, channel.acquire_notify(), char.known.peer.mtu)

    @staticmethod
    def _channel_of(char: _Characteristic) -> _Channel:
        if char.known.link is None:
            raise _error("Failed", "Not connected")
        channel = char.open_channel()
        if channel is None:
            raise _error("NotSupported", "Operation is not supported")
        return channel

    def _reply_socket(self, msg: Message, client: socket.socket, mtu: int) -> bool:
        fd = client.detach()
        reply = Message.new_method_return(msg, "hq", [0, mtu], [fd])
        assert self._bus and self._writer
        reply.serial = self._bus.next_serial()
        self._writer.write(reply._marshall(True), [fd], lambda _: socket.close(fd))
        return False


def _pair() -> tuple[socket.socket, socket.socket]:
    mine, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setblocking(False)
    client.setblocking(False)
    return mine, client
