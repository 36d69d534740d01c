# SPDX-License-Identifier: Apache-2.0
"""The simulated bluetoothd's side of D-Bus, with nothing of Bluetooth in it.

_ObjectServer exports objects, tells their properties and answers calls; _Writer queues what goes
to the bus; the functions marshal signals.
"""
from __future__ import annotations

import array
import asyncio
import itertools
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, NamedTuple

from dbus_fast import DBusError, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import MESSAGE_FLAG_MAP
from dbus_fast.unpack import unpack_variants

# dbus-fast 1.84 knows no message with two flags, and reads nothing after one.
MESSAGE_FLAG_MAP.update({flags: MessageFlag(flags) for flags in range(8)})

DBUS = "org.freedesktop.DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

Props = dict[str, Variant]
Interfaces = dict[str, Props]
Done = Callable[[bool], None]
log = logging.getLogger("bluez_sim")


class Call(NamedTuple):
    """One method call that arrived, arguments without their variants."""

    member: str
    path: str
    args: list[Any]
    sender: str


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


class _ObjectServer:
    """A D-Bus service with an object manager at "/"; BluezSim has the methods."""

    def __init__(self, bus_address: str) -> None:
        self.bus_address = bus_address
        self.objects_error: tuple[str, str] | None = None   # answer of GetManagedObjects
        self.calls: deque[Call] = deque(maxlen=100_000)
        self.errors: list[BaseException] = []           # should stay empty
        self._bus: MessageBus | None = None
        self._writer: _Writer | None = None
        self._objects: dict[str, Any] = {}              # by path: what has interfaces()
        self._tasks: set[asyncio.Task[None]] = set()
        # by interface, member and signature
        self._methods: dict[tuple[str, str, str], Callable[[Message, Any], Any]] = {}

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

    def called(self, member: str) -> list[Call]:
        """The calls of one method so far."""
        return [call for call in self.calls if call.member == member]

    @staticmethod
    async def _call_driver(bus: MessageBus, member: str, signature: str = "",
                           body: list[Any] | None = None) -> None:
        await bus.call(Message(destination=DBUS, path="/org/freedesktop/DBus", interface=DBUS,
                               member=member, signature=signature, body=body or []))

    # Calls and signals that arrive

    def _on_message(self, msg: Message) -> bool:
        if msg.message_type is MessageType.SIGNAL:
            self._on_signal(msg)
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

    def _on_signal(self, msg: Message) -> None:
        """A signal arrived that a match asked for."""

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

    # Answers and signals to send

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


def _settle(future: asyncio.Future[Any] | None, written: bool) -> None:
    if future and not future.done():
        future.set_result(written)


def _error(name: str, text: str) -> DBusError:
    return DBusError(f"org.bluez.Error.{name}", text)
