# SPDX-License-Identifier: Apache-2.0
"""What the simulated bluetoothd knows about: devices on the air, and the objects it exports.

On the air: VirtualDevice, Beacon, Advert, Peer with its Faults. On the bus: Adapter, _Known (a
device object), _Attribute, _Characteristic and _Descriptor (the GATT objects below it, made by
_gatt_tree).
"""
from __future__ import annotations

import asyncio
import struct
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dbus_fast import Variant

from bluez_bus import Interfaces, Props, _error, marshal_changed

if TYPE_CHECKING:       # not when it runs: bluez_link imports this module
    from bluez_gatt import _Channel
    from bluez_link import Connection, _Link

FD0D = "0000fd0d-0000-1000-8000-00805f9b34fb"
CHANNELS = ("ec4f0000-1537-443e-b05a-713051212f1c", "ec4f0001-1537-443e-b05a-713051212f1c")
GATT_SERVICE = "00001801-0000-1000-8000-00805f9b34fb"
CCC = "00002902-0000-1000-8000-00805f9b34fb"
BASE_UUID = "-0000-1000-8000-00805f9b34fb"

ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
SERVICE = "org.bluez.GattService1"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
DESCRIPTOR = "org.bluez.GattDescriptor1"
MONITOR_MANAGER = "org.bluez.AdvertisementMonitorManager1"

RSSI_MARK = -21846      # 0xaaaa: found nowhere else in a marshalled signal


class VirtualDevice(Protocol):
    """The device side of a connection, as tests/lab/device.py has it.

    One that counts sessions by bearer has an attribute `bearer`, set before opened().
    """

    device_id: uuid.UUID
    l2cap: bool                 # it takes the PSMs
    channels: int               # 2: it has channel 1 too

    @property
    def service_data(self) -> bytes: ...
    def opened(self, max_frame: int, channel: int = 0) -> list[bytes]: ...
    def received(self, frame: bytes, channel: int = 0) -> list[bytes]: ...
    def closed(self) -> None: ...


class Beacon:
    """A device that can be spotted and no more."""

    def __init__(self, device_id: uuid.UUID | None = None, tail: bytes = b"\x01\x00") -> None:
        self.device_id = device_id or uuid.uuid4()
        self.l2cap = False
        self.channels = 2
        self.service_data = b"\x00\x00" + self.device_id.bytes + tail

    def opened(self, _max_frame: int, _channel: int = 0) -> list[bytes]:
        """It has nothing to say."""
        return []

    def received(self, _frame: bytes, _channel: int = 0) -> list[bytes]:
        """Nor to answer."""
        return []

    def closed(self) -> None:
        """Nothing to forget."""


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


@dataclass(eq=False, kw_only=True)
class Faults:
    """What goes wrong in an attempt to connect a device, and in the connection it makes."""

    connect_error: tuple[str, str] | None = None
    connect_hangs: bool = False                 # until Disconnect
    connect_succeeds_without_link: bool = False
    services_never_resolve: bool = False
    resolves_before_objects: bool = False
    no_blecon_service: bool = False
    acquire_notify_never_answers: bool = False
    acquire_notify_error: tuple[str, str] | None = None
    acquire_write_error: tuple[str, str] | None = None
    l2cap_refused: bool = False
    l2cap_never_answers: bool = False
    l2cap_closes_after_frames: int | None = None    # of a channel; the link stays
    vanish_after_frames: int | None = None          # of the link, which breaks


# The names for what a script mostly has.
OUTCOMES = {
    "ok": Faults(),
    "connect-error": Faults(connect_error=("org.bluez.Error.Failed",
                                           "le-connection-abort-by-local")),
    "connect-hangs": Faults(connect_hangs=True),
    "no-link": Faults(connect_succeeds_without_link=True),
    "services-never-resolve": Faults(services_never_resolve=True),
    "notify-never-answers": Faults(acquire_notify_never_answers=True),
    "l2cap-refused": Faults(l2cap_refused=True),
    "l2cap-never-answers": Faults(l2cap_never_answers=True),
}


@dataclass(eq=False)
class Peer(Faults):
    """A device on the air. Its attributes may be changed at any time.

    Its own faults are those of each attempt, unless there is a script: that has the faults of the
    next attempts, one after the other (BluezSim.script() fills it).
    """

    device: VirtualDevice | None        # None: noise
    noise: Advert | None
    adapters: tuple[int, ...]           # that hear it
    address: str
    rssi: int | dict[int, int] = -60    # by adapter, where they differ
    interval_s: float | None = None     # advertises by itself this often: set_interval()
    address_type: str = "random"
    mtu: int = 247                      # ATT
    sndmtu: int = 245                   # longest SDU to it over L2CAP
    frames_per_s: float | None = None   # how fast the radio takes frames to it; None: at once
    name: str | None = None
    connect_delay_s: float = 0.05
    resolve_delay_s: float = 0.05
    disconnect_delay_s: float = 0.02
    rotates_address: bool = False       # new address whenever its service data changes
    drops_notifications: bool = False   # bluetoothd's way with a full socket; else wait
    script: list[Faults] = field(default_factory=list)
    present: bool = True
    link: _Link | None = None
    last_data: bytes | None = None
    _stalls: bool = field(default=False, init=False)

    @property
    def radio_stalls(self) -> bool:
        """Whether the radio takes no frame, nor request, to the device: BluezSim.stall()."""
        return self._stalls

    @radio_stalls.setter
    def radio_stalls(self, stalls: bool) -> None:
        self._stalls = stalls
        if self.link:
            self.link.pump()

    def rssi_at(self, adapter: int) -> int:
        """How an adapter hears it."""
        return self.rssi if isinstance(self.rssi, int) else self.rssi[adapter]

    def next_faults(self) -> Faults:
        """Those of the attempt that begins."""
        return self.script.pop(0) if self.script else self

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
    address_type: str = "public"
    le: bool = True                     # else a controller of Bluetooth 3.0 or earlier
    name: str = "lab"
    max_connections: int = 1000
    discovery_error: tuple[str, str] | None = None
    power_error: tuple[str, str] | None = None
    power_delay_s: float = 0.02
    deaf: bool = False                  # BluezSim.deafen()
    deaf_until: str | None = None       # "restart" of discovery, "power-cycle", None: for ever
    monitor_released: bool = False      # release monitors instead of activating them
    peak_connecting: int = 0            # most connection attempts at once
    peak_connected: int = 0             # most links at once
    modalias: str | None = "usb:v1D6Bp0246d0542"    # None: main.conf has DeviceID = false
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
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", self.address_type),
            "Name": Variant("s", self.name), "Alias": Variant("s", self.alias or self.name),
            "Class": Variant("u", 0), "Powered": Variant("b", self.powered),
            "PowerState": Variant("s", self.power_state), "Discoverable": Variant("b", False),
            "DiscoverableTimeout": Variant("u", 180), "Pairable": Variant("b", False),
            "PairableTimeout": Variant("u", 0), "Discovering": Variant("b", bool(self.clients)),
            "UUIDs": Variant("as", uuids),
            "Roles": Variant("as", ["central", "peripheral"] if self.le else [])}}
        if self.modalias:
            result[ADAPTER]["Modalias"] = Variant("s", self.modalias)
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
    """A GATT service, or any other object without methods."""

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


class _Descriptor(_Attribute):
    """The Client Characteristic Configuration of a characteristic."""

    def __init__(self, path: str, char: _Characteristic) -> None:
        super().__init__(path, {DESCRIPTOR: {
            "UUID": Variant("s", CCC), "Characteristic": Variant("o", char.path),
            "Value": Variant("ay", b"")}})
        self.char = char
        self.reading = False

    def value(self) -> bytes:
        """What is read over the air: whether notifications are on."""
        channel = self.char.open_channel()
        return b"\x01\x00" if channel and channel.notify else b"\x00\x00"


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
        self.faults: Faults = peer          # of the latest attempt
        self.record: Connection | None = None   # of the latest attempt
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
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", self.peer.address_type),
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


def _gatt_tree(known: _Known) -> list[_Attribute]:
    """The GATT objects of a device: the GATT service, and Blecon's unless it lacks that."""
    def service(handle: int, text: str) -> _Attribute:
        return _Attribute(f"{known.path}/service{handle:04x}", {SERVICE: {
            "UUID": Variant("s", text), "Device": Variant("o", known.path),
            "Primary": Variant("b", True), "Includes": Variant("ao", [])}})

    def char(parent: _Attribute, handle: int, text: str, flags: list[str],
             channel: int | None) -> list[_Attribute]:
        path = f"{parent.path}/char{handle:04x}"
        char = _Characteristic(path, parent.path, text, flags, known, channel)
        return [char, _Descriptor(f"{path}/desc{handle + 2:04x}", char)]

    gatt = service(1, GATT_SERVICE)
    tree = [gatt, *char(gatt, 2, "00002a05" + BASE_UUID, ["indicate"], None)]
    device = known.peer.device
    if device and not known.faults.no_blecon_service:
        blecon = service(0x10, FD0D)
        flags = ["write-without-response", "notify"]
        tree.append(blecon)
        for number, text in enumerate(CHANNELS[:device.channels]):
            tree += char(blecon, 0x11 + 4 * number, text, flags, number)
    return tree


def long_uuid(text: str) -> str:
    """A UUID in full, from its 16-bit form too."""
    text = text.lower().removeprefix("0x")
    return f"0000{text}{BASE_UUID}" if len(text) == 4 else text


def short_uuid(text: str) -> bytes:
    """The 16-bit form of a UUID, in the order of the air."""
    return bytes.fromhex(text[4:8])[::-1]


def _need_power(adapter: Adapter) -> None:
    """Refuse a call while the controller is off."""
    if not adapter.powered:
        raise _error("NotReady", "Resource Not Ready")
