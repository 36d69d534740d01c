# SPDX-License-Identifier: Apache-2.0
"""Sessions of the lab's cloud: devices served, credits, channels."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e
import tls
from cloud import Cloud
from device import VirtualDevice
from hotspot_client import Client, with_client

MIB = 1 << 20


async def relay(client: Client, device: VirtualDevice, session: int, max_frame: int = 244
                ) -> tuple[int, int, int]:
    """Carry a device's session to its CLOSE, whose code, and the DATA each way, are returned."""
    await client.send(20, session, device.device_id.bytes, device.service_data, 0, max_frame, -60,
                      1)
    waiting, credits, n_up, n_down = device.opened(max_frame), client.cloud.credits, 0, 0
    granted, consumed, arrived = client.cloud.credits, 0, 0
    while True:
        while waiting and credits:
            await client.data(session, waiting.pop(0))
            credits, n_up = credits - 1, n_up + 1
        kind, number, *fields = await client.receive()
        assert number == session
        if kind == 22:
            channel, seq, payload = fields
            assert (channel, seq) == (0, n_down) and len(payload) <= max_frame
            n_down += 1
            assert n_down <= granted
            waiting += device.received(payload)
            consumed += 1
            if n_down == granted:       # as late as can be
                await client.send(23, session, consumed, n_down)
                granted, consumed = granted + consumed, 0
        elif kind == 23:
            assert arrived < fields[1] <= n_up and fields[0] > 0
            arrived = fields[1]
            credits += fields[0]
        elif kind == 24:
            device.closed()
            return fields[0], n_up, n_down
        else:
            assert kind == 21


@pytest.mark.parametrize("credits", [1, 3, 16])
@pytest.mark.parametrize("max_frame", [20, 244])
def test_sessions(ca: tls.Ca, credits: int, max_frame: int) -> None:
    """Requests are answered to the byte, whatever the credits and frames."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        device = VirtualDevice(cloud.device_public_key)
        requests = [b"", b"x", os.urandom(2000)]
        for request in requests:
            device.ask(request)
        code, n_up, n_down = await relay(client, device, 5, max_frame)
        assert code == 0 and device.finished
        assert device.answers == [request[::-1] for request in requests]
        assert [e["data"] for e in cloud.find("request")] == requests
        assert cloud.find("answer", device_id=device.device_id, session=5)
        closed = cloud.find("close", code=0, by="cloud")[0]
        assert (closed["frames_in"], closed["frames_out"]) == (n_up, n_down)
        assert cloud.known_key(device.device_id) == e2e.public_bytes(device.identity.key)
    with_client(ca, test, settings={"credits": credits})


def test_large_transfer_and_many_devices(ca: tls.Ca) -> None:
    """One MiB each way, then fifty devices at once."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        device = VirtualDevice(cloud.device_public_key)
        device.ask(os.urandom(MIB))
        assert (await relay(client, device, 1, 512))[0] == 0
        assert device.answers == [cloud.find("request")[0]["data"][::-1]]
        hotspots = [await Client(cloud, ca).connect() for _ in range(50)]
        devices = [VirtualDevice(cloud.device_public_key) for _ in hotspots]
        for hotspot, other in zip(hotspots, devices):
            await hotspot.hello()
            other.ask(other.device_id.bytes)
        codes = await asyncio.gather(*(relay(h, d, 1) for h, d in zip(hotspots, devices)))
        assert {code for code, _, _ in codes} == {0}
        assert all(d.answers == [d.device_id.bytes[::-1]] for d in devices)
        await asyncio.gather(*(hotspot.close() for hotspot in hotspots))
    with_client(ca, test)


def test_rejected_devices(ca: tls.Ca, tmp_path: Path) -> None:
    """By configuration, for a changed key, for another cloud's, and not what was announced."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        device = VirtualDevice(cloud.device_public_key)
        cloud.refuse_devices = {device.device_id}
        assert (await relay(client, device, 1))[0] == 3
        cloud.refuse_devices, cloud.unserved_devices = set(), {device.device_id}
        assert (await relay(client, device, 2))[0] == 5
        cloud.unserved_devices = set()
        assert (await relay(client, device, 3))[0] == 0
        await cloud.stop()
        await cloud.start()             # the key is remembered
        client = await Client(cloud, ca).connect()
        await client.hello()
        changed = VirtualDevice(cloud.device_public_key, device_id=device.device_id)
        assert (await relay(client, changed, 4))[0] == 3
        assert "another key" in cloud.find("close", session=4)[0]["reason"]
        stranger = VirtualDevice(e2e.public_bytes(X25519PrivateKey.generate()))
        assert (await relay(client, stranger, 5))[0] == 3
        assert stranger.failed and "rejected" in cloud.find("close", session=5)[0]["reason"]
        assert cloud.known_key(stranger.device_id) is None
        await client.open(6)
        for frame in stranger.opened(244):
            await client.data(6, frame)
        closing = await client.receive()
        assert closing[:3] == [24, 6, 3] and "announced" in closing[3]
        assert (await relay(client, device, 7))[0] == 0
        await client.close()
    with_client(ca, test, state=tmp_path)


def test_credits_to_the_letter(ca: tls.Ca) -> None:
    """Neither side sends without; they come when half of them are used up."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        cloud.withhold_credits = True
        await client.open(1, channels=2)
        for n in range(4):
            await client.data(1, bytes([n]))
            assert await client.receive() == [22, 1, 0, n, bytes([n])]
        cloud.release_credits()
        assert await client.receive() == [23, 1, 4, 4]
        for n in range(4):      # the cloud has no credit left: it gives some, and sends nothing
            await client.data(1, b"x", channel=n % 2)
        assert await client.receive_all(2) == [[23, 1, 2, 6], [23, 1, 2, 8]]
        await client.send(23, 1, 1, 4)
        assert await client.receive() == [22, 1, 0, 4, b"x"]
        await client.send(23, 1, 9, 5)
        assert [m[2:4] for m in await client.receive_all(3)] == [[1, 5], [0, 6], [1, 7]]
        cloud.withhold_credits = True
        await client.send(24, 1, 1, "device disconnected")
        event = await cloud.wait_for("close", session=1, by="hotspot", code=1)
        assert event["frames_in"] == event["frames_out"] == 8
    with_client(ca, test, settings={"credits": 4},
                raw_handler=lambda _session, _channel, frame: [frame])


@pytest.mark.parametrize("credits, half", [(1, 1), (2, 1), (3, 1), (5, 2), (64, 32)])
def test_granted_at_half(ca: tls.Ca, credits: int, half: int) -> None:
    """Half of the initial credits, rounded down and at least one: not earlier, not later."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        await client.open(1)
        for n in range(1, 2 * credits + 1):
            await client.data(1, b"x")
            if n % half == 0:
                assert await client.receive() == [23, 1, half, n]
            else:
                await client.nothing_came()
    with_client(ca, test, settings={"credits": credits}, raw_handler=lambda *_: [])


def test_session_errors(ca: tls.Ca) -> None:
    """What breaks the rules ends its session with 8; what concerns no session is ignored."""
    async def test(cloud: Cloud, client: Client) -> None:
        async def broken(*message: Any) -> str:
            await client.send(*message)
            closing = await client.receive()
            assert closing[:3] == [24, message[1], 8], closing
            await cloud.wait_for("close", session=message[1], code=8, by="cloud")
            return closing[3]

        await client.hello()
        await client.open(1, channels=2)
        await client.send(24, 1, 1, "")
        await client.send(22, 1, 0, 0, b"late")         # on its way when it closed
        await client.nothing_came()
        assert not cloud.find("stray")
        await client.send(22, 99, 0, 0, b"")
        await cloud.wait_for("stray", session=99, message=22)
        await client.nothing_came()
        await client.open(2)
        assert "seq 1" in await broken(22, 2, 0, 1, b"")
        for number, channels in ((3, 1), (4, 2)):
            await client.open(number, channels)
            assert f"channel {channels}" in await broken(22, number, channels, 0, b"")
        await client.open(5)
        assert "next_seq" in await broken(23, 5, 1, 1)
        await client.open(6)
        assert "too many" in await broken(23, 6, 2**32 - 1, 0)
        await client.open(7)
        assert "twice" in await broken(20, 7, bytes(16), b"", 0, 20, 0, 1)
        await client.nothing_came()
        assert not cloud.sessions
        await client.open(8)
        assert "513 bytes" in await broken(22, 8, 0, 0, bytes(513))
        cloud.withhold_credits = True
        await client.open(9)
        for n in range(4):
            await client.data(9, b"")
        assert "credit" in await broken(22, 9, 0, 4, b"")
        assert not cloud.sessions and len(cloud.find("close")) == 9
        assert "before" in await broken(20, 9, bytes(16), b"", 0, 20, 0, 1)
    with_client(ca, test, settings={"credits": 4}, raw_handler=lambda *_: [])


def test_late_accept(ca: tls.Ca) -> None:
    """DATA may come before ACCEPT, what answers it does not."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        cloud.accept_delay_s = 0.1
        device = VirtualDevice(cloud.device_public_key)
        await client.send(20, 1, device.device_id.bytes, b"", 0, 244, -60, 1)
        for frame in device.opened(244):
            await client.data(1, frame)
        assert await client.receive() == [21, 1]
        assert (await client.receive())[:2] == [22, 1]
        cloud.send_raw(b"anything")
        assert await client._ws.recv() == b"anything"
    with_client(ca, test)


def test_two_channels_of_a_device(ca: tls.Ca) -> None:
    """The end-to-end session has channel 0, an echo channel 1; one seq counts for both."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        device = VirtualDevice(cloud.device_public_key)
        device.ask(b"request")      # or it would say bye
        await client.open(1, channels=2, device_id=device.device_id, max_frame=120)
        assert cloud.find("open", session=1, channels=2)
        await client.data(1, b"one", channel=1)
        assert await client.receive() == [22, 1, 1, 0, b"one"]
        for frame in device.opened(120):
            await client.data(1, frame)
        kind, _, channel, seq, reply = await client.receive()
        assert (kind, channel, seq) == (22, 0, 1)
        await client.data(1, b"", channel=1)        # is not sent to it
        for frame in device.received(reply):
            await client.data(1, frame)
        await cloud.wait_for("established", device_id=device.device_id)
        await client.data(1, bytes(200), channel=1)
        while (message := await client.receive())[0] != 22 or message[2] != 1:
            pass
        assert message[4] == bytes(120)     # as much as the device takes
        [session] = cloud.sessions
        assert session.received == {0: [], 1: [b"one", b"", bytes(200)]}
    with_client(ca, test)


def test_raw_devices(ca: tls.Ca) -> None:
    """A session that the test alone controls, beside one with an end-to-end session."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        raw, device = uuid.uuid4(), VirtualDevice(cloud.device_public_key)
        cloud.raw_devices = {raw}
        await client.open(1, channels=2, device_id=raw)
        await client.data(1, e2e.ABORT_FRAME)
        await client.data(1, b"up", channel=1)
        await client.data(1, b"again")
        await client.nothing_came()
        [session] = cloud.sessions
        assert session.received == {0: [e2e.ABORT_FRAME, b"again"], 1: [b"up"]}
        assert session.frames == [(0, e2e.ABORT_FRAME), (1, b"up"), (0, b"again")]
        session.send_frames([b"a", b"b"], channel=1)
        session.send_frames([b"c"])
        assert await client.receive_all(3) == [
            [22, 1, 1, 0, b"a"], [22, 1, 1, 1, b"b"], [22, 1, 0, 2, b"c"]]
        device.ask(b"request")
        assert (await relay(client, device, 2))[0] == 0
        assert device.answers == [b"tseuqer"] and cloud.sessions == [session]
    with_client(ca, test)


def test_hold_one_session(ca: tls.Ca) -> None:
    """Held, a session gives no credits, others do; released, it gives those that are due."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        await client.open(1)
        await client.open(2)
        first = next(s for s in cloud.sessions if s.number == 1)
        first.hold()
        for _ in range(3):
            await client.data(1, b"x")
            await client.data(2, b"x")
        assert await client.receive() == [23, 2, 2, 2]
        await client.nothing_came()
        first.hold(False)
        assert await client.receive() == [23, 1, 3, 3]
        first.hold()
        await client.data(1, b"x")
        await client.nothing_came()
        first.hold(False)           # one of four: nothing is due
        await client.nothing_came()
        cloud.withhold_credits = True
        await client.data(1, b"x")
        await client.data(2, b"x")
        first.hold(False)
        await client.nothing_came()
        cloud.release_credits()
        assert sorted(await client.receive_all(2)) == [[23, 1, 2, 5], [23, 2, 2, 4]]
    with_client(ca, test, settings={"credits": 4}, raw_handler=lambda *_: [])
