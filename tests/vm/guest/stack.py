# SPDX-License-Identifier: Apache-2.0
"""The real Bluetooth stack in the guest: dbus-daemon, btvirt's two LE controllers, bluetoothd.

hci0 is the hotspot's, hci1 a device's. Everything a program prints goes to a file in OUT. With
TRACE=1 in the environment bluetoothd writes its debug log, and btmon all HCI traffic, too.
"""

import asyncio
import inspect
import os
import signal
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dbus_fast import BusType, Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus

HOTSPOT, DEVICE = "hci0", "hci1"
BLUETOOTHD = "/usr/libexec/bluetooth/bluetoothd"
BTVIRT_RSSI = f"{Path(__file__).resolve().parents[3]}/build/vm/btvirt_rssi.so"
CONFIG = str(Path(__file__).with_name("bluetoothd.conf"))
POLICY = Path("/etc/dbus-1/system.d/zz-test.conf")
POLICY_TYPE = ('<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" '
               '"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">')
CALL_SECONDS = 30
TRACE = os.environ.get("TRACE") == "1"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"


class BluezError(Exception):
    """An error reply. `name` is the D-Bus error's."""

    def __init__(self, reply):
        super().__init__(f"{reply.error_name}: {reply.body[0] if reply.body else ''}")
        self.name = reply.error_name


async def system_bus():
    return await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()


async def until(condition, seconds=20):
    """Waits for condition(), which may be a coroutine function, to become true."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if inspect.isawaitable(result) else result:
                return
            await asyncio.sleep(0.05)


class Bluez:
    """A client of org.bluez, as short as tests need. Paths are relative to /org/bluez.

        async with Bluez() as bluez:
            await bluez.call("hci0", "org.bluez.Adapter1.StartDiscovery")
    """

    def __init__(self):
        self.bus = None
        self.signals = []  # of org.bluez, as they came: (time.monotonic(), Message)

    async def __aenter__(self):
        self.bus = await system_bus()
        self.bus.add_message_handler(self._on_message)
        await self.send("org.freedesktop.DBus", "/org/freedesktop/DBus",
                        "org.freedesktop.DBus.AddMatch", "s",
                        "type='signal',sender='org.bluez'")
        return self

    async def __aexit__(self, *_):
        self.bus.disconnect()

    def _on_message(self, message):
        if message.message_type is MessageType.SIGNAL:
            self.signals.append((time.monotonic(), message))

    async def send(self, destination, path, method, signature="", *body):
        interface, _, member = method.rpartition(".")
        message = Message(destination=destination, path=path, interface=interface, member=member,
                          signature=signature, body=list(body), flags=MessageFlag.NO_AUTOSTART)
        async with asyncio.timeout(CALL_SECONDS):
            reply = await self.bus.call(message)
        if reply.message_type is MessageType.ERROR:
            raise BluezError(reply)
        return reply

    async def call(self, path, method, signature="", *body):
        return await self.send("org.bluez", f"/org/bluez/{path}".rstrip("/"), method, signature,
                               *body)

    async def objects(self):
        """{path: {interface: {property: value}}}"""
        reply = await self.send("org.bluez", "/", f"{OBJECT_MANAGER}.GetManagedObjects")
        return {path.removeprefix("/org/bluez/"): {
                    name: {key: variant.value for key, variant in properties.items()}
                    for name, properties in interfaces.items()}
                for path, interfaces in reply.body[0].items()}

    async def devices(self, adapter):
        """{path: properties} of the adapter's devices."""
        return {path: interfaces["org.bluez.Device1"]
                for path, interfaces in (await self.objects()).items()
                if path.startswith(f"{adapter}/") and "org.bluez.Device1" in interfaces}

    async def wait_property(self, path, interface, name, value, seconds=20):
        async def equal():
            reply = await self.call(path, f"{PROPERTIES}.Get", "ss", interface, name)
            return reply.body[0].value == value
        await until(equal, seconds)


class Stack:
    """The daemons. start() and stop() once per session; bluetoothd can be ended and restarted."""

    def __init__(self, out):
        self.out = Path(out)
        self.bluetoothd = None
        self._radio = None
        self._daemons = []

    async def start(self):
        Path("/run/dbus").mkdir(exist_ok=True)
        subprocess.run(["dbus-uuidgen", "--ensure"], check=True)
        self._daemons.append(self._spawn(["dbus-daemon", "--system", "--nofork", "--nopidfile"]))
        await until(Path("/run/dbus/system_bus_socket").exists)
        if TRACE:
            self._daemons.append(self._spawn(["btmon", "-w", str(self.out / "hci.btsnoop")]))
        self._start_radio("-L", "-l2")
        await until(lambda: len(os.listdir("/sys/class/bluetooth")) == 2)
        await self.start_bluetoothd()

    async def stop(self):
        self.kill_bluetoothd()
        self._stop_radio()
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()

    async def start_bluetoothd(self, experimental=True):
        """Returns when both adapters are powered."""
        options = ["-E"] * experimental + ["-d"] * TRACE
        self.bluetoothd = self._spawn([BLUETOOTHD, "-n", "-f", CONFIG, *options])
        async with Bluez() as bluez:
            await until(lambda: self._powered(bluez))

    def kill_bluetoothd(self):
        """Ends bluetoothd as a crash would."""
        if self.bluetoothd:
            self.bluetoothd.kill()
            self.bluetoothd.wait()
            self.bluetoothd = None

    async def restart_bluetoothd(self, **options):
        self.kill_bluetoothd()
        await self.start_bluetoothd(**options)

    def _start_radio(self, *options):
        self._radio = self._spawn(["btvirt", *options], LD_PRELOAD=BTVIRT_RSSI)

    def _stop_radio(self):
        if self._radio:
            self._radio.kill()
            self._radio.wait()
            self._radio = None

    @asynccontextmanager
    async def other_radio(self, *options):
        """In place of the two controllers those that btvirt makes of these options, or none."""
        self._stop_radio()
        try:
            if options:
                self._start_radio(*options)
            yield
        finally:
            self._stop_radio()
            self._start_radio("-L", "-l2")
            async with Bluez() as bluez:
                await until(lambda: self._powered(bluez))

    @asynccontextmanager
    async def policy(self, text):
        """dbus-daemon's policy has this as well, until it ends."""
        POLICY.write_text(f"{POLICY_TYPE}<busconfig>{text}</busconfig>")
        try:
            await self._reload_policy()
            yield
        finally:
            POLICY.unlink()
            await self._reload_policy()

    @staticmethod
    async def _reload_policy():
        async with Bluez() as bluez:
            await bluez.send("org.freedesktop.DBus", "/org/freedesktop/DBus",
                             "org.freedesktop.DBus.ReloadConfig")

    @contextmanager
    def radio_stopped(self):
        """Nothing passes between the controllers. For less than the kernel's 2 s for a command."""
        self._radio.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._radio.send_signal(signal.SIGCONT)

    async def clean(self):
        """No connection and no device is left on either adapter; bluetoothd runs, with -E."""
        if not self.bluetoothd or self.bluetoothd.poll() is not None:
            await self.start_bluetoothd()
        elif "-E" not in self.bluetoothd.args:
            await self.restart_bluetoothd()
        async with Bluez() as bluez:
            for adapter in (HOTSPOT, DEVICE):
                for path in await bluez.devices(adapter):
                    try:
                        await bluez.call(adapter, "org.bluez.Adapter1.RemoveDevice", "o",
                                         f"/org/bluez/{path}")
                    except BluezError as error:
                        if error.name != "org.bluez.Error.DoesNotExist":
                            raise

    def _spawn(self, command, **environment):
        with open(self.out / f"{Path(command[0]).name}.log", "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=os.environ | environment)

    @staticmethod
    async def _powered(bluez):
        try:
            objects = await bluez.objects()
            return all(objects[name]["org.bluez.Adapter1"]["Powered"] for name in (HOTSPOT, DEVICE))
        except (BluezError, KeyError):
            return False  # not on the bus, or not there yet
