# SPDX-License-Identifier: Apache-2.0
"""Advertisement monitors of the simulated bluetoothd (bluetoothd -E)."""
from __future__ import annotations

from typing import Any

from dbus_fast import Message, MessageFlag, MessageType

from bluez_bus import OBJECT_MANAGER, Interfaces, _error, _ObjectServer, sender_of
from bluez_objects import Adapter, Advert, _Known

MONITOR = "org.bluez.AdvertisementMonitor1"


class _Monitors(_ObjectServer):
    """The monitors that clients export; an adapter's are in its monitor_apps."""

    adapters: dict[int, Adapter]

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
