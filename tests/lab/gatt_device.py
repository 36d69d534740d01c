# SPDX-License-Identifier: Apache-2.0
"""A Blecon device on a Bluetooth controller of this machine, for tests with the real BlueZ.

GattDevice puts a virtual device (device.py) on the air: bluetoothd's GattManager1 carries its GATT
service, the kernel's management socket its advertising, byte for byte. As a program it advertises
raw data in rotation:

    gatt_device.py --adapter hci1 02010603030dfd17160dfd3a… 02010603030dfd17160dfd3b…

Advertiser re-enables advertising every `interval`: btvirt sends an advert once per enabling.
"""

import argparse
import asyncio
import ctypes
import itertools
import socket
import struct

from dbus_fast import Message, MessageFlag, MessageType, Variant

SERVICE = "0000fd0d-0000-1000-8000-00805f9b34fb"
CHANNEL_0 = "ec4f0000-1537-443e-b05a-713051212f1c"
AD_PREFIX = bytes.fromhex("02010603030dfd17160dfd")

APP = "/blecon"
OBJECTS = {
    f"{APP}/service": {"org.bluez.GattService1": {
        "UUID": Variant("s", SERVICE),
        "Primary": Variant("b", True),
    }},
    f"{APP}/service/channel0": {"org.bluez.GattCharacteristic1": {
        "UUID": Variant("s", CHANNEL_0),
        "Service": Variant("o", f"{APP}/service"),
        "Flags": Variant("as", ["notify", "write-without-response"]),
        "NotifyAcquired": Variant("b", False),  # there, so bluetoothd calls AcquireNotify
    }},
}
MAX_VALUE = 512  # of an attribute, whatever the MTU
# bluetoothd 5.66 sends notifications as ATT_MULTIPLE_HANDLE_VALUE_NTF, with a head of 5 bytes, and
# cuts what is then over the MTU.
NOTIFICATION_HEAD = 5
PACE = 0.002  # seconds per frame: what a good radio link does

AF_BLUETOOTH, BTPROTO_HCI = 31, 1
HCI_DEV_NONE, HCI_CHANNEL_CONTROL = 0xFFFF, 3
SET_POWERED, ADD_ADVERTISING, REMOVE_ADVERTISING = 0x0005, 0x003E, 0x003F
COMMAND_COMPLETE, COMMAND_STATUS = 0x0001, 0x0002
DEVICE_CONNECTED, DEVICE_DISCONNECTED = 0x000B, 0x000C
CONNECTABLE = 1 << 0
INSTANCE = 1
COMMAND_SECONDS = 5


class MgmtError(Exception):
    """A management command ended with a status other than success."""


class Mgmt:
    """The kernel's Bluetooth management socket, for one controller. One command at a time."""

    def __init__(self, adapter, on_link=None):
        self.index = int(adapter.removeprefix("hci"))
        self.on_link = on_link
        self._lock = asyncio.Lock()
        self._pending = None
        self._socket = socket.socket(AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK,
                                     BTPROTO_HCI)
        # socket.bind() cannot name the channel.
        address = struct.pack("<HHH", AF_BLUETOOTH, HCI_DEV_NONE, HCI_CHANNEL_CONTROL)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "cannot bind the management socket")
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self):
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def command(self, opcode, parameters):
        async with self._lock:
            reply = asyncio.get_running_loop().create_future()
            self._pending = opcode, reply
            self._socket.send(struct.pack("<HHH", opcode, self.index, len(parameters)) + parameters)
            async with asyncio.timeout(COMMAND_SECONDS):  # wait_for() may swallow a cancellation
                status = await reply
        if status:
            raise MgmtError(f"management command {opcode:#06x}: status {status:#04x}")

    async def power_on(self):
        """Tried for 5 s: bluetoothd may be doing the same at this moment."""
        for last in [False] * 24 + [True]:
            try:
                return await self.command(SET_POWERED, b"\x01")
            except MgmtError:
                if last:
                    raise
                await asyncio.sleep(0.2)

    def _readable(self):
        packet = self._socket.recv(2048)
        event, index, _ = struct.unpack_from("<HHH", packet)
        if index != self.index:
            return
        if event in (COMMAND_COMPLETE, COMMAND_STATUS):
            opcode, status = struct.unpack_from("<HB", packet, 6)
            if self._pending and self._pending[0] == opcode and not self._pending[1].done():
                self._pending[1].set_result(status)
        elif event in (DEVICE_CONNECTED, DEVICE_DISCONNECTED) and self.on_link:
            self.on_link(event == DEVICE_CONNECTED)


class Advertiser:
    """Connectable legacy advertising of raw data: what `payloads()` returns now, in rotation.

    Nothing is advertised while it returns nothing. `sent` counts the enablings.
    """

    def __init__(self, mgmt, payloads, interval=0.3):
        self.sent = 0
        self._mgmt = mgmt
        self._payloads = payloads
        self._interval = interval
        self._task = None

    async def start(self):
        await self._mgmt.power_on()
        self._task = asyncio.create_task(self._run())

    async def stop(self):
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self.silence()

    async def silence(self):
        try:
            await self._mgmt.command(REMOVE_ADVERTISING, bytes([INSTANCE]))
        except MgmtError:
            pass  # there was none

    async def _run(self):
        silent = True
        for turn in itertools.count():
            payloads = self._payloads()
            if payloads:
                silent = not await self._advertise(payloads[turn % len(payloads)])
            elif not silent:
                await self.silence()
                silent = True
            await asyncio.sleep(self._interval)

    async def _advertise(self, payload):
        # No flag but "connectable": the kernel then adds no AD structure of its own.
        parameters = struct.pack("<BIHHBB", INSTANCE, CONNECTABLE, 0, 0, len(payload), 0)
        try:
            await self._mgmt.command(ADD_ADVERTISING, parameters + payload)
            self.sent += 1
            return True
        except MgmtError:
            await self._mgmt.power_on()  # somebody turned it off
            return False


class GattDevice:
    """A virtual device on `adapter`: advertises, and serves channel 0 through bluetoothd on `bus`.

    `device` is a device.VirtualDevice, or anything with its service_data, opened(), received() and
    closed(). `bus` is a connected dbus_fast.aio.MessageBus with negotiate_unix_fd. Where bluetoothd
    is restarted, the service is registered again.

    Frames to the hotspot go through AcquireNotify, which tells the MTU. Frames from it come by
    WriteValue: with AcquireWrite, bluetoothd 5.66 garbles what is written before it has the file
    descriptor, for which it asks at the first write. bluetoothd needs [GATT] Channels=1: with more,
    two bluetoothds spread the frames over several bearers, and their order is lost. Where frames
    come faster than `pace`, the hotspot's bluetoothd drops those its client's socket has no room
    for.
    """

    def __init__(self, device, bus, adapter="hci1", interval=0.3, pace=PACE):
        self.device = device
        self.linked = False  # a hotspot holds the link
        self.max_frame = 0  # of the open channel, else 0
        self._bus = bus
        self._adapter = adapter
        self._pace = pace
        self._mgmt = Mgmt(adapter, self._on_link)
        self._advertiser = Advertiser(self._mgmt, self._payloads, interval)
        self._socket = None  # our end of AcquireNotify
        self._outgoing = asyncio.Queue()
        self._tasks = {}  # by name

    async def start(self):
        self._bus.add_message_handler(self._on_message)
        await self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                         "AddMatch", "s", ["sender='org.freedesktop.DBus',arg0='org.bluez',"
                                           "member='NameOwnerChanged'"])
        await self._register()
        await self._advertiser.start()

    async def stop(self):
        await self._advertiser.stop()
        self._bus.remove_message_handler(self._on_message)
        self._close()
        for task in self._tasks.values():
            task.cancel()
        self._mgmt.close()
        await self._bluez("UnregisterApplication", "o", [APP])

    @property
    def adverts(self):
        return self._advertiser.sent

    def _payloads(self):
        return [] if self.linked else [AD_PREFIX + self.device.service_data]

    def _on_link(self, connected):
        self.linked = connected
        if not connected:
            self._close()

    # The channel: opened by a subscription, closed by its end or the link's.

    def _open(self, sock, mtu):
        self._close()
        self._socket = sock
        self.max_frame = min(mtu - NOTIFICATION_HEAD, MAX_VALUE)
        self._outgoing = asyncio.Queue()
        self._send(self.device.opened(self.max_frame))
        self._start_task("notify", self._notify(sock))
        self._start_task("hangup", self._wait_hangup(sock))

    def _close(self):
        if not self._socket:
            return
        for name in ("notify", "hangup"):
            self._tasks.pop(name).cancel()
        self._socket.close()
        self._socket = None
        self.max_frame = 0
        self.device.closed()

    def _send(self, frames):
        for frame in frames:
            self._outgoing.put_nowait(frame)

    async def _notify(self, sock):
        while True:
            await asyncio.get_running_loop().sock_sendall(sock, await self._outgoing.get())
            await asyncio.sleep(self._pace)

    async def _wait_hangup(self, sock):
        await asyncio.get_running_loop().sock_recv(sock, 1)
        self._close()

    def _start_task(self, name, coroutine):
        if old := self._tasks.get(name):
            old.cancel()
        self._tasks[name] = asyncio.create_task(coroutine)

    # bluetoothd's calls.

    def _on_message(self, message):
        if message.member == "NameOwnerChanged" and message.body[0] == "org.bluez":
            self._close()
            if message.body[2]:
                self._start_task("register", self._register())
            return None
        if message.message_type is not MessageType.METHOD_CALL or not message.path.startswith(APP):
            return None
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [OBJECTS])
        if message.member == "AcquireNotify":
            self._start_task("reply", self._on_acquire_notify(message))
            return True
        if message.member == "WriteValue":
            if self._socket:
                self._send(self.device.received(bytes(message.body[0])))
            if message.flags & MessageFlag.NO_REPLY_EXPECTED:
                return True
            return Message.new_method_return(message)
        return Message.new_error(message, "org.bluez.Error.NotSupported", message.member)

    async def _on_acquire_notify(self, message):
        mtu = message.body[0]["mtu"].value
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            self._open(ours, mtu)
            await self._bus.send(Message.new_method_return(message, "hq", [0, mtu],
                                                           [theirs.fileno()]))

    async def _register(self):
        """Tried for 10 s: bluetoothd may only just have started."""
        for _ in range(50):
            reply = await self._bluez("RegisterApplication", "oa{sv}", [APP, {}])
            if reply.message_type is MessageType.METHOD_RETURN:
                return
            await asyncio.sleep(0.2)
        raise RuntimeError(f"bluetoothd takes no GATT application: {reply.error_name}")

    async def _bluez(self, member, signature, body):
        return await self._call("org.bluez", f"/org/bluez/{self._adapter}",
                                "org.bluez.GattManager1", member, signature, body)

    async def _call(self, destination, path, interface, member, signature, body):
        return await self._bus.call(Message(destination=destination, path=path, interface=interface,
                                            member=member, signature=signature, body=body))


async def advertise(adapter, payloads, interval):
    """Advertises the payloads in rotation until cancelled."""
    mgmt = Mgmt(adapter)
    advertiser = Advertiser(mgmt, lambda: payloads, interval)
    try:
        await advertiser.start()
        await asyncio.Event().wait()
    finally:
        await advertiser.stop()
        mgmt.close()


def main():
    parser = argparse.ArgumentParser(description="Advertise raw data in rotation.")
    parser.add_argument("--adapter", default="hci1")
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between adverts")
    parser.add_argument("payloads", nargs="+", type=bytes.fromhex, metavar="HEX")
    arguments = parser.parse_args()
    try:
        asyncio.run(advertise(arguments.adapter, arguments.payloads, arguments.interval))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
