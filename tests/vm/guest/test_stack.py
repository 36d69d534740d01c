# SPDX-License-Identifier: Apache-2.0
"""The harness itself: real kernel, real bluetoothd, no agent."""

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager

import pytest
from dbus_fast import Message, MessageFlag, MessageType, Variant
from gatt_device import AD_PREFIX, CHANNEL_0, SERVICE
from stack import HOTSPOT, Bluez, BluezError, until

DATA = [  # the real samples' service data
    bytes.fromhex("3a04f2ea6ed6c0794602980dfce59cf19da20300"),  # idle
    bytes.fromhex("3b04f2ea6ed6c0794602980dfce59cf19da20300"),  # asks for a connection
    bytes.fromhex("3f04f2ea6ed6c0794602980dfce59cf19da20300"),  # asks, and announces
    bytes.fromhex("070062f54cf669df453eac7a4c5841fd8bf50100"),  # an IN100 beacon
]
FLAGS, UUIDS, SERVICE_DATA = (bytes.fromhex(ad) for ad in ("020106", "03030dfd", "17160dfd"))
ADVERTS = [AD_PREFIX + data for data in DATA] + [
    UUIDS + SERVICE_DATA + DATA[0] + FLAGS,
    SERVICE_DATA + DATA[1] + FLAGS + UUIDS,
    UUIDS + SERVICE_DATA + DATA[2],
]
DEVICE1, CHARACTERISTIC = "org.bluez.Device1", "org.bluez.GattCharacteristic1"
MONITOR = "/monitors/blecon"


class Echo:
    """Stands in for a VirtualDevice: says hello, then returns every frame."""

    def __init__(self):
        self.service_data = DATA[1]
        self.max_frame = 0
        self.frames = []
        self.closings = 0

    def opened(self, max_frame):
        self.max_frame = max_frame
        return [b"hello"]

    def received(self, frame):
        self.frames.append(frame)
        return [frame]

    def closed(self):
        self.closings += 1


def told(message):
    """The FD0D service data of hci0's devices that a signal tells, or None."""
    if message.member == "InterfacesAdded":
        path, properties = message.body[0], message.body[1].get(DEVICE1, {})
    elif message.member == "PropertiesChanged" and message.body[0] == DEVICE1:
        path, properties = message.path, message.body[1]
    else:
        return None
    if "ServiceData" not in properties or HOTSPOT not in path:
        return None
    return bytes(properties["ServiceData"].value[SERVICE].value)


async def hear(bluez, expected):
    """Waits until bluetoothd has told all of the service data: {data: time.monotonic()}."""
    def times():
        return {told(message): when for when, message in reversed(bluez.signals) if told(message)}
    await until(lambda: set(expected) <= times().keys())
    return times()


@asynccontextmanager
async def discovery(bluez):
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.SetDiscoveryFilter", "a{sv}", {
        "Transport": Variant("s", "le"), "UUIDs": Variant("as", [SERVICE]),
        "RSSI": Variant("n", -127)})
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.StartDiscovery")
    yield
    await bluez.call(HOTSPOT, "org.bluez.Adapter1.StopDiscovery")


class Channel:
    """Channel 0 as a hotspot has it: `async with Channel(bluez)` finds, connects, subscribes."""

    def __init__(self, bluez):
        self.bluez = bluez
        self.path = None
        self.mtu = 0

    async def __aenter__(self):
        async with discovery(self.bluez):
            await until(lambda: self.bluez.devices(HOTSPOT))
            self.path = next(iter(await self.bluez.devices(HOTSPOT)))
            await self.bluez.call(self.path, f"{DEVICE1}.Connect")
        await self.bluez.wait_property(self.path, DEVICE1, "ServicesResolved", True)
        path = next(path for path, interfaces in (await self.bluez.objects()).items()
                    if path.startswith(self.path)
                    and interfaces.get(CHARACTERISTIC, {}).get("UUID") == CHANNEL_0)
        self._write, self.mtu = await self._acquire(path, "AcquireWrite")
        self._notify, mtu = await self._acquire(path, "AcquireNotify")
        assert mtu == self.mtu
        return self

    async def __aexit__(self, *_):
        self._write.close()
        self._notify.close()

    async def _acquire(self, path, method):
        reply = await self.bluez.call(path, f"{CHARACTERISTIC}.{method}", "a{sv}", {})
        acquired = socket.socket(fileno=reply.unix_fds[reply.body[0]])
        acquired.setblocking(False)
        return acquired, reply.body[1]

    async def send(self, frame):
        await asyncio.get_running_loop().sock_sendall(self._write, frame)

    async def receive(self):
        """The next frame, or b"" when the link is gone."""
        return await asyncio.get_running_loop().sock_recv(self._notify, 512)


@pytest.mark.parametrize("advert", ADVERTS, ids=bytes.hex)
async def test_bluez_tells_the_service_data_of_an_advert(stack, advertising, advert,
                                                         record_property):
    start = advert.index(SERVICE_DATA) + len(SERVICE_DATA)
    async with Bluez() as bluez, advertising(advert):
        begin = time.monotonic()
        async with discovery(bluez):
            times = await hear(bluez, [advert[start:start + 20]])
    record_property("seconds", round(min(times.values()) - begin, 3))


async def test_bluez_tells_every_change(stack, advertising):
    async with Bluez() as bluez, advertising(*ADVERTS[:4]):
        async with discovery(bluez):
            await hear(bluez, DATA)


async def test_200_frames_pass_both_ways_in_order(stack, gatt_device, record_property):
    device = Echo()
    frames = [os.urandom(1 + 241 * i // 199) for i in range(200)]
    async with Bluez() as bluez, gatt_device(device):
        async with Channel(bluez) as channel:
            assert await channel.receive() == b"hello"
            assert channel.mtu == 247
            assert device.max_frame == 242
            begin = time.monotonic()
            for frame in frames:
                await channel.send(frame)
            assert [await channel.receive() for _ in frames] == frames
            record_property("seconds", round(time.monotonic() - begin, 3))
    assert device.frames == frames


async def test_the_device_is_silent_while_connected(stack, gatt_device):
    device = Echo()
    async with Bluez() as bluez, gatt_device(device, interval=0.1) as peripheral:
        async with Channel(bluez) as channel:
            assert await channel.receive() == b"hello"
            adverts = peripheral.adverts
            await asyncio.sleep(1)
            assert peripheral.linked
            assert peripheral.adverts == adverts
            assert device.closings == 0
            await bluez.call(channel.path, f"{DEVICE1}.Disconnect")
            assert await channel.receive() == b""
        await until(lambda: peripheral.adverts > adverts)
        assert not peripheral.linked
        assert device.closings == 1


async def test_the_device_comes_back_after_a_crash_of_bluetoothd(stack, gatt_device):
    device = Echo()
    async with gatt_device(device) as peripheral:
        async with Bluez() as bluez, Channel(bluez) as channel:
            assert await channel.receive() == b"hello"
            stack.kill_bluetoothd()
            assert await channel.receive() == b""
        await stack.start_bluetoothd()
        # It adopts the link the kernel still has, Connected=true, without GATT: wait for its end.
        await until(lambda: not peripheral.linked)
        assert device.closings == 1
        async with Bluez() as bluez, Channel(bluez) as channel:
            assert await channel.receive() == b"hello"


async def test_a_monitor_hears_adverts_with_experimental(stack, advertising):
    calls = []

    def answer(message):
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [{MONITOR: {
                "org.bluez.AdvertisementMonitor1": {
                    "Type": Variant("s", "or_patterns"),
                    "Patterns": Variant("a(yyay)", [[0, 0x16, b"\x0d\xfd"]]),
                }}}])
        calls.append(message.member)
        if message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return True
        return Message.new_method_return(message)

    async with Bluez() as bluez, advertising(ADVERTS[0]):
        bluez.bus.add_message_handler(answer)
        await bluez.call(HOTSPOT, "org.bluez.AdvertisementMonitorManager1.RegisterMonitor", "o",
                         "/monitors")
        await until(lambda: "DeviceFound" in calls)
        assert calls[0] == "Activate"


async def test_there_is_no_monitor_without_experimental(stack):
    await stack.restart_bluetoothd(experimental=False)
    async with Bluez() as bluez:
        with pytest.raises(BluezError, match="AdvertisementMonitorManager1"):
            await bluez.call(HOTSPOT, "org.bluez.AdvertisementMonitorManager1.RegisterMonitor",
                             "o", "/monitors")
