#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A simulated bluetoothd: owns org.bluez on a private bus, with scripted devices and faults.

    sim = BluezSim(bus_address)
    sim.add_adapter(0, "00:AA:01:00:00:00")
    peer = sim.add_device(virtual_device, rssi=-60)
    await sim.start()
    await sim.advertise(peer)

It follows BlueZ 5.66 where a central can tell: see tests/lab/test_bluez_sim.py. What it does not
have: BR/EDR, pairing, a GATT server, and objects made by an advertisement monitor alone. It is the
kernel's L2CAP too, for a client with l2cap_preload.so, where l2cap_path says.

The parts: bluez_objects.py has the devices and the objects bluetoothd exports, bluez_air.py what
the devices do, bluez_link.py connections, bluez_gatt.py and bluez_l2cap.py their bearers,
bluez_monitors.py advertisement monitors, bluez_bus.py D-Bus. Here are the daemon, its adapters, and
a program that runs it. Import names from here.
"""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
from pathlib import Path
from typing import Any

from dbus_fast import DBusError, Message, Variant
from dbus_fast.aio import MessageBus

from bluez_air import _Air
from bluez_bus import (DBUS, OBJECT_MANAGER, PROPERTIES, Call, _error, _Writer, marshal_changed,
                       sender_of)
from bluez_gatt import Frame, _Channel, _pair
from bluez_l2cap import CocRequest, preload_environment
from bluez_link import Connection, _Link
from bluez_monitors import MONITOR
from bluez_objects import (ADAPTER, CHANNELS, CHARACTERISTIC, DESCRIPTOR, DEVICE, FD0D,
                           MONITOR_MANAGER, OUTCOMES, Adapter, Advert, Beacon, Faults, Peer,
                           VirtualDevice, _Attribute, _Known, _need_power, long_uuid)
from private_bus import PrivateBus

__all__ = ["ADAPTER", "CHANNELS", "CHARACTERISTIC", "DBUS", "DESCRIPTOR", "DEVICE", "FD0D",
           "MONITOR", "MONITOR_MANAGER", "OBJECT_MANAGER", "OUTCOMES", "PROPERTIES", "Adapter",
           "Advert", "Beacon", "BluezSim", "Call", "CocRequest", "Connection", "Faults", "Frame",
           "Peer", "VirtualDevice", "_Channel", "_pair", "preload_environment"]

FILTER_TYPES = {"UUIDs": "as", "RSSI": "n", "Pathloss": "q", "Transport": "s",
                "DuplicateData": "b", "Discoverable": "b", "Pattern": "s"}
WRITABLE = {ADAPTER: {"Powered", "Alias", "Discoverable", "Pairable"},
            DEVICE: {"Alias", "Trusted", "Blocked"}}
REPORT_S = 10           # between the program's log lines

log = logging.getLogger("bluez_sim")


class BluezSim(_Air):
    """The simulated daemon with its adapters and the devices around them."""

    def __init__(self, bus_address: str, seed: int = 1, temporary_timeout_s: float = 30,
                 connect_timeout_s: float = 20, startup_delay_s: float = 0,
                 att_timeout_s: float = 30, l2cap_path: Path | None = None) -> None:
        super().__init__(bus_address, seed, connect_timeout_s, att_timeout_s)
        self.temporary_timeout_s = temporary_timeout_s
        self.startup_delay_s = startup_delay_s          # until adapters power on after start()
        self.l2cap_path = l2cap_path                    # where clients ask for L2CAP channels
        self.adapters: dict[int, Adapter] = {}
        self._methods = {
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
            (CHARACTERISTIC, "AcquireNotify", "a{sv}"): self._acquire_notify,
            (DESCRIPTOR, "ReadValue", "a{sv}"): self._read_descriptor}

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
        if self.l2cap_path:
            self._listen_l2cap(self.l2cap_path)
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
                self.link_down(peer.link, "daemon")
        self._close_l2cap()
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

    async def _expire(self) -> None:
        """Remove temporary devices that fell silent."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self.temporary_timeout_s / 4))
            oldest = loop.time() - self.temporary_timeout_s
            for adapter in self.adapters.values():
                for known in list(adapter.known.values()):
                    if known.temporary and known.last_seen < oldest and not known.link:
                        self._remove_known(known, "daemon")

    def _on_signal(self, msg: Message) -> None:
        if msg.member == "NameOwnerChanged" and msg.sender == DBUS and not msg.body[2]:
            self._client_gone(msg.body[0])
        elif msg.interface == OBJECT_MANAGER:
            self._monitors_changed(msg)

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
            self._remove_known(known, "adapter")
        self._unexport(adapter)

    def deafen(self, index: int, until: str | None) -> None:
        """Let an adapter hear nothing, though it says that it is discovering.

        until: "restart" (discovery stops and starts), "power-cycle", None: for ever.
        """
        assert until in ("restart", "power-cycle", None)
        self.adapters[index].deaf, self.adapters[index].deaf_until = True, until

    @staticmethod
    def _heal(adapter: Adapter, by: str) -> None:
        if adapter.deaf_until == by:
            adapter.deaf, adapter.deaf_until = False, None

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
            self._heal(adapter, "power-cycle")
        else:
            self._end_discovery(adapter)
            adapter.filters.clear()
            for known in adapter.known.values():
                if known.connecting:
                    known.connecting.cancel()
                if known.link:
                    self.link_down(known.link, "adapter")
        adapter.powered = on
        adapter.power_state = "on" if on else "off-blocked" if adapter.rfkill else "off"
        self._changed(adapter, ADAPTER, "Powered", "PowerState")

    def _set_discovery_filter(self, msg: Message, adapter: Adapter) -> None:
        _need_power(adapter)
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
        _need_power(adapter)
        client = sender_of(msg)
        if client in adapter.clients or not adapter.le:
            raise _error("InProgress", "Operation already in progress")
        if adapter.discovery_error:
            raise DBusError(*adapter.discovery_error)
        if not adapter.clients:
            self._heal(adapter, "restart")
        adapter.clients.append(client)
        if len(adapter.clients) == 1:
            self._changed(adapter, ADAPTER, "Discovering")

    def _stop_discovery(self, msg: Message, adapter: Adapter) -> None:
        _need_power(adapter)
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

    def _remove_device(self, msg: Message, adapter: Adapter) -> Any:
        known = self._objects.get(msg.body[0])
        if not isinstance(known, _Known) or known.adapter is not adapter:
            raise _error("DoesNotExist", "Does Not Exist")
        _need_power(adapter)
        if not known.link:
            self._remove_known(known, "client")
            return None
        self.spawn(self._remove_connected(known, msg))
        return False

    async def _remove_connected(self, known: _Known, msg: Message) -> None:
        await asyncio.sleep(known.peer.disconnect_delay_s)
        self._remove_known(known, "client")
        self._reply(msg)

    def _remove_known(self, known: _Known, end: str) -> None:
        if known.adapter.known.get(known.address) is not known:
            return
        del known.adapter.known[known.address]
        if known.connecting:
            known.connecting.cancel()
        if known.link:
            self.link_down(known.link, end)
        self._forget_attributes(known)
        self._unexport(known)

    def _new_link(self, known: _Known) -> _Link:
        return _Link(self, known, _Channel)     # this module's: tests/bench replaces it


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
