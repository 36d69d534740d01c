# SPDX-License-Identifier: Apache-2.0
"""Devices around the simulated adapters: what is on the air, and what of it bluetoothd tells.

One signal that carries an RSSI is one advert: `delivered` counts those written to the bus.
"""
from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from bluez_bus import Done, _marshal_added, _settle
from bluez_l2cap import _L2cap
from bluez_link import Connection, _Connections, _Link
from bluez_monitors import _Monitors
from bluez_objects import BASE_UUID, OUTCOMES, Advert, Faults, Peer, VirtualDevice, _Known

RSSI_STEP_DB = 8        # smaller changes are not told in a regular discovery
BACKLOG = 4000          # messages waiting for the bus above which automatic adverts are left out


class _Air(_Connections, _Monitors, _L2cap):
    """The devices, their adverts, and what tests make them do."""

    def __init__(self, bus_address: str, seed: int, connect_timeout_s: float, att_timeout_s: float
                 ) -> None:
        super().__init__(bus_address, connect_timeout_s, att_timeout_s)
        self.delivered: Counter[uuid.UUID] = Counter()
        self.noise_delivered = 0
        self.skipped = 0                                # automatic adverts the bus had no room for
        self.peers: list[Peer] = []
        self._by_device: dict[int, Peer] = {}
        self._random = random.Random(seed)
        self._timers: dict[int, asyncio.TimerHandle] = {}

    # Devices

    def add_device(self, device: VirtualDevice, rssi: int | dict[int, int] = -60,
                   adapter: int | Iterable[int] = 0, interval_s: float | None = None,
                   address: str | None = None) -> Peer:
        """Put a device in reach of one or more adapters; the object has its faults.

        An rssi by adapter, {0: -70, 1: -50}, names the adapters too.
        """
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

    def _add_peer(self, device: VirtualDevice | None, noise: Advert | None,
                  rssi: int | dict[int, int], adapter: int | Iterable[int],
                  interval_s: float | None, address: str | None) -> Peer:
        if isinstance(rssi, dict):
            adapter = rssi
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
                if self._hear(index, peer, rssi or peer.rssi_at(index), partial(_settle, future)):
                    pending.append(future)
        return sum([await future for future in pending])

    # What tests make them do

    def script(self, device: VirtualDevice | Peer, *outcomes: str | Faults) -> None:
        """What the next attempts to connect a device come to: each a name in OUTCOMES or Faults."""
        peer = self.peer(device)
        peer.script += [OUTCOMES[o] if isinstance(o, str) else o for o in outcomes]

    def stall(self, device: VirtualDevice | Peer, stalls: bool = True) -> None:
        """Let the radio take nothing to a device, or go on."""
        self.peer(device).radio_stalls = stalls

    def send(self, device: VirtualDevice | Peer, *frames: bytes, channel: int = 0) -> None:
        """Let a device send frames by itself; ValueError where that channel is not open."""
        self._link_of(device).send(frames, channel)

    def waiting(self, device: VirtualDevice | Peer, channel: int = 0) -> int:
        """Frames a device has to send while the client does not read."""
        return self._link_of(device).waiting(channel)

    def sessions(self, device: VirtualDevice) -> list[Connection]:
        """A device's connections in which channel 0 was opened."""
        return [c for c in self.connections if c.device_id == device.device_id and 0 in c.channels]

    def _link_of(self, device: VirtualDevice | Peer) -> _Link:
        link = self.peer(device).link
        if link is None:
            raise ValueError("not connected")
        return link

    # Adverts

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
        for index in peer.adapters:
            rssi = round(peer.rssi_at(index) + self._random.gauss(0, 3))
            self._hear(index, peer, max(-110, min(-20, rssi)))

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


def _is_filtered(wanted: dict[str, Any]) -> bool:
    """Whether a filter makes a discovery a filtered one; a transport alone does not."""
    return bool(wanted.get("UUIDs") or wanted.get("DuplicateData")
                or "RSSI" in wanted or "Pathloss" in wanted)
