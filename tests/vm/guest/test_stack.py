# SPDX-License-Identifier: Apache-2.0
"""The harness itself: real kernel, real bluetoothd, no agent."""

import array
import asyncio
import fcntl
import socket
import termios
import time

import pytest
from advertiser import AD_PREFIX
from central import (
    DESCRIPTOR, DEVICE1, Channel, ccc_of, channel_0, discovery, resolve)
from dbus_fast import Message, MessageFlag, MessageType, Variant
from frames import FrameDevice, frames_of_all_sizes
from gatt_device import SERVICE
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
MONITOR = "/monitors/blecon"


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


def unread(sock: socket.socket) -> int:
    """Bytes, with the kernel's own around them, that the other end of a Unix socket has not read.
    """
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


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


async def test_frames_of_all_sizes_pass_both_ways_in_order(stack, radio_device, record_property):
    device = FrameDevice([b"hello"], echo=True)
    frames = frames_of_all_sizes(300)
    async with Bluez() as bluez, radio_device(device), channel_0(bluez) as (_, channel):
        assert await channel.receive() == b"hello"
        assert channel.mtu == 255
        assert device.max_frame == 250
        begin = time.monotonic()
        for frame in frames:
            await channel.send(frame)
        assert [await channel.receive() for _ in frames] == frames
        record_property("seconds", round(time.monotonic() - begin, 3))
    assert device.received_on == [frames]


async def test_two_channels_do_not_mix(stack, radio_device):
    device = FrameDevice([b"zero"], [b"one"], echo=True)
    frames = [frames_of_all_sizes(100), frames_of_all_sizes(100)]
    async with Bluez() as bluez, radio_device(device), channel_0(bluez) as (path, channel):
        async with Channel(bluez, await resolve(bluez, path, channel=1)) as other:
            assert await channel.receive() == b"zero"
            assert await other.receive() == b"one"
            for pair in zip(*frames):
                await channel.send(pair[0])
                await other.send(pair[1])
            assert [await channel.receive() for _ in frames[0]] == frames[0]
            assert [await other.receive() for _ in frames[1]] == frames[1]
    assert device.received_on == frames


@pytest.mark.parametrize("drain", [True, False], ids=["drained", "at once"])
async def test_reading_the_ccc_tells_that_all_writes_are_through(stack, radio_device, drain,
                                                                 record_property):
    """The answer comes over the air, after all that bluetoothd was given before the question."""
    device = FrameDevice([b"hello"])
    frames = frames_of_all_sizes(300)
    # On one connection to the bus what bluetoothd sends to the device and to us is in order.
    async with Bluez() as bluez, radio_device(device, bus=bluez.bus):
        async with channel_0(bluez) as (_, channel):
            assert await channel.receive() == b"hello"
            ccc = await ccc_of(bluez, channel.path)
            with stack.radio_stopped():
                for frame in frames:
                    await channel.send(frame)
                if drain:
                    await until(lambda: unread(channel.writing) == 0)
                reading = asyncio.create_task(
                    bluez.call(ccc, f"{DESCRIPTOR}.ReadValue", "a{sv}", {}))
                await asyncio.sleep(0)  # it is sent before the Ping
                await bluez.call("", "org.freedesktop.DBus.Peer.Ping")
                assert not reading.done()
                assert device.received_on == [[]]
            begin = time.monotonic()
            reply = await reading
            assert device.received_on == [frames]
            assert bytes(reply.body[0]) == b"\x01\x00"  # notifications are on
            record_property("seconds", round(time.monotonic() - begin, 3))


async def test_the_device_is_silent_while_connected(stack, radio_device):
    device = FrameDevice([b"hello"])
    async with Bluez() as bluez, radio_device(device, interval=0.1) as peripheral:
        async with channel_0(bluez) as (path, channel):
            assert await channel.receive() == b"hello"
            adverts = peripheral.adverts
            await asyncio.sleep(1)
            assert peripheral.linked
            assert peripheral.adverts == adverts
            assert device.closings == 0
            await bluez.call(path, f"{DEVICE1}.Disconnect")
            assert await channel.receive() == b""
        await until(lambda: peripheral.adverts > adverts)
        assert not peripheral.linked
        await until(lambda: device.closings == 1)


async def test_the_device_comes_back_after_a_crash_of_bluetoothd(stack, radio_device):
    device = FrameDevice([b"hello"])
    async with radio_device(device) as peripheral:
        async with Bluez() as bluez, channel_0(bluez) as (_, channel):
            assert await channel.receive() == b"hello"
            stack.kill_bluetoothd()
            assert await channel.receive() == b""
        await stack.start_bluetoothd()
        # It adopts the link the kernel still has, Connected=true, without GATT: wait for its end.
        await until(lambda: not peripheral.linked)
        assert device.closings == 1
        async with Bluez() as bluez, channel_0(bluez) as (_, channel):
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
