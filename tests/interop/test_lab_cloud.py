# SPDX-License-Identifier: Apache-2.0
"""The hotspot in Node.js, and the lab's cloud."""

import uuid
from contextlib import asynccontextmanager

import cbor2
import pytest

import tls
from cloud import Cloud
from harness import until
from node import running

FRAMES = [bytes([n & 0xff]) * (1 + n % 244) for n in range(300)]
SERVICE_DATA = bytes.fromhex("3b04") + bytes(16) + b"\x03\x00"
ECHOES = {"raw_handler": lambda session, channel, payload: [payload]}


@asynccontextmanager
async def lab_cloud(directory, **options):
    ca = tls.make_ca(directory)
    cloud = Cloud(*tls.make_server_cert(directory, ca=ca), state=directory / "cloud",
                  **{**ECHOES, **options})
    await cloud.start()
    if cloud.authorities is None:
        cloud.authorities = {f"127.0.0.1:{cloud.port}"}
    try:
        yield cloud, {"url": cloud.url, "ca": ca.cert}
    finally:
        await cloud.stop()


@asynccontextmanager
async def welcomed(directory, hotspot=None, **options):
    """A cloud, and a hotspot that it knows."""
    async with lab_cloud(directory, **options) as (cloud, where), \
            running("hotspot.js", **where, **(hotspot or {})) as node:
        await node.wait_for("welcome")
        yield cloud, node


def sighting(device, count=1, state=0, **changed):
    return {"device_id": device.bytes, "service_data": SERVICE_DATA, "first_age_ms": 1500,
            "last_age_ms": 20, "count": count, "rssi_last": -60, "rssi_min": -70, "rssi_max": -50,
            "state": state, "adapter": 0, **changed}


def open_session(node, bearer=0, channels=1, max_frame=244):
    """Ask for one; the device's id."""
    device = uuid.uuid4()
    node.tell("open", device_id=device.bytes, service_data=SERVICE_DATA, bearer=bearer,
              max_frame=max_frame, rssi=-50, channels=channels)
    return device


def send(node, device, frames, channel=0):
    for frame in frames:
        node.tell("send", device_id=device.bytes, channel=channel, payload=frame)


async def echoed(node, device, frames, channel=0):
    """They come back, in order."""
    await node.wait_for("data", 20, len(frames), device_id=device.hex, channel=channel)
    assert [bytes.fromhex(e["payload"]) for e in
            node.find("data", device_id=device.hex, channel=channel)] == frames


async def test_hello(directory):
    """The cloud takes the signature, and each side knows what the other says of itself."""
    settings = {"credits": 3, "report_ms": 60000, "hotspot_name": "Küche"}
    async with welcomed(directory, settings=settings) as (cloud, node):
        assert node.find("welcome")[0]["settings"].items() >= settings.items()
        [identity], [hello] = node.find("identity"), cloud.find("hello")
        assert (hello["hotspot_id"].hex, hello["run"].hex()) == (
            identity["hotspot_id"], identity["run"])
        assert hello["agent"] == "interop 1"
        node.tell("stats", counters={"adverts": 2**40})
        assert (await cloud.wait_for("stats"))["counters"] == {"adverts": 2**40}


async def test_sightings(directory):
    """A batch without acknowledgement is sent again after a reset, and counts once."""
    async with welcomed(directory) as (cloud, node):
        devices = [uuid.uuid4() for _ in range(250)]
        cloud.drop_before_ack = True
        node.tell("sightings", sightings=[sighting(d, 1 + n) for n, d in enumerate(devices)])
        node.tell("sightings", sightings=[
            sighting(devices[0], 5, 1, rssi_last=127, rssi_min=127, rssi_max=127, adapter=2),
            sighting(devices[0], 0, 2)])
        await node.wait_for("acknowledged", batch=3)
        assert cloud.totals() == {d: 1 + n + 5 * (n == 0) for n, d in enumerate(devices)}
        assert [e["batch"] for e in node.find("sent")] == [1, 1, 2, 3]
        assert len(cloud.find("hello")) == 2


@pytest.mark.parametrize("credits", [1, 2, 16])
async def test_session(directory, credits):
    """300 frames each way on each of two channels, within the credits of either side."""
    async with welcomed(directory, settings={"credits": credits}) as (cloud, node):
        device = open_session(node, bearer=1, channels=2)
        for channel in (0, 1):
            send(node, device, FRAMES, channel)
        for channel in (0, 1):
            await echoed(node, device, FRAMES, channel)
        assert len(node.find("accepted")) == 1
        [session] = cloud.sessions
        session.close(0, "done")
        close = await node.wait_for("close", device_id=device.hex)
        assert (close["by"], close["code"], close["reason"]) == ("cloud", 0, "done")
        other = open_session(node)
        send(node, other, [b"once more"])
        await echoed(node, other, [b"once more"])
        node.tell("close", device_id=other.bytes, code=1, reason="gone")
        close = await cloud.wait_for("close", device_id=other)
        assert (close["by"], close["code"], close["reason"]) == ("hotspot", 1, "gone")


@pytest.mark.parametrize("credits", [1, 2, 16])
async def test_dropped(directory, credits):
    """The connection breaks at each 50th frame from the cloud, which is lost: the session goes on.
    """
    async with welcomed(directory, {"drop_each": 50}, settings={"credits": credits}) as (
            cloud, node):
        device = open_session(node)
        send(node, device, FRAMES)
        await echoed(node, device, FRAMES)
        [session] = cloud.sessions
        assert session.frames == [(0, frame) for frame in FRAMES]
        assert len(node.find("resumed")) == len(cloud.find("resumed")) >= 6
        assert len(cloud.find("open")) == 1


async def test_cloud_forgets(directory):
    """A session that the cloud does not list is over; its device may ask again."""
    async with welcomed(directory) as (cloud, node):
        device = open_session(node)
        send(node, device, [b"one"])
        await echoed(node, device, [b"one"])
        await cloud.kill()
        await node.wait_for("disconnected")
        await cloud.start()
        assert (await node.wait_for("close", device_id=device.hex))["reason"] == (
            "not listed by the cloud")


async def test_opened_again(directory):
    """OPEN that was lost with its connection is sent again under another number, with its frames.
    """
    async with welcomed(directory) as (cloud, node):
        cloud.accept_delay_s = 3600
        device = open_session(node)
        send(node, device, [b"one", b"two"])
        await cloud.wait_for("open", device_id=device)
        await cloud.kill()
        cloud.accept_delay_s = 0
        await cloud.start()
        await echoed(node, device, [b"one", b"two"])
        assert [e["session"] for e in node.find("opened")] == [1, 2]


async def test_goaway(directory):
    """The session goes on over the next connection, with 1001 before it; none is opened until then.
    """
    async with welcomed(directory) as (cloud, node):
        device = open_session(node)
        send(node, device, [b"before"])
        await echoed(node, device, [b"before"])
        cloud.goaway(300, "moving")
        await node.wait_for("goaway")
        late = open_session(node)
        send(node, device, [b"between"])
        await echoed(node, device, [b"before", b"between"])
        ended = await cloud.wait_for("disconnected")
        assert (ended["by"], ended["code"]) == ("hotspot", 1001)
        await node.wait_for("resumed", device_id=device.hex)
        await cloud.wait_for("open", device_id=late)
        opened = [e for e in cloud.events if e["event"] in ("open", "disconnected")]
        assert [e["event"] for e in opened] == ["open", "disconnected", "open"]
        send(node, device, [b"after"])
        await echoed(node, device, [b"before", b"between", b"after"])


async def test_wrong_signature(directory):
    """One that was made for another server is worth nothing here."""
    async with lab_cloud(directory) as (cloud, where), \
            running("hotspot.js", **where, authority="hub.example.com:443") as node:
        assert (await node.wait_for("disconnected", by="cloud"))["code"] == 4401
        assert cloud.find("hello") == []


@pytest.mark.parametrize("message,code", [
    ("9f0a0180ff", 4400), ("8418 1ea0d81d80f6", None), ("82181e a1181a00", 4400), ("830a0180", 4400),
    ("8318 1e", 4400), ("830a01", 4400), ("82181e a10100", 4400), ("82181e a1616120", 4400),
    ("8602 0150", 4400), ("841818010061ff", 4400), ("82187bd81d80", None), ("820b01", None),
    ("80", 4400), ("8120", 4400), ("01", 4400), ("8202 02", 4400), ("82187b d81780", 4400),
    ("82187b a201000100", None), ("83187b fa00000000", 4400), ("82187b fa00000000", None),
])
async def test_malformed(directory, message, code):
    """Bad messages are closed with 4400; those of a later version do no harm."""
    async with welcomed(directory) as (cloud, node):
        node.tell("raw", hex=message.replace(" ", ""))
        if code:
            assert (await node.wait_for("disconnected", by="cloud"))["code"] == code
        else:
            node.tell("stats", counters={})     # seen after it
            await cloud.wait_for("stats")
            assert node.find("disconnected") == cloud.find("bad_message") == []


async def test_text_message(directory):
    """It is not binary, so it is bad."""
    async with welcomed(directory) as (_, node):
        node.tell("text", text="hello")
        assert (await node.wait_for("disconnected", by="cloud"))["code"] == 4400


@pytest.mark.parametrize("channel,seq,payload", [
    (1, 0, b"x"), (2, 0, b"x"), (2**32 - 1, 0, b"x"), (0, 0, b""), (0, 0, bytes(245)), (0, 1, b"x"),
])
async def test_bad_data(directory, channel, seq, payload):
    """The hotspot in Node.js ends the session with code 8, and nothing else."""
    async with welcomed(directory) as (cloud, node):
        device = open_session(node)
        await node.wait_for("accepted")
        cloud.send_raw(cbor2.dumps([22, 1, channel, seq, payload]))
        assert (await cloud.wait_for("close", device_id=device, by="hotspot"))["code"] == 8
        assert node.find("data") == node.find("disconnected") == []


async def test_bad_cloud(directory):
    """The hotspot in Node.js closes with 4400 too."""
    async with welcomed(directory) as (cloud, node):
        cloud.send_raw(bytes.fromhex("82151801"))
        assert (await cloud.wait_for("disconnected", code=4400))["by"] == "hotspot"
        await until(lambda: len(node.find("welcome")) == 2)
