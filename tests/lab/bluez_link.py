# SPDX-License-Identifier: Apache-2.0
"""Connections of the simulated bluetoothd.

_Link is one connection, with its channels over GATT (bluez_gatt.py) and L2CAP (bluez_l2cap.py);
Connection the record of it; _Connections has the calls about them: Connect, Disconnect,
AcquireWrite, AcquireNotify, ReadValue.
"""
from __future__ import annotations

import asyncio
import socket
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dbus_fast import DBusError, Message

from bluez_bus import _error, _ObjectServer
from bluez_gatt import Frame, _Att, _Channel, _Outgoing
from bluez_l2cap import _Coc
from bluez_objects import (CHANNELS, DEVICE, Peer, VirtualDevice, _Characteristic,
                           _Descriptor, _gatt_tree, _Known, _need_power)

def _unless_main(channel: int) -> list[int]:
    """A device that knows no channels has channel 0."""
    return [channel] if channel else []


def _not_connected() -> DBusError:
    return _error("Failed", "Not connected")


@dataclass(eq=False)
class Connection:
    """One attempt to connect a device, and the link it made. Times are the event loop's.

    outcome: "pending", then "connected", "no-link", "cancelled" or bluetoothd's error text. end:
    "client", "device", "adapter", "daemon", "att-timeout"; empty while the link is there.
    """

    device_id: uuid.UUID | None         # None: noise
    adapter: int
    address: str
    tried_at: float
    outcome: str = "pending"
    up_at: float | None = None
    end_at: float | None = None         # of the link, or of an attempt without one
    end: str = ""
    channels: dict[int, str] = field(default_factory=dict)  # that were opened, and their bearer


class _Link:
    """A connection of one device object."""

    def __init__(self, sim: _Connections, known: _Known, channel: type[_Channel]) -> None:
        assert known.record
        self.sim = sim
        self.known = known
        self.peer = known.peer
        self.faults = known.faults
        self.record = known.record
        self.resolving: asyncio.Task[None] | None = None
        self.att = _Att(self)
        self.channels = [channel(self, n) for n in range(len(CHANNELS))]
        self.cocs: list[_Coc] = []
        self._open: dict[int, str] = {}     # channels now, and their bearer
        self._frames = 0
        self._sdus: Counter[int] = Counter()        # by channel
        self._closed = False
        self._next_frame_at = 0.0
        self._wake: asyncio.TimerHandle | None = None

    # The radio towards the device, which both bearers share

    def radio_is_ready(self) -> bool:
        """Whether it takes a frame now; if not, pump() follows when it does."""
        if self._closed or self.peer.radio_stalls:
            return False
        loop = asyncio.get_running_loop()
        if not self.peer.frames_per_s or loop.time() >= self._next_frame_at:
            return True
        if not self._wake:
            self._wake = loop.call_at(self._next_frame_at, self._awake)
        return False

    def radio_took_one(self) -> None:
        """A frame is on the air: the next one waits for its turn."""
        if self.peer.frames_per_s:
            now = asyncio.get_running_loop().time()
            # A timer that was late does not slow the radio down.
            self._next_frame_at = max(self._next_frame_at, now - 0.02) + 1 / self.peer.frames_per_s

    def _awake(self) -> None:
        self._wake = None
        self.pump()

    def pump(self) -> None:
        """Go on with what waits for the radio."""
        self.att.pump()
        for coc in list(self.cocs):
            coc.pump()

    # The device

    def log(self, frame: Frame) -> bool:
        """Note a frame; False if the link broke at it."""
        if self.peer.device:
            self.sim.frames[self.peer.device.device_id].append(frame)
        if frame.direction == "lost":
            return True
        self._frames += 1
        if frame.bearer == "l2cap":
            self._count_sdu(frame.channel)
        if self.faults.vanish_after_frames == self._frames:
            self.sim.link_down(self, "device")
            return False
        return True

    def _count_sdu(self, channel: int) -> None:
        self._sdus[channel] += 1
        if self._sdus[channel] == self.faults.l2cap_closes_after_frames:
            for coc in [c for c in self.cocs if c.number == channel]:
                coc.close()

    def channel_opened(self, channel: int, bearer: str, max_frame: int) -> list[bytes]:
        """Tell the device. The frames it sends."""
        device = self.peer.device
        if not device:
            return []
        if channel in self._open:
            self.sim.fail(RuntimeError(f"channel {channel} opened over {bearer}, open over "
                                       f"{self._open[channel]} already"))
        self._open[channel] = self.record.channels[channel] = bearer
        if hasattr(device, "bearer"):
            device.bearer = bearer
        return self._ask(device.opened, max_frame, *_unless_main(channel))

    def received(self, frame: bytes, channel: int) -> list[bytes]:
        """Give the device a frame. The frames it sends."""
        device = self.peer.device
        if not device:
            return []
        return self._ask(device.received, frame, *_unless_main(channel))

    def channel_closed(self, channel: int, bearer: str) -> None:
        """Tell the device once none is open any more."""
        if self._open.get(channel) != bearer:
            return
        del self._open[channel]
        if not self._open and self.peer.device:
            self._ask(self.peer.device.closed)

    def send(self, frames: Iterable[bytes], channel: int) -> None:
        """The device speaks by itself."""
        self._outgoing(channel).send(frames)

    def waiting(self, channel: int) -> int:
        """Frames of the device for which its socket has no room."""
        return len(self._outgoing(channel).frames)

    def _outgoing(self, channel: int) -> _Outgoing:
        if channel not in self._open:
            raise ValueError(f"channel {channel} is not open")
        for coc in self.cocs:
            if coc.number == channel and coc.is_up:
                return coc.outgoing
        return self.channels[channel].outgoing

    def _ask(self, method: Callable[..., list[bytes] | None], *args: Any) -> list[bytes]:
        """Let the device act; its mistakes go to the simulator's `errors`."""
        try:
            return method(*args) or []
        except Exception as err:
            self.sim.fail(err)
            return []

    def close(self) -> None:
        """End service discovery and the sockets, tell the device."""
        self._closed = True
        if self._wake:
            self._wake.cancel()
        if self.resolving:
            self.resolving.cancel()
        self.att.close()
        for channel in [*self.channels, *self.cocs]:
            channel.close()


class _Connections(_ObjectServer):
    """The connections of all device objects."""

    def __init__(self, bus_address: str, connect_timeout_s: float, att_timeout_s: float) -> None:
        super().__init__(bus_address)
        self.connect_timeout_s = connect_timeout_s      # of an attempt at a device not there
        self.att_timeout_s = att_timeout_s              # of an ATT request: then the link goes
        self.gatt_cache = True                          # GATT objects outlive the link
        self.frames: dict[uuid.UUID, list[Frame]] = defaultdict(list)
        self.connections: list[Connection] = []         # every attempt there was

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
        adapter, peer = known.adapter, known.peer
        known.faults = peer.next_faults()
        known.record = Connection(peer.device.device_id if peer.device else None, adapter.index,
                                  known.address, asyncio.get_running_loop().time())
        self.connections.append(known.record)
        known.connecting = self.spawn(self._establish(known))
        attempts = sum(1 for k in adapter.known.values() if k.connecting)
        adapter.peak_connecting = max(adapter.peak_connecting, attempts)
        known.connecting.add_done_callback(partial(self._attempted, known, msg))
        return False

    async def _establish(self, known: _Known) -> None:
        """Wait for a connectable advert of this address, then for the link."""
        loop, peer, adapter = asyncio.get_running_loop(), known.peer, known.adapter
        faults, record = known.faults, known.record
        assert record
        deadline = loop.time() + self.connect_timeout_s
        if faults.connect_hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(peer.connect_delay_s)
        while not peer.present or peer.link or peer.address != known.address:
            if loop.time() > deadline:
                raise _error("Failed", "le-connection-abort-by-local")
            await asyncio.sleep(0.02)
        if faults.connect_error:
            raise DBusError(*faults.connect_error)
        links = sum(1 for k in adapter.known.values() if k.link)
        if links >= adapter.max_connections:
            raise _error("Failed", "le-connection-abort-by-local")
        if faults.connect_succeeds_without_link:
            record.outcome = "no-link"
            return
        record.outcome, record.up_at = "connected", loop.time()
        adapter.peak_connected = max(adapter.peak_connected, links + 1)
        known.link = peer.link = self._new_link(known)
        self._changed(known, DEVICE, "Connected")

    def _attempted(self, known: _Known, msg: Message, task: asyncio.Task[None]) -> None:
        """Answer Connect."""
        known.connecting = None
        record = known.record
        assert record
        if record.outcome != "connected":
            record.end_at = asyncio.get_running_loop().time()
        if task.cancelled():
            record.outcome = "cancelled"
            self._reply_error(msg, _error("Failed", "br-connection-canceled"))
        elif err := task.exception():
            record.outcome = str(err)
            self._reply_error(msg, err)
        else:
            self._reply(msg)
            if known.link and self._bus:
                known.link.resolving = self.spawn(self._resolve(known))

    async def _resolve(self, known: _Known) -> None:
        """Service discovery; with a cache the objects are there already."""
        peer, faults = known.peer, known.faults
        await asyncio.sleep(peer.resolve_delay_s)
        if faults.services_never_resolve:
            return
        if not faults.resolves_before_objects:
            self._export_attributes(known)
        known.resolved = True
        self._changed(known, DEVICE, "ServicesResolved", "UUIDs")
        if faults.resolves_before_objects:
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
        self.link_down(link, "client")
        self._reply(msg)

    def drop_link(self, device: VirtualDevice | Peer) -> None:
        """Break a device's link, as when it goes out of range; nothing if it has none."""
        peer = self.peer(device)
        if peer.link:
            self.link_down(peer.link, "device")

    def link_down(self, link: _Link, end: str) -> None:
        """A link is gone, by itself or by a call; `end` is for its record."""
        known = link.known
        if known.link is not link:
            return
        link.record.end, link.record.end_at = end, asyncio.get_running_loop().time()
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
        if channel.link.faults.acquire_write_error:
            raise DBusError(*channel.link.faults.acquire_write_error)
        return self._reply_socket(msg, channel.acquire_write(), channel.link.peer.mtu)

    def _acquire_notify(self, msg: Message, char: _Characteristic) -> Any:
        """Subscribe, with a request over the air."""
        channel = self._channel_of(char)
        faults = channel.link.faults
        if channel.notify:
            raise _error("NotPermitted", "Notify acquired")
        if faults.acquire_notify_never_answers:
            return False
        if faults.acquire_notify_error:
            raise DBusError(*faults.acquire_notify_error)
        channel.link.att.request(partial(self._subscribe, msg, channel),
                                 partial(self._reply_error, msg, _not_connected()))
        return False

    def _subscribe(self, msg: Message, channel: _Channel) -> None:
        self._reply_socket(msg, channel.acquire_notify(), channel.link.peer.mtu)

    def _read_descriptor(self, msg: Message, descriptor: _Descriptor) -> Any:
        """Read over the air, so after all writes."""
        link = descriptor.char.known.link
        if link is None:
            raise _not_connected()
        if descriptor.reading:
            raise _error("InProgress", "Operation already in progress")
        descriptor.reading = True
        link.att.request(partial(self._descriptor_read, msg, descriptor, True),
                         partial(self._descriptor_read, msg, descriptor, False))
        return False

    def _descriptor_read(self, msg: Message, descriptor: _Descriptor, answered: bool) -> None:
        descriptor.reading = False
        if answered:
            self._reply(msg, "ay", [descriptor.value()])
        else:
            self._reply_error(msg, _not_connected())

    @staticmethod
    def _channel_of(char: _Characteristic) -> _Channel:
        if char.known.link is None:
            raise _not_connected()
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
