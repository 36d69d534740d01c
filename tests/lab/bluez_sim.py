#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A simulated bluetoothd: owns org.bluez on a private bus, with scripted devices and faults.

    sim = BluezSim(bus_address)
    sim.add_adapter(0, "00:AA:01:00:00:00")
    peer = sim.add_device(virtual_device, rssi=-60)
    await sim.start()
    await sim.advertise(peer)

It follows BlueZ 5.66 where a central can tell: see tests/lab/test_bluez_sim.py. What it does not
have: BR/EDR, pairing, L2CAP, a GATT server, and objects made by an advertisement monitor alone.

One signal that carries an RSSI is one advert: `sim.delivered` counts those written to the bus.
"""
from __future__ import annotations

import argparse
import array
import asyncio
import contextlib
import itertools
import logging
import random
import signal
import socket
import struct
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from dbus_fast import DBusError, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import MESSAGE_FLAG_MAP
from dbus_fast.unpack import unpack_variants

from private_bus import PrivateBus

# dbus-fast 1.84 knows no message with two flags, and reads nothing after one.
MESSAGE_FLAG_MAP.update({flags: MessageFlag(flags) for flags in range(8)})

FD0D = "0000fd0d-0000-1000-8000-00805f9b34fb"
CHANNELS = ("ec4f0000-1537-443e-b05a-713051212f1c", "ec4f0001-1537-443e-b05a-713051212f1c")
GATT_SERVICE = "00001801-0000-1000-8000-00805f9b34fb"
CCC = "00002902-0000-1000-8000-00805f9b34fb"
BASE_UUID = "-0000-1000-8000-00805f9b34fb"

DBUS = "org.freedesktop.DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
SERVICE = "org.bluez.GattService1"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
DESCRIPTOR = "org.bluez.GattDescriptor1"
MONITOR = "org.bluez.AdvertisementMonitor1"
MONITOR_MANAGER = "org.bluez.AdvertisementMonitorManager1"

FILTER_TYPES = {"UUIDs": "as", "RSSI": "n", "Pathloss": "q", "Transport": "s",
                "DuplicateData": "b", "Discoverable": "b", "Pattern": "s"}
WRITABLE = {ADAPTER: {"Powered", "Alias", "Discoverable", "Pairable"},
            DEVICE: {"Alias", "Trusted", "Blocked"}}
RSSI_STEP_DB = 8        # smaller changes are not told in a regular discovery
WRITE_CUT = 512         # bytes bluetoothd reads of one write
BACKLOG = 4000          # messages waiting for the bus above which automatic adverts are left out
REPORT_S = 10           # between the program's log lines
RSSI_MARK = -21846      # 0xaaaa: found nowhere else in a marshalled signal

Props = dict[str, Variant]
Interfaces = dict[str, Props]
Done = Callable[[bool], None]
log = logging.getLogger("bluez_sim")


class VirtualDevice(Protocol):
    """The device side of a connection, as tests/lab/device.py has it."""

    device_id: uuid.UUID

    @property
    def service_data(self) -> bytes: ...
    def opened(self, max_frame: int) -> list[bytes]: ...
    def received(self, frame: bytes) -> list[bytes]: ...
    def closed(self) -> None: ...


class Beacon:
    """A device that can be spotted and no more."""

    def __init__(self, device_id: uuid.UUID | None = None, tail: bytes = b"\x01\x00") -> None:
        self.device_id = device_id or uuid.uuid4()
        self.service_data = b"\x00\x00" + self.device_id.bytes + tail

    def opened(self, _max_frame: int) -> list[bytes]:
        """It has nothing to say."""
        return []

    def received(self, _frame: bytes) -> list[bytes]:
        """Nor to answer."""
        return []

    def closed(self) -> None:
        """Nothing to forget."""


class Call(NamedTuple):
    """One method call that arrived, arguments without their variants."""

    member: str
    path: str
    args: list[Any]
    sender: str


class Frame(NamedTuple):
    """One frame of a session; direction is "to_device", "from_device" or "lost"."""

    direction: str
    data: bytes
    channel: int = 0


@dataclass(frozen=True)
class Advert:
    """What an advert carries, as bluetoothd parses it."""

    uuids: tuple[str, ...] = ()
    service_data: dict[str, bytes] = field(default_factory=dict)
    manufacturer_data: dict[int, bytes] = field(default_factory=dict)

    def structures(self) -> list[tuple[int, bytes]]:
        """The AD structures as (type, data), for advertisement monitors."""
        result = [(0x01, b"\x06")]
        result += [(0x03, short_uuid(u)) for u in self.uuids]
        result += [(0x16, short_uuid(u) + d) for u, d in self.service_data.items()]
        result += [(0xFF, struct.pack("<H", c) + d) for c, d in self.manufacturer_data.items()]
        return result


@dataclass(eq=False)
class Peer:
    """A device on the air. Its attributes may be changed at any time."""

    device: VirtualDevice | None        # None: noise
    noise: Advert | None
    adapters: tuple[int, ...]           # that hear it
    address: str
    rssi: int = -60
    interval_s: float | None = None     # advertises by itself this often: set_interval()
    mtu: int = 247
    name: str | None = None
    connect_delay_s: float = 0.05
    resolve_delay_s: float = 0.05
    disconnect_delay_s: float = 0.02
    rotates_address: bool = False       # new address whenever its service data changes
    drops_notifications: bool = False   # bluetoothd's way with a full socket; else wait
    connect_error: tuple[str, str] | None = None
    connect_hangs: bool = False
    connect_succeeds_without_link: bool = False
    services_never_resolve: bool = False
    resolves_before_objects: bool = False
    no_blecon_service: bool = False
    acquire_notify_never_answers: bool = False
    acquire_notify_error: tuple[str, str] | None = None
    acquire_write_error: tuple[str, str] | None = None
    vanish_after_frames: int | None = None
    radio_stalls: bool = False          # nobody reads the client's writes
    present: bool = True
    link: _Link | None = None
    last_data: bytes | None = None

    def advert(self) -> Advert:
        """What it advertises now."""
        if self.noise:
            return self.noise
        assert self.device
        return Advert((FD0D,), {FD0D: self.device.service_data})


@dataclass(eq=False)
class Adapter:
    """A controller and bluetoothd's state about it. Its attributes may be changed at any time."""

    index: int
    address: str
    powered: bool = True
    rfkill: bool = False
    monitors: bool = False              # bluetoothd -E: AdvertisementMonitorManager1
    name: str = "lab"
    max_connections: int = 1000
    discovery_error: tuple[str, str] | None = None
    power_error: tuple[str, str] | None = None
    power_delay_s: float = 0.02
    deaf: str = ""                      # until the next "discovery" or "power" on, or "forever"
    monitor_released: bool = False      # release monitors instead of activating them
    peak_connecting: int = 0            # most connection attempts at once
    peak_connected: int = 0             # most links at once
    alias: str = ""
    power_state: str = "off"
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)    # by client
    clients: list[str] = field(default_factory=list)                    # that discover
    known: dict[str, _Known] = field(default_factory=dict)              # by address
    monitor_apps: dict[tuple[str, str], dict[str, Props]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Its object path."""
        return f"/org/bluez/hci{self.index}"

    def interfaces(self) -> Interfaces:
        """Everything exported at its path."""
        uuids = [s + BASE_UUID for s in ("00001800", "00001801", "0000180a")]
        result = {ADAPTER: {
            "Address": Variant("s", self.address), "AddressType": Variant("s", "public"),
            "Name": Variant("s", self.name), "Alias": Variant("s", self.alias or self.name),
            "Class": Variant("u", 0), "Powered": Variant("b", self.powered),
            "PowerState": Variant("s", self.power_state), "Discoverable": Variant("b", False),
            "DiscoverableTimeout": Variant("u", 180), "Pairable": Variant("b", False),
            "PairableTimeout": Variant("u", 0), "Discovering": Variant("b", bool(self.clients)),
            "UUIDs": Variant("as", uuids), "Modalias": Variant("s", "usb:v1D6Bp0246d0542"),
            "Roles": Variant("as", ["central", "peripheral"])}}
        if self.monitors:
            result[MONITOR_MANAGER] = {"SupportedMonitorTypes": Variant("as", ["or_patterns"]),
                                       "SupportedFeatures": Variant("as", [])}
        return result

    def active_filters(self) -> list[dict[str, Any]]:
        """The filters of the clients that discover now; {} is a regular discovery."""
        return [self.filters.get(c, {}) for c in self.clients]

    def wants(self, advert: Advert, rssi: int) -> bool:
        """Whether one of the clients' filters lets this advert through."""
        return any(f.get("Transport") != "bredr" and rssi >= f.get("RSSI", -127)
                   and (not f.get("UUIDs") or any(u in f["UUIDs"] for u in advert.uuids))
                   for f in self.active_filters())


class _Attribute:
    """A GATT service or descriptor, or any other object without methods."""

    def __init__(self, path: str, interfaces: Interfaces) -> None:
        self.path = path
        self._interfaces = interfaces

    def interfaces(self) -> Interfaces:
        return self._interfaces


class _Characteristic(_Attribute):
    """A characteristic; `channel` is None where it is not one of Blecon's."""

    def __init__(self, path: str, service: str, char: str, flags: list[str], known: _Known,
                 channel: int | None) -> None:
        super().__init__(path, {CHARACTERISTIC: {
            "UUID": Variant("s", char), "Service": Variant("o", service),
            "Value": Variant("ay", b""), "Flags": Variant("as", flags)}})
        self.known = known
        self.channel = channel

    def interfaces(self) -> Interfaces:
        props = dict(self._interfaces[CHARACTERISTIC])
        channel = self.open_channel()
        if channel:
            props |= {"Notifying": Variant("b", channel.notify is not None),
                      "NotifyAcquired": Variant("b", channel.notify is not None),
                      "WriteAcquired": Variant("b", channel.write is not None),
                      "MTU": Variant("q", self.known.peer.mtu)}
        return {CHARACTERISTIC: props}

    def open_channel(self) -> _Channel | None:
        """The channel of the link that is up, if any."""
        if self.known.link is None or self.channel is None:
            return None
        return self.known.link.channels[self.channel]


class _Known:
    """A device object of bluetoothd: one address on one adapter."""

    def __init__(self, adapter: Adapter, peer: Peer) -> None:
        self.adapter = adapter
        self.peer = peer
        self.address = peer.address
        self.path = f"{adapter.path}/dev_{peer.address.replace(':', '_')}"
        self.rssi = 0                       # 0: absent
        self.last_seen = 0.0
        self.temporary = True
        self.settings: Props = {"Trusted": Variant("b", False), "Blocked": Variant("b", False)}
        self.uuids: tuple[str, ...] = ()
        self.service_data: dict[str, bytes] = {}
        self.manufacturer_data: dict[int, bytes] = {}
        self.connecting: asyncio.Task[None] | None = None
        self.link: _Link | None = None
        self.resolved = False
        self.attributes: list[_Attribute] = []
        self._rssi_signal: tuple[bytearray, int] | None = None
        self._data_signal: tuple[bytearray, int] | None = None

    def hear(self, advert: Advert) -> bool:
        """Take over an advert's contents; old keys are never cleared. True if they changed."""
        changed = not (advert.service_data.items() <= self.service_data.items()
                       and advert.manufacturer_data.items() <= self.manufacturer_data.items())
        if changed:
            self.service_data |= advert.service_data
            self.manufacturer_data |= advert.manufacturer_data
            self._data_signal = None
        if not self.uuids:
            self.uuids = advert.uuids
        return changed

    def forget_adverts(self) -> None:
        """What the disk does not keep over a restart."""
        self.rssi = 0
        self.service_data.clear()
        self.manufacturer_data.clear()

    def _data_props(self) -> Props:
        props: Props = {}
        if self.service_data:
            props["ServiceData"] = Variant(
                "a{sv}", {k: Variant("ay", v) for k, v in self.service_data.items()})
        if self.manufacturer_data:
            props["ManufacturerData"] = Variant(
                "a{qv}", {k: Variant("ay", v) for k, v in self.manufacturer_data.items()})
        return props

    def interfaces(self) -> Interfaces:
        name = self.peer.name
        props = {
            "Address": Variant("s", self.address), "AddressType": Variant("s", "random"),
            "Alias": Variant("s", name or self.address.replace(":", "-")),
            "Paired": Variant("b", False), "Bonded": Variant("b", False), **self.settings,
            "LegacyPairing": Variant("b", False), "Connected": Variant("b", self.link is not None),
            "UUIDs": Variant("as", list(self.uuids)), "Adapter": Variant("o", self.adapter.path),
            "ServicesResolved": Variant("b", self.resolved), **self._data_props()}
        if name:
            props["Name"] = Variant("s", name)
        if self.rssi:
            props["RSSI"] = Variant("n", self.rssi)
        return {DEVICE: props}

    def advert_signal(self, rssi: int, with_data: bool) -> bytearray:
        """A marshalled PropertiesChanged for one advert, from a template made once."""
        template = self._data_signal if with_data else self._rssi_signal
        if template is None:
            props = {"RSSI": Variant("n", RSSI_MARK)} | (self._data_props() if with_data else {})
            raw = marshal_changed(self.path, DEVICE, props)
            template = (raw, raw.index(struct.pack("<h", RSSI_MARK)))
            if with_data:
                self._data_signal = template
            else:
                self._rssi_signal = template
        raw = template[0].copy()
        struct.pack_into("<h", raw, template[1], rssi)
        return raw


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

    def __init__(self, sim: BluezSim, known: _Known) -> None:
        self.sim = sim
        self.known = known
        self.peer = known.peer
        self.resolving: asyncio.Task[None] | None = None
        self.channels = [_Channel(self, n) for n in range(len(CHANNELS))]
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


class _Writer:
    """In-order, batching writer for a MessageBus.

    dbus-fast 1.84 sends the newest queued message first once the socket is full, and makes one
    system call a message.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._sock: socket.socket = bus._sock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[memoryview, list[int], Done | None]] = deque()
        self._armed = False

    @property
    def waiting(self) -> int:
        """Messages the bus has not taken yet."""
        return len(self._queue)

    def schedule_write(self, msg: Message | None = None,
                       future: asyncio.Future[Any] | None = None) -> None:
        """What MessageBus.send() calls."""
        if msg is not None:
            self.write(msg._marshall(True), msg.unix_fds, partial(_settle, future))

    def write(self, data: bytes | bytearray, fds: list[int], done: Done | None = None) -> None:
        """Queue one message; done(True) follows when the bus has it, done(False) if it won't."""
        self._queue.append((memoryview(data), fds, done))
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Give up what is queued."""
        while self._queue:
            _, _, done = self._queue.popleft()
            if done:
                done(False)

    def _flush(self) -> None:
        try:
            while self._queue:
                self._consume(self._send_some())
        except BlockingIOError:
            self._loop.add_writer(self._bus._fd, self._flush)
            return
        except OSError as err:
            self.close()
            self._bus._finalize(err)
            return
        self._armed = False
        self._loop.remove_writer(self._bus._fd)

    def _send_some(self) -> int:
        """One system call: descriptors go with the first byte of their message."""
        first, fds, _ = self._queue[0]
        batch = [first]
        for data, more_fds, _ in itertools.islice(self._queue, 1, 100):
            if more_fds:
                break
            batch.append(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        return self._sock.sendmsg(batch, [rights] if fds else [])

    def _consume(self, sent: int) -> None:
        while sent:
            data, _, done = self._queue.popleft()
            if sent < len(data):
                self._queue.appendleft((data[sent:], [], done))
                return
            sent -= len(data)
            if done:
                done(True)


class BluezSim:
    """The simulated daemon with its adapters and the devices around them."""

    def __init__(self, bus_address: str, seed: int = 1, temporary_timeout_s: float = 30,
                 connect_timeout_s: float = 20, startup_delay_s: float = 0) -> None:
        self.bus_address = bus_address
        self.temporary_timeout_s = temporary_timeout_s
        self.connect_timeout_s = connect_timeout_s      # of an attempt at a device not there
        self.startup_delay_s = startup_delay_s          # until adapters power on after start()
        self.objects_error: tuple[str, str] | None = None   # answer of GetManagedObjects
        self.gatt_cache = True                          # GATT objects outlive the link
        self.delivered: Counter[uuid.UUID] = Counter()
        self.noise_delivered = 0
        self.skipped = 0                                # automatic adverts the bus had no room for
        self.frames: dict[uuid.UUID, list[Frame]] = defaultdict(list)
        self.calls: deque[Call] = deque(maxlen=100_000)
        self.errors: list[BaseException] = []           # should stay empty
        self.adapters: dict[int, Adapter] = {}
        self.peers: list[Peer] = []
        self._by_device: dict[int, Peer] = {}
        self._random = random.Random(seed)
        self._bus: MessageBus | None = None
        self._writer: _Writer | None = None
        self._objects: dict[str, Any] = {}              # by path: what has interfaces()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._methods: dict[tuple[str, str, str], Callable[[Message, Any], Any]] = {
            (OBJECT_MANAGER, "GetManagedObjects", ""): self._get_managed_objects,
            (PROPERTIES, "Get", "ss"): self._get,
            (PROPERTIES, "GetAll", "s"): self._get_all,
            (PROPERTIES, "Set", "ssv"): self._set,
            (ADAPTER, "SetDiscoveryFilter", "a{sv}"): self._set_discovery_filter,
            (ADAPTER, "GetDiscoveryFilters", ""): lambda *_: ("as", [list(FILTER_TYPES)]),
            (ADAPTER, "StartDiscovery", ""): self._start_discovery,
            (ADAPTER, "StopDiscovery", ""): self._stop_discovery,
            (ADAPTER, "RemoveDevice", "o"): self._remove_device,
            (MONITOR_MANAGER, "RegisterMonitor", "o"): self._register_monitor,
            (MONITOR_MANAGER, "UnregisterMonitor", "o"): self._unregister_monitor,
            (DEVICE, "Connect", ""): self._connect,
            (DEVICE, "Disconnect", ""): self._disconnect,
            (CHARACTERISTIC, "AcquireWrite", "a{sv}"): self._acquire_write,
            (CHARACTERISTIC, "AcquireNotify", "a{sv}"): self._acquire_notify}

    # The daemon

    async def start(self) -> None:
        """Start bluetoothd, also again after stop(): adapters and devices are the same."""
        bus = MessageBus(bus_address=self.bus_address, negotiate_unix_fd=True)
        self._writer = _Writer(bus)
        bus._writer = self._writer  # type: ignore[assignment]
        await bus.connect()
        bus.add_message_handler(self._on_message)
        await self._call_driver(bus, "AddMatch", "s", [
            f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg2=''"])
        self._bus = bus
        self._objects["/org/bluez"] = _Attribute("/org/bluez", {"org.bluez.AgentManager1": {}})
        await bus.request_name("org.bluez")
        for adapter in self.adapters.values():
            self._export_adapter(adapter)
        for peer in self.peers:
            self._arm(peer)
        self.spawn(self._expire())

    async def stop(self) -> None:
        """Kill bluetoothd: no goodbye signals, the name is lost, links and sockets are closed.

        What was counted as delivered has reached the bus before.
        """
        if not self._bus:
            return
        bus, self._bus = self._bus, None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for peer in self.peers:
            if peer.link:
                self._link_down(peer.link)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for adapter in self.adapters.values():
            adapter.clients.clear()
            adapter.filters.clear()
            adapter.monitor_apps.clear()
            adapter.known = {a: k for a, k in adapter.known.items() if not k.temporary}
            for known in adapter.known.values():
                known.forget_adverts()
        self._objects.clear()
        try:
            await asyncio.wait_for(self._call_driver(bus, "GetId"), 5)
        finally:
            assert self._writer
            self._writer.close()
            self._writer = None
            bus.disconnect()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it or the daemon ends; failures go to `errors`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        err = None if task.cancelled() else task.exception()
        if err and not isinstance(err, DBusError):
            self.fail(err)

    def fail(self, err: BaseException) -> None:
        """Note what should not have happened, in the simulator or a device."""
        log.error("the simulator failed", exc_info=err)
        self.errors.append(err)

    @staticmethod
    async def _call_driver(bus: MessageBus, member: str, signature: str = "",
                           body: list[Any] | None = None) -> None:
        await bus.call(Message(destination=DBUS, path="/org/freedesktop/DBus", interface=DBUS,
                               member=member, signature=signature, body=body or []))

    async def _expire(self) -> None:
        """Remove temporary devices that fell silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self.temporary_timeout_s / 4))
            oldest = loop.time() - self.temporary_timeout_s
            for adapter in self.adapters.values():
                for known in list(adapter.known.values()):
                    if known.temporary and known.last_seen < oldest and not known.link:
                        self._remove_known(known)

    def called(self, member: str) -> list[Call]:
        """The calls of one method so far."""
        return [call for call in self.calls if call.member == member]

    # Adapters

    def add_adapter(self, index: int, address: str, powered: bool = True, rfkill: bool = False,
                    monitors: bool = False) -> Adapter:
        """Plug in a controller; the object has the faults to script."""
        adapter = Adapter(index, address, powered and not rfkill, rfkill, monitors)
        self.adapters[index] = adapter
        if self._bus:
            self._export_adapter(adapter)
        return adapter

    def remove_adapter(self, index: int) -> None:
        """Unplug a controller: its devices go with it."""
        adapter = self.adapters.pop(index)
        for known in list(adapter.known.values()):
            self._remove_known(known)
        self._unexport(adapter)

    def set_rfkill(self, index: int, blocked: bool) -> None:
        """Block or free a controller, as the rfkill switch does."""
        adapter = self.adapters[index]
        adapter.rfkill = blocked
        if blocked:
            self._power(adapter, False)
        else:
            adapter.power_state = "off"
            self._changed(adapter, ADAPTER, "PowerState")

    def set_powered(self, index: int, powered: bool) -> None:
        """Another program switches a controller on or off."""
        self._power(self.adapters[index], powered)

    def _export_adapter(self, adapter: Adapter) -> None:
        wanted = adapter.powered
        if self.startup_delay_s:
            adapter.powered = False
            if wanted:
                self.spawn(self._power_later(adapter, True, self.startup_delay_s))
        adapter.power_state = "on" if adapter.powered else "off"
        if adapter.rfkill:
            adapter.power_state = "off-blocked"
        self._export(adapter)
        for known in adapter.known.values():
            self._export(known)
            for attribute in known.attributes:
                self._export(attribute)

    async def _power_later(self, adapter: Adapter, on: bool, delay_s: float,
                           msg: Message | None = None) -> None:
        await asyncio.sleep(delay_s)
        if self.adapters.get(adapter.index) is adapter:
            self._power(adapter, on)
        if msg:
            self._reply(msg)

    def _power(self, adapter: Adapter, on: bool) -> None:
        """The controller goes on or off; off ends discovery, frees filters and breaks links."""
        if on == adapter.powered:
            return
        if on:
            if adapter.deaf == "power":
                adapter.deaf = ""
        else:
            self._end_discovery(adapter)
            adapter.filters.clear()
            for known in adapter.known.values():
                if known.connecting:
                    known.connecting.cancel()
                if known.link:
                    self._link_down(known.link)
        adapter.powered = on
        adapter.power_state = "on" if on else "off-blocked" if adapter.rfkill else "off"
        self._changed(adapter, ADAPTER, "Powered", "PowerState")

    def _set_discovery_filter(self, msg: Message, adapter: Adapter) -> None:
        self._need_power(adapter)
        given: dict[str, Variant] = msg.body[0]
        if any(FILTER_TYPES.get(k) != v.signature for k, v in given.items()):
            raise _error("InvalidArguments", "Invalid arguments in method call")
        wanted = {k: v.value for k, v in given.items()}
        transport = wanted.get("Transport", "auto")
        if transport not in ("auto", "le", "bredr") or {"RSSI", "Pathloss"} <= wanted.keys():
            raise _error("InvalidArguments", "Invalid arguments in method call")
        wanted["UUIDs"] = [long_uuid(u) for u in wanted.get("UUIDs", [])]
        if given:
            adapter.filters[sender_of(msg)] = wanted
        else:
            adapter.filters.pop(sender_of(msg), None)

    def _start_discovery(self, msg: Message, adapter: Adapter) -> None:
        self._need_power(adapter)
        client = sender_of(msg)
        if client in adapter.clients:
            raise _error("InProgress", "Operation already in progress")
        if adapter.discovery_error:
            raise DBusError(*adapter.discovery_error)
        if adapter.deaf == "discovery":
            adapter.deaf = ""
        adapter.clients.append(client)
        if len(adapter.clients) == 1:
            self._changed(adapter, ADAPTER, "Discovering")

    def _stop_discovery(self, msg: Message, adapter: Adapter) -> None:
        self._need_power(adapter)
        client = sender_of(msg)
        if client not in adapter.clients:
            raise _error("Failed", "No discovery started")
        adapter.filters.pop(client, None)
        self._end_discovery(adapter, client)

    def _end_discovery(self, adapter: Adapter, client: str | None = None) -> None:
        """End one client's discovery or all; with the last one RSSIs are no longer valid."""
        if client is None and adapter.clients:
            adapter.clients.clear()
        elif client in adapter.clients:
            adapter.clients.remove(client)
        else:
            return
        if adapter.clients:
            return
        for known in adapter.known.values():
            if known.rssi:
                known.rssi = 0
                self._emit(marshal_changed(known.path, DEVICE, {}, ["RSSI"]))
        self._changed(adapter, ADAPTER, "Discovering")

    def _client_gone(self, name: str) -> None:
        for adapter in self.adapters.values():
            adapter.filters.pop(name, None)
            self._end_discovery(adapter, name)
            for app in [a for a in adapter.monitor_apps if a[0] == name]:
                del adapter.monitor_apps[app]

    @staticmethod
    def _need_power(adapter: Adapter) -> None:
        if not adapter.powered:
            raise _error("NotReady", "Resource Not Ready")

    def _remove_device(self, msg: Message, adapter: Adapter) -> Any:
        known = self._objects.get(msg.body[0])
        if not isinstance(known, _Known) or known.adapter is not adapter:
            raise _error("DoesNotExist", "Does Not Exist")
        self._need_power(adapter)
        if not known.link:
            self._remove_known(known)
            return None
        self.spawn(self._remove_connected(known, msg))
        return False

    async def _remove_connected(self, known: _Known, msg: Message) -> None:
        await asyncio.sleep(known.peer.disconnect_delay_s)
        self._remove_known(known)
        self._reply(msg)

    def _remove_known(self, known: _Known) -> None:
        if known.adapter.known.get(known.address) is not known:
            return
        del known.adapter.known[known.address]
        if known.connecting:
            known.connecting.cancel()
        if known.link:
            self._link_down(known.link)
        self._forget_attributes(known)
        self._unexport(known)

    # Devices on the air

    def add_device(self, device: VirtualDevice, rssi: int = -60, adapter: int | Iterable[int] = 0,
                   interval_s: float | None = None, address: str | None = None) -> Peer:
        """Put a device in reach of one or more adapters; the object has the faults to script."""
        peer = self._add_peer(device, None, rssi, adapter, interval_s, address)
        self._by_device[id(device)] = peer
        return peer

    def add_noise(self, advert: Advert | None = None, rssi: int = -70,
                  adapter: int | Iterable[int] = 0, interval_s: float | None = None) -> Peer:
        """Put something that is not Blecon's in reach; by default a random one of two sorts."""
        if advert is None and self._random.random() < 0.5:
            battery = "0000180f" + BASE_UUID
            advert = Advert((battery,), {battery: self._random.randbytes(1)})
        advert = advert or Advert((), {}, {0x004C: b"\x02\x15" + self._random.randbytes(21)})
        return self._add_peer(None, advert, rssi, adapter, interval_s, None)

    def _add_peer(self, device: VirtualDevice | None, noise: Advert | None, rssi: int,
                  adapter: int | Iterable[int], interval_s: float | None,
                  address: str | None) -> Peer:
        adapters = (adapter,) if isinstance(adapter, int) else tuple(adapter)
        peer = Peer(device, noise, adapters, address or self._new_address(), rssi, interval_s)
        self.peers.append(peer)
        if self._bus:
            self._arm(peer)
        return peer

    def peer(self, device: VirtualDevice | Peer) -> Peer:
        """The radio of a device."""
        return device if isinstance(device, Peer) else self._by_device[id(device)]

    def remove_device(self, device: VirtualDevice | Peer) -> None:
        """Carry a device away: its link breaks, its object stays until bluetoothd expires it."""
        peer = self.peer(device)
        self.set_interval(peer, None)
        self.drop_link(peer)
        peer.present = False
        self.peers.remove(peer)
        if peer.device:
            del self._by_device[id(peer.device)]

    def rotate_address(self, device: VirtualDevice | Peer) -> str:
        """Give a device a new static random address, which is returned."""
        peer = self.peer(device)
        peer.address = self._new_address()
        return peer.address

    def set_interval(self, device: VirtualDevice | Peer, interval_s: float | None) -> None:
        """Let a device advertise by itself, or no longer."""
        peer = self.peer(device)
        peer.interval_s = interval_s
        if timer := self._timers.pop(id(peer), None):
            timer.cancel()
        if self._bus:
            self._arm(peer)

    def object_path(self, device: VirtualDevice | Peer, adapter: int | None = None) -> str:
        """Where bluetoothd has, or would have, the object of a device's present address."""
        peer = self.peer(device)
        index = peer.adapters[0] if adapter is None else adapter
        return f"/org/bluez/hci{index}/dev_{peer.address.replace(':', '_')}"

    async def advertise(self, device: VirtualDevice | Peer, rssi: int | None = None,
                        count: int = 1) -> int:
        """Send adverts now, by default with the device's own RSSI.

        Returns how many signals they became, all of them on the bus and counted.
        """
        peer = self.peer(device)
        loop = asyncio.get_running_loop()
        pending: list[asyncio.Future[bool]] = []
        for _ in range(count):
            self._on_air(peer)
            for index in peer.adapters:
                future = loop.create_future()
                if self._hear(index, peer, rssi or peer.rssi, partial(_settle, future)):
                    pending.append(future)
        return sum([await future for future in pending])

    def _new_address(self) -> str:
        octets = bytearray(self._random.randbytes(6))
        octets[0] |= 0xC0
        return octets.hex(":").upper()

    def _arm(self, peer: Peer) -> None:
        """Set the timer of an automatic advert, at a random phase."""
        if peer.interval_s and id(peer) not in self._timers:
            delay = peer.interval_s * self._random.random()
            self._timers[id(peer)] = asyncio.get_running_loop().call_later(delay, self._tick, peer)

    def _tick(self, peer: Peer) -> None:
        """One automatic advert."""
        assert peer.interval_s and self._writer
        delay = peer.interval_s * (0.95 + 0.1 * self._random.random())
        self._timers[id(peer)] = asyncio.get_running_loop().call_later(delay, self._tick, peer)
        if self._writer.waiting > BACKLOG:
            self.skipped += 1
            return
        self._on_air(peer)
        rssi = max(-110, min(-20, round(peer.rssi + self._random.gauss(0, 3))))
        for index in peer.adapters:
            self._hear(index, peer, rssi)

    def _on_air(self, peer: Peer) -> None:
        """Devices that rotate their address do it when what they advertise changes."""
        if peer.rotates_address and peer.device and not peer.link:
            data = peer.device.service_data
            if peer.last_data not in (None, data):
                self.rotate_address(peer)
            peer.last_data = data

    def _hear(self, index: int, peer: Peer, rssi: int, done: Done | None = None) -> bool:
        """One advert at one adapter: at most one signal. True if there is one."""
        adapter = self.adapters.get(index)
        if (not self._bus or not adapter or not adapter.clients or adapter.deaf or peer.link
                or not peer.present or adapter.path not in self._objects):
            return False
        advert = peer.advert()
        if not adapter.wants(advert, rssi):
            return False
        known = adapter.known.get(peer.address)
        new = known is None
        if known is None:
            known = adapter.known[peer.address] = _Known(adapter, peer)
        known.last_seen = asyncio.get_running_loop().time()
        changed = known.hear(advert)
        filters = adapter.active_filters()
        with_data = changed or any(f.get("DuplicateData") for f in filters)
        step = 1 if any(_is_filtered(f) for f in filters) else RSSI_STEP_DB
        if step == 1 or not known.rssi or abs(rssi - known.rssi) >= step:
            known.rssi = rssi
        elif not with_data:
            return False
        written = partial(self._count, peer, done)
        if new:
            self._objects[known.path] = known
            self._emit(_marshal_added(known), written)
        else:
            self._emit(known.advert_signal(known.rssi, with_data), written)
        if adapter.monitor_apps:
            self._tell_monitors(adapter, known, advert)
        return True

    def _count(self, peer: Peer, done: Done | None, written: bool) -> None:
        if written and peer.device:
            self.delivered[peer.device.device_id] += 1
        elif written:
            self.noise_delivered += 1
        if done:
            done(written)

    # Connections

    def _connect(self, msg: Message, known: _Known) -> Any:
        self._need_power(known.adapter)
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
        known.link = peer.link = _Link(self, known)
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

    # Advertisement monitors

    def _register_monitor(self, msg: Message, adapter: Adapter) -> None:
        app = (sender_of(msg), msg.body[0])
        if app in adapter.monitor_apps:
            raise _error("AlreadyExists", "Already Exists")
        adapter.monitor_apps[app] = {}
        self.spawn(self._read_monitors(adapter, app))

    def _unregister_monitor(self, msg: Message, adapter: Adapter) -> None:
        if adapter.monitor_apps.pop((sender_of(msg), msg.body[0]), None) is None:
            raise _error("DoesNotExist", "Does Not Exist")

    async def _read_monitors(self, adapter: Adapter, app: tuple[str, str]) -> None:
        """Take over what the client exports now, and what it adds later."""
        bus = self._bus
        assert bus
        await self._call_driver(bus, "AddMatch", "s", [
            f"type='signal',sender='{app[0]}',interface='{OBJECT_MANAGER}'"])
        reply = await bus.call(Message(destination=app[0], path=app[1], interface=OBJECT_MANAGER,
                                       member="GetManagedObjects"))
        if reply and reply.message_type is MessageType.METHOD_RETURN:
            for path, interfaces in reply.body[0].items():
                self._add_monitor(adapter, app, path, interfaces)

    def _monitors_changed(self, msg: Message) -> None:
        for adapter in self.adapters.values():
            for app, monitors in adapter.monitor_apps.items():
                if app[0] != msg.sender:
                    continue
                if msg.member == "InterfacesAdded":
                    self._add_monitor(adapter, app, *msg.body)
                else:
                    monitors.pop(msg.body[0], None)

    def _add_monitor(self, adapter: Adapter, app: tuple[str, str], path: str,
                     interfaces: Interfaces) -> None:
        props = interfaces.get(MONITOR)
        monitors = adapter.monitor_apps.get(app)
        if props is None or monitors is None or path in monitors:
            return
        kind, patterns = props.get("Type"), props.get("Patterns")
        good = kind and kind.value == "or_patterns" and patterns and patterns.value
        if not good or adapter.monitor_released:
            self._call_client(app[0], path, "Release")
            return
        monitors[path] = props
        self._call_client(app[0], path, "Activate")

    def _tell_monitors(self, adapter: Adapter, known: _Known, advert: Advert) -> None:
        """Without RSSI thresholds a monitor gets a call for every advert, else none here."""
        structures = advert.structures()
        for (client, _), monitors in adapter.monitor_apps.items():
            for path, props in monitors.items():
                if "RSSIHighThreshold" not in props and any(
                        kind == t and d[start:start + len(content)] == bytes(content)
                        for start, kind, content in props["Patterns"].value
                        for t, d in structures):
                    self._call_client(client, path, "DeviceFound", "o", [known.path])

    def _call_client(self, client: str, path: str, member: str, signature: str = "",
                     body: list[Any] | None = None) -> None:
        assert self._bus
        self._bus.send(Message(destination=client, path=path, interface=MONITOR, member=member,
                               signature=signature, body=body or [],
                               flags=MessageFlag.NO_REPLY_EXPECTED))

    # Messages

    def _on_message(self, msg: Message) -> bool:
        if msg.message_type is MessageType.SIGNAL:
            if msg.member == "NameOwnerChanged" and msg.sender == DBUS and not msg.body[2]:
                self._client_gone(msg.body[0])
            elif msg.interface == OBJECT_MANAGER:
                self._monitors_changed(msg)
            return False
        if msg.message_type is not MessageType.METHOD_CALL or not self._bus:
            return False
        assert msg.member and msg.path and msg.sender
        if msg.interface == "org.freedesktop.DBus.Peer":
            return False
        self.calls.append(Call(msg.member, msg.path, unpack_variants(msg.body), msg.sender))
        try:
            result = self._dispatch(msg)
        except DBusError as err:
            self._reply_error(msg, err)
        except Exception as err:
            self.fail(err)
            self._reply_error(msg, err)
        else:
            if result is not False:
                self._reply(msg, *(result or ()))
        return True

    def _dispatch(self, msg: Message) -> Any:
        """Run a method: None or (signature, body) to answer now, False if it answers later."""
        target: Any = self if msg.path == "/" else self._objects.get(msg.path or "")
        method = self._methods.get((msg.interface or "", msg.member or "", msg.signature))
        text = f'Method "{msg.member}" with signature "{msg.signature}" on interface ' \
               f'"{msg.interface}" doesn\'t exist\n'
        if target is None:
            raise DBusError(f"{DBUS}.Error.UnknownObject", text)
        offered = [OBJECT_MANAGER] if target is self else [PROPERTIES, *target.interfaces()]
        if method is None or msg.interface not in offered:
            raise DBusError(f"{DBUS}.Error.UnknownMethod", text)
        return method(msg, target)

    def _get_managed_objects(self, _msg: Message, _target: Any) -> Any:
        if self.objects_error:
            raise DBusError(*self.objects_error)
        return "a{oa{sa{sv}}}", [{o.path: _with_standard(o) for o in self._objects.values()}]

    def _get(self, msg: Message, target: Any) -> Any:
        props = target.interfaces().get(msg.body[0], {})
        if msg.body[1] not in props:
            raise DBusError(f"{DBUS}.Error.InvalidArgs", f"No such property '{msg.body[1]}'")
        return "v", [props[msg.body[1]]]

    def _get_all(self, msg: Message, target: Any) -> Any:
        interfaces = target.interfaces()
        if msg.body[0] not in interfaces:
            raise DBusError(f"{DBUS}.Error.InvalidArgs", f"No such interface '{msg.body[0]}'")
        return "a{sv}", [interfaces[msg.body[0]]]

    def _set(self, msg: Message, target: Any) -> Any:
        interface, name, value = msg.body
        props = target.interfaces().get(interface, {})
        if name not in props:
            raise DBusError(f"{DBUS}.Error.InvalidArgs", f"No such property '{name}'")
        if name not in WRITABLE.get(interface, ()):
            raise DBusError(f"{DBUS}.Error.PropertyReadOnly", f"Property '{name}' is not writable")
        if value.signature != props[name].signature:
            raise DBusError(f"{DBUS}.Error.InvalidArgs", "Invalid signature for property")
        if name == "Powered":
            return self._set_powered(msg, target, value.value)
        if isinstance(target, _Known):
            target.settings[name] = value
        elif name == "Alias":
            target.alias = value.value
        self._changed(target, interface, name)
        return None

    def _set_powered(self, msg: Message, adapter: Adapter, on: bool) -> Any:
        if on and adapter.rfkill:
            raise _error("Blocked", "Blocked through rfkill")
        if adapter.power_error:
            raise DBusError(*adapter.power_error)
        if on == adapter.powered:
            return None
        adapter.power_state = "off-enabling" if on else "on-disabling"
        self._changed(adapter, ADAPTER, "PowerState")
        self.spawn(self._power_later(adapter, on, adapter.power_delay_s, msg))
        return False

    def _reply(self, msg: Message, signature: str = "", body: list[Any] | None = None) -> None:
        if self._bus and not msg.flags & MessageFlag.NO_REPLY_EXPECTED:
            self._bus.send(Message.new_method_return(msg, signature, body or []))

    def _reply_error(self, msg: Message, err: BaseException) -> None:
        if self._bus and not msg.flags & MessageFlag.NO_REPLY_EXPECTED:
            name = err.type if isinstance(err, DBusError) else "org.bluez.Error.Failed"
            self._bus.send(Message.new_error(msg, name, str(err)))

    def _emit(self, message: bytearray, done: Done | None = None) -> None:
        """Send a marshalled signal under a serial of its own."""
        if self._bus and self._writer:
            struct.pack_into("<I", message, 8, self._bus.next_serial())
            self._writer.write(message, [], done)
        elif done:
            done(False)

    def _export(self, thing: Any) -> None:
        self._objects[thing.path] = thing
        self._emit(_marshal_added(thing))

    def _unexport(self, thing: Any) -> None:
        if self._objects.pop(thing.path, None):
            self._emit(_marshal_signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas",
                                       [thing.path, list(_with_standard(thing))]))

    def _changed(self, thing: Any, interface: str, *names: str) -> None:
        """Tell properties, unless the object is gone."""
        if self._objects.get(thing.path) is thing:
            props = thing.interfaces()[interface]
            self._emit(marshal_changed(thing.path, interface, {n: props[n] for n in names}))


def sender_of(msg: Message) -> str:
    """The unique name of the client; the bus fills it in always."""
    assert msg.sender
    return msg.sender


def long_uuid(text: str) -> str:
    """A UUID in full, from its 16-bit form too."""
    text = text.lower().removeprefix("0x")
    return f"0000{text}{BASE_UUID}" if len(text) == 4 else text


def short_uuid(text: str) -> bytes:
    """The 16-bit form of a UUID, in the order of the air."""
    return bytes.fromhex(text[4:8])[::-1]


def marshal_changed(path: str, interface: str, props: Props,
                    invalidated: Iterable[str] = ()) -> bytearray:
    """A PropertiesChanged signal."""
    return _marshal_signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as",
                           [interface, props, list(invalidated)])


def _marshal_added(thing: Any) -> bytearray:
    return _marshal_signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}",
                           [thing.path, _with_standard(thing)])


def _marshal_signal(path: str, interface: str, member: str, signature: str,
                    body: list[Any]) -> bytearray:
    return bytearray(Message(message_type=MessageType.SIGNAL, path=path, interface=interface,
                             member=member, signature=signature, body=body,
                             serial=1)._marshall(False))


def _with_standard(thing: Any) -> Interfaces:
    """An object's interfaces as bluetoothd lists them."""
    return {"org.freedesktop.DBus.Introspectable": {}, **thing.interfaces(), PROPERTIES: {}}


def _is_filtered(wanted: dict[str, Any]) -> bool:
    """Whether a filter makes a discovery a filtered one; a transport alone does not."""
    return bool(wanted.get("UUIDs") or wanted.get("DuplicateData")
                or "RSSI" in wanted or "Pathloss" in wanted)


def _gatt_tree(known: _Known) -> list[_Attribute]:
    """The GATT objects of a device: the GATT service, and Blecon's unless it lacks that."""
    def service(handle: int, text: str) -> _Attribute:
        return _Attribute(f"{known.path}/service{handle:04x}", {SERVICE: {
            "UUID": Variant("s", text), "Device": Variant("o", known.path),
            "Primary": Variant("b", True), "Includes": Variant("ao", [])}})

    def char(parent: _Attribute, handle: int, text: str, flags: list[str],
             channel: int | None) -> list[_Attribute]:
        path = f"{parent.path}/char{handle:04x}"
        descriptor = _Attribute(f"{path}/desc{handle + 2:04x}", {DESCRIPTOR: {
            "UUID": Variant("s", CCC), "Characteristic": Variant("o", path),
            "Value": Variant("ay", b"")}})
        return [_Characteristic(path, parent.path, text, flags, known, channel), descriptor]

    gatt = service(1, GATT_SERVICE)
    tree = [gatt, *char(gatt, 2, "00002a05" + BASE_UUID, ["indicate"], None)]
    if known.peer.device and not known.peer.no_blecon_service:
        blecon = service(0x10, FD0D)
        flags = ["write-without-response", "notify"]
        tree.append(blecon)
        for number, text in enumerate(CHANNELS):
            tree += char(blecon, 0x11 + 4 * number, text, flags, number)
    return tree


def _pair() -> tuple[socket.socket, socket.socket]:
    mine, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setblocking(False)
    client.setblocking(False)
    return mine, client


def _settle(future: asyncio.Future[Any] | None, written: bool) -> None:
    if future and not future.done():
        future.set_result(written)


def _error(name: str, text: str) -> DBusError:
    return DBusError(f"org.bluez.Error.{name}", text)


async def _run(args: argparse.Namespace, address: str) -> None:
    sim = BluezSim(address, seed=args.seed)
    sim.add_adapter(0, "00:AA:01:00:00:00", monitors=args.monitors)
    for _ in range(args.devices):
        sim.add_device(Beacon(), rssi=random.randint(-95, -45), interval_s=args.interval)
    for _ in range(args.noise):
        sim.add_noise(interval_s=args.interval)
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    await sim.start()
    print(f"DBUS_SYSTEM_BUS_ADDRESS={address}", flush=True)
    while not end.is_set():
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(end.wait(), REPORT_S)
        log.info("%d adverts delivered, %d of noise, %d skipped", sim.delivered.total(),
                 sim.noise_delivered, sim.skipped)
    await sim.stop()


def main() -> None:
    """Run it by itself, on a bus of its own unless one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bus", help="address of the bus; default: start a private one")
    parser.add_argument("--devices", type=int, default=10, help="Blecon devices")
    parser.add_argument("--noise", type=int, default=0, help="other devices")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between adverts")
    parser.add_argument("--monitors", action="store_true", help="as bluetoothd -E")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.bus:
        asyncio.run(_run(args, args.bus))
    else:
        with PrivateBus() as bus:
            asyncio.run(_run(args, bus.address))


if __name__ == "__main__":
    main()
