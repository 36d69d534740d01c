# SPDX-License-Identifier: Apache-2.0
"""Proves GATT in the simulated BlueZ: frames, back-pressure, the barrier of a read."""
from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e
from bluez_lab import BLUEZ_FAILED, HCI0, Lab, eventually, recv, run
from bluez_sim import ADAPTER, CHANNELS, CHARACTERISTIC, DESCRIPTOR, DEVICE
from device import VirtualDevice


def test_frames_both_ways(bus: str) -> None:
    async def test(lab: Lab) -> None:
        notify, write = await lab.session()
        added = [m.body[1][CHARACTERISTIC]["UUID"].value for m in lab.client.signals
                 if m.member == "InterfacesAdded" and CHARACTERISTIC in m.body[1]]
        assert set(CHANNELS) < set(added)
        assert [await recv(notify), await recv(notify)] == [b"hello", b"world"]
        write.send(b"a" * 244)
        assert await recv(notify) == b"echo " + b"a" * 244
        write.send(b"b" * 245)      # does not fit the MTU
        write.send(b"c")
        assert await recv(notify) == b"echo c"
        assert [f.direction for f in lab.sim.frames[lab.device.device_id]] == [
            "from_device", "from_device", "to_device", "from_device", "lost", "to_device",
            "from_device"]
        assert await lab.sim.advertise(lab.device) == 0     # connected
        error, _ = await lab.client.fails(lab.char, CHARACTERISTIC, "AcquireWrite", "a{sv}", {})
        assert error == "org.bluez.Error.NotPermitted"
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        assert await recv(notify) == b"" and await recv(write) == b""
        assert lab.client.changes(lab.path, "Connected") == [True, False]
        assert lab.device.sessions == ["opened 244", "closed"]
        assert await lab.sim.advertise(lab.device) == 1
        await lab.client.call(lab.path, DEVICE, "Connect")  # the services are cached
        await eventually(lambda: lab.client.changes(lab.path, "ServicesResolved")[-1])
        notify = await lab.client.acquire(lab.char, "AcquireNotify")
        assert await recv(notify) == b"hello"
        notify.close()              # unsubscribes, the link stays
        await eventually(lambda: lab.device.sessions[2:] == ["opened 244", "closed"])
        assert await lab.client.get(lab.path, DEVICE, "Connected")
        again = await lab.client.acquire(lab.char, "AcquireNotify")
        assert await recv(again) == b"hello"
        await lab.client.call(HCI0, ADAPTER, "RemoveDevice", "o", lab.path)
        assert lab.path not in str(await lab.client.objects())
        assert await recv(again) == b"world" and await recv(again) == b""
        assert await lab.sim.advertise(lab.device) == 1
        assert lab.path in await lab.client.objects()
    run(bus, test)


def test_full_socket_waits_or_drops(bus: str) -> None:
    async def test(lab: Lab) -> None:
        lab.device.greetings = [bytes([n % 256]) * 244 for n in range(2000)]
        notify, _ = await lab.session()
        assert lab.sim.waiting(lab.device) > 0
        assert [await recv(notify) for _ in range(2000)] == lab.device.greetings
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        lab.peer.drops_notifications = True
        await lab.client.call(lab.path, DEVICE, "Connect")
        notify = await lab.client.acquire(lab.char, "AcquireNotify")
        lost = [f for f in lab.sim.frames[lab.device.device_id] if f.direction == "lost"]
        assert 0 < len(lost) < 2000
    run(bus, test)


def test_two_channels(bus: str) -> None:
    async def test(lab: Lab) -> None:
        client, device = lab.client, lab.device
        await lab.connected()
        notify = [await client.acquire(char, "AcquireNotify")
                  for char in (lab.char, lab.second_char)]
        write = [await client.acquire(char, "AcquireWrite")
                 for char in (lab.char, lab.second_char)]
        assert device.sessions == ["opened 244", "opened 244 on 1"]
        write[1].send(b"second")
        write[0].send(b"main")
        for number, text in enumerate((b"main", b"second")):
            assert [await recv(notify[number]) for _ in range(3)] == [
                b"hello", b"world", b"echo " + text]
        lab.sim.send(device, b"by itself", channel=1)
        assert await recv(notify[1]) == b"by itself"
        assert {(f.channel, f.data) for f in lab.sim.frames[device.device_id]
                if f.direction == "to_device"} == {(0, b"main"), (1, b"second")}
        notify[0].close()
        with pytest.raises(ValueError):
            while True:
                lab.sim.send(device)
                await asyncio.sleep(0)
        assert "closed" not in device.sessions      # channel 1 is open
        notify[1].close()
        await eventually(lambda: device.sessions[2:] == ["closed"])
        [record] = lab.sim.sessions(device)
        assert record.channels == {0: "gatt", 1: "gatt"} and record.end == ""
    run(bus, test)


def test_device_without_channel_1(bus: str) -> None:
    async def test(lab: Lab) -> None:
        lab.device.channels = 1
        await lab.connected()
        objects = await lab.client.objects()
        assert lab.char in objects and lab.second_char not in objects
    run(bus, test)


def test_session_is_of_channel_0() -> None:
    """What VirtualDevice says is on channel 0, also after channel 1 was opened."""
    device = VirtualDevice(e2e.public_bytes(X25519PrivateKey.generate()))
    device.ask(b"please")
    assert device.opened(244, channel=1) == [] and device.asks and device.sessions == 0
    assert device.opened(244) and not device.asks and device.sessions == 1
    assert device.received(b"not of the handshake", channel=1) == []
    assert device.failed is None
    assert device.opened_channels == [("gatt", 1), ("gatt", 0)]


def test_a_read_waits_for_the_writes(bus: str) -> None:
    """bluetoothd takes all writes at once; a read is answered when the device has them."""
    async def test(lab: Lab) -> None:
        notify, write = await lab.session()
        assert await lab.read_ccc() == b"\x01\x00"
        lab.sim.stall(lab.device)
        frames = [n.to_bytes(2, "big") * 100 for n in range(2000)]
        for frame in frames:
            await asyncio.get_running_loop().sock_sendall(write, frame)
        await eventually(lambda: lab.peer.link and len(lab.peer.link.att.writes) == len(frames))
        reading = asyncio.create_task(lab.read_ccc())
        await eventually(lambda: len(lab.sim.called("ReadValue")) == 2)
        error, _ = await lab.client.fails(f"{lab.char}/desc0013", DESCRIPTOR, "ReadValue",
                                          "a{sv}", {})
        assert error == "org.bluez.Error.InProgress"
        assert not reading.done() and lab.arrived() == []
        lab.sim.stall(lab.device, False)
        assert lab.arrived() == frames
        assert await reading == b"\x01\x00" and await recv(notify) == b"hello"
        second = f"{lab.second_char}/desc0017"      # not subscribed
        assert await lab.client.call(second, DESCRIPTOR, "ReadValue", "a{sv}", {}) == [b"\0\0"]
    run(bus, test)


def test_slow_radio(bus: str) -> None:
    async def test(lab: Lab) -> None:
        _, write = await lab.session()
        lab.peer.frames_per_s = 200
        start = asyncio.get_running_loop().time()
        for n in range(40):
            write.send(bytes([n]))
        await lab.read_ccc()
        assert lab.arrived() == [bytes([n]) for n in range(40)]
        assert asyncio.get_running_loop().time() - start > 0.15
    run(bus, test)


def test_unanswered_request_ends_the_link(bus: str) -> None:
    async def test(lab: Lab) -> None:
        notify, write = await lab.session()
        lab.sim.stall(lab.device)
        write.send(b"lost")
        assert await lab.client.fails(f"{lab.char}/desc0013", DESCRIPTOR, "ReadValue", "a{sv}",
                                      {}) == (BLUEZ_FAILED, "Not connected")
        assert [await recv(notify) for _ in range(3)] == [b"hello", b"world", b""]
        await eventually(lambda: lab.client.changes(lab.path, "Connected") == [True, False])
        assert [c.end for c in lab.sim.connections] == ["att-timeout"]
        assert lab.arrived() == []
        error, _ = await lab.client.fails(f"{lab.char}/desc0013", DESCRIPTOR, "ReadValue",
                                          "a{sv}", {})
        assert error == BLUEZ_FAILED
    run(bus, test, att_timeout_s=0.3)


def test_stalled_radio_does_not_subscribe(bus: str) -> None:
    async def test(lab: Lab) -> None:
        await lab.connected()
        lab.sim.stall(lab.device)
        acquiring = asyncio.create_task(lab.client.acquire(lab.char, "AcquireNotify"))
        await eventually(lambda: bool(lab.sim.called("AcquireNotify")))
        await lab.client.objects()      # an answer that comes after its own would
        assert not acquiring.done() and lab.device.sessions == []
        lab.sim.stall(lab.device, False)
        assert await recv(await acquiring) == b"hello"
    run(bus, test)
