# SPDX-License-Identifier: Apache-2.0
"""A Blecon device's GATT service on this machine's bluetoothd, for tests with the real BlueZ."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from dbus_fast import Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

SERVICE = "0000fd0d-0000-1000-8000-00805f9b34fb"
CHANNELS = ("ec4f0000-1537-443e-b05a-713051212f1c", "ec4f0001-1537-443e-b05a-713051212f1c")

APP = "/blecon"
MAX_VALUE = 512  # of an attribute, whatever the MTU
# bluetoothd 5.66 sends notifications as ATT_MULTIPLE_HANDLE_VALUE_NTF, with a head of 5 bytes, and
# cuts what is then over the MTU.
NOTIFICATION_HEAD = 5


def _path(channel: int) -> str:
    return f"{APP}/service/channel{channel}"


def _objects(channels: int) -> dict[str, dict[str, dict[str, Variant]]]:
    """What the application has on D-Bus."""
    objects = {f"{APP}/service": {"org.bluez.GattService1": {
        "UUID": Variant("s", SERVICE),
        "Primary": Variant("b", True),
    }}}
    for channel, uuid in enumerate(CHANNELS[:channels]):
        objects[_path(channel)] = {"org.bluez.GattCharacteristic1": {
            "UUID": Variant("s", uuid),
            "Service": Variant("o", f"{APP}/service"),
            "Flags": Variant("as", ["notify", "write-without-response"]),
            "NotifyAcquired": Variant("b", False),  # there, so bluetoothd calls AcquireNotify
        }}
    return objects


class GattServer:
    """The service, with a characteristic for each channel, on `adapter` of the bluetoothd on `bus`.

    A subscription opens a channel: on_open(channel, socket, longest frame the hotspot takes) gets
    the socket for frames to the hotspot, and owns it; the socket ends with the subscription.
    on_frame(channel, frame) gets frames from the hotspot. on_restart() says that bluetoothd is gone
    or back; the service is then registered again.

    Frames to the hotspot go through AcquireNotify, which tells the MTU. Frames from it come by
    WriteValue: with AcquireWrite, bluetoothd 5.66 garbles what is written before it has the file
    descriptor, for which it asks at the first write. bluetoothd needs [GATT] Channels=1: with more,
    two bluetoothds spread the frames over several bearers, and their order is lost.
    """

    def __init__(self, bus: MessageBus, adapter: str, channels: int,
                 on_open: Callable[[int, socket.socket, int], None],
                 on_frame: Callable[[int, bytes], None], on_restart: Callable[[], None]) -> None:
        self._bus = bus
        self._adapter = adapter
        self._objects = _objects(channels)
        self._channels = {_path(channel): channel for channel in range(channels)}
        self._on_open = on_open
        self._on_frame = on_frame
        self._on_restart = on_restart
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._bus.add_message_handler(self._on_message)
        await self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                         "AddMatch", "s", ["sender='org.freedesktop.DBus',arg0='org.bluez',"
                                           "member='NameOwnerChanged'"])
        await self._register()

    async def stop(self) -> None:
        self._bus.remove_message_handler(self._on_message)
        for task in self._tasks:
            task.cancel()
        await self._bluez("UnregisterApplication", "o", [APP])

    async def settle(self) -> None:
        """Returns when all frames are handed on that bluetoothd took before: it answers in order.

        The end of a socket would otherwise overtake them.
        """
        await self._call("org.bluez", "/org/bluez", "org.freedesktop.DBus.Peer", "Ping", "", [])

    def _start_task(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_message(self, message: Message) -> Message | bool | None:
        if message.member == "NameOwnerChanged" and message.body[0] == "org.bluez":
            self._on_restart()
            if message.body[2]:
                self._start_task(self._register())
            return None
        if message.message_type is not MessageType.METHOD_CALL or not message.path.startswith(APP):
            return None
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._objects])
        channel = self._channels.get(message.path)
        if channel is not None and message.member == "AcquireNotify":
            self._start_task(self._on_acquire_notify(channel, message))
            return True
        if channel is not None and message.member == "WriteValue":
            self._on_frame(channel, bytes(message.body[0]))
            if message.flags & MessageFlag.NO_REPLY_EXPECTED:
                return True
            return Message.new_method_return(message)
        return Message.new_error(message, "org.bluez.Error.NotSupported", message.member)

    async def _on_acquire_notify(self, channel: int, message: Message) -> None:
        mtu = message.body[0]["mtu"].value
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            self._on_open(channel, ours, min(mtu - NOTIFICATION_HEAD, MAX_VALUE))
            await self._bus.send(Message.new_method_return(message, "hq", [0, mtu],
                                                           [theirs.fileno()]))

    async def _register(self) -> None:
        """Tried for 10 s: bluetoothd may only just have started."""
        for _ in range(50):
            reply = await self._bluez("RegisterApplication", "oa{sv}", [APP, {}])
            if reply.message_type is MessageType.METHOD_RETURN:
                return
            await asyncio.sleep(0.2)
        raise RuntimeError(f"bluetoothd takes no GATT application: {reply.error_name}")

    async def _bluez(self, member: str, signature: str, body: list[Any]) -> Message:
        return await self._call("org.bluez", f"/org/bluez/{self._adapter}",
                                "org.bluez.GattManager1", member, signature, body)

    async def _call(self, destination: str, path: str, interface: str, member: str, signature: str,
                    body: list[Any]) -> Message:
        return await self._bus.call(Message(destination=destination, path=path, interface=interface,
                                            member=member, signature=signature, body=body,
                                            flags=MessageFlag.NO_AUTOSTART))
