# SPDX-License-Identifier: Apache-2.0
"""The lab itself: its end-to-end session, its devices, its cloud, its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cbor2
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import cloud as cloud_module
import e2e
import tls
from cloud import Cloud
from device import EchoDevice, VirtualDevice

MIB = 1 << 20
CLOUD_KEY = X25519PrivateKey.generate()
CLOUD_PUBLIC = e2e.public_bytes(CLOUD_KEY)

Tamper = Callable[[str, bytes], list[bytes]]    # ("up" or "down", frame) -> the frames delivered


def unknown(_device_id: uuid.UUID) -> None:
    """No device is registered."""


def untouched(_direction: str, frame: bytes) -> list[bytes]:
    """A relay that delivers what it gets."""
    return [frame]


def talk(device: e2e.DeviceSession, cloud: e2e.CloudSession, frames: list[bytes],
         tamper: Tamper = untouched) -> None:
    """Deliver frames of the device, and all that follows from them."""
    up = list(frames)
    while up:
        down = [reply for frame in up for f in tamper("up", frame) for reply in cloud.receive(f)]
        up = [reply for frame in down for f in tamper("down", frame) for reply in device.receive(f)]


def pair(max_frame: int = 244, lookup: Callable[[uuid.UUID], bytes | None] = unknown
         ) -> tuple[e2e.DeviceSession, e2e.CloudSession]:
    """Both ends, not yet started."""
    return (e2e.DeviceSession(e2e.Identity(), CLOUD_PUBLIC, max_frame),
            e2e.CloudSession(CLOUD_KEY, lookup, max_frame))


def established(max_frame: int = 244) -> tuple[e2e.DeviceSession, e2e.CloudSession]:
    """Both ends after the handshake."""
    device, cloud = pair(max_frame)
    talk(device, cloud, device.start())
    assert device.established and cloud.established
    return device, cloud


# --- The end-to-end session ---

@pytest.mark.parametrize("max_frame", [20, 21, 244, 512])
def test_handshake_fits_its_frames(max_frame: int) -> None:
    """It takes one round trip and a half, whatever the frames."""
    seen: list[tuple[str, int]] = []

    def tamper(direction: str, frame: bytes) -> list[bytes]:
        seen.append((direction, len(frame)))
        return [frame]

    device, cloud = pair(max_frame)
    talk(device, cloud, device.start(), tamper)
    assert cloud.device_id and max(size for _, size in seen) <= max_frame
    assert sum(size for _, size in seen) == 116 + 99 + 35


@pytest.mark.parametrize("max_frame", [20, 244, 512])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 4096, MIB])
def test_both_directions_at_all_sizes(max_frame: int, size: int) -> None:
    """A MiB in frames of 20 bytes goes one way only, it takes seconds."""
    device, cloud = established(max_frame)
    message = os.urandom(size)
    frames = device.send(message)
    assert max(map(len, frames)) <= max_frame
    talk(device, cloud, frames)
    assert cloud.messages == [message] == device.sent
    if (max_frame, size) == (20, MIB):
        return
    for frame in cloud.send(message[::-1]):
        assert device.receive(frame) == [] and len(frame) <= max_frame
    assert device.messages == [message[::-1]] == cloud.sent
    talk(device, cloud, device.bye())
    assert cloud.closed and device.closed


def test_limits() -> None:
    """What cannot be sent is the caller's mistake."""
    with pytest.raises(ValueError):
        pair(19)
    device, cloud = pair()
    with pytest.raises(e2e.ClosedError):
        device.send(b"too early")
    device, cloud = established()
    with pytest.raises(ValueError):
        cloud.send(bytes(MIB + 1))
    talk(device, cloud, device.bye())
    with pytest.raises(e2e.ClosedError):
        cloud.receive(b"too late")


def test_a_flipped_bit_anywhere_is_rejected() -> None:
    """In each byte of a whole session, handshake to answer; nothing altered is ever delivered."""
    def converse(position: int) -> int:
        """Flip a bit of byte `position` of all that is sent; the number of bytes sent."""
        passed = 0

        def tamper(_direction: str, frame: bytes) -> list[bytes]:
            nonlocal passed
            if passed <= position < passed + len(frame):
                at = position - passed
                frame = frame[:at] + bytes([frame[at] ^ 1 << position % 8]) + frame[at + 1:]
            passed += len(frame)
            return [frame]

        device, cloud = pair(64)
        try:
            talk(device, cloud, device.start(), tamper)
            talk(device, cloud, device.send(b"request"), tamper)
            for frame in cloud.send(b"answer"):
                device.receive(*tamper("down", frame))
        except e2e.SessionError:
            assert device.closed != cloud.closed    # the one that noticed
            assert device.messages == [] and cloud.messages in ([], [b"request"])
        else:
            assert position >= passed
        return passed

    total = converse(MIB)
    assert total == 116 + 99 + 35 + (e2e.TAG + e2e.HEAD) * 2 + len("requestanswer")
    for position in range(total):
        converse(position)


def test_records_out_of_place_are_rejected() -> None:
    """Replayed, reordered, left out, longer, shorter, of another direction or session."""
    def rejects(error: type[e2e.SessionError],
                deliver: Callable[[list[bytes]], list[bytes]]) -> None:
        device, cloud = established(20)
        frames = deliver(device.send(b"a request of several records"))
        with pytest.raises(error):
            for frame in frames:
                cloud.receive(frame)
        assert cloud.closed and cloud.messages == []

    wrong = e2e.AuthenticationError
    rejects(wrong, lambda f: [f[0], f[0]])
    rejects(wrong, lambda f: [f[1], f[0]])
    rejects(wrong, lambda f: [f[0], f[2]])
    rejects(wrong, lambda f: [f[0] + b"\0"])
    rejects(wrong, lambda f: [f[0][:-1]])
    rejects(wrong, lambda f: established(20)[0].send(b"another session's"))
    rejects(wrong, lambda f: established(20)[1].send(b"another direction's"))
    rejects(e2e.FormatError, lambda f: [f[0][:e2e.TAG]])
    rejects(e2e.FormatError, lambda f: [b""])
    rejects(e2e.FormatError, lambda f: [bytes(513)])
    rejects(e2e.AbortError, lambda f: [e2e.ABORT_FRAME])


@pytest.mark.parametrize("data", [
    b"\x01\0\0", b"\x02\0\0\0", b"\x01\x10\0\x01", b"\x03\0\0\x01x", b"\x01\0\0\x01xx"])
def test_bad_messages_are_rejected(data: bytes) -> None:
    """Without a head, an answer from a device, too long, bye with content, longer than it says."""
    device, cloud = established()
    with pytest.raises(e2e.FormatError):
        cloud.receive(device._out.seal(data))
    assert cloud.closed


def test_device_trusts_its_cloud_only() -> None:
    """Another cloud, with all it can know, is not believed."""
    device = e2e.DeviceSession(e2e.Identity(), CLOUD_PUBLIC, 244)
    impostor = e2e.CloudSession(X25519PrivateKey.generate(), unknown, 244)
    with pytest.raises(e2e.AuthenticationError, match="cloud"):
        talk(device, impostor, device.start())
    assert device.closed and not device.established


def test_cloud_knows_its_devices() -> None:
    """Another key, another device than announced, a key not owned, a session played again."""
    device, cloud = pair(lookup=lambda _: e2e.public_bytes(X25519PrivateKey.generate()))
    with pytest.raises(e2e.KeyChangedError):
        talk(device, cloud, device.start())

    cloud = e2e.CloudSession(CLOUD_KEY, unknown, 244, uuid.uuid4())
    with pytest.raises(e2e.KeyChangedError):
        talk(device, cloud, device.start())

    recorded: list[bytes] = []

    def record(direction: str, frame: bytes) -> list[bytes]:
        recorded.extend([frame] if direction == "up" else [])
        return [frame]

    device, cloud = pair()
    talk(device, cloud, device.start(), record)
    again = e2e.CloudSession(CLOUD_KEY, unknown, 244)
    with pytest.raises(e2e.AuthenticationError):
        for frame in recorded:
            again.receive(frame)
    assert again.closed and not again.established

    for start in (17, 49):      # a point without a secret, as static and as ephemeral key
        hello = bytearray(e2e.DeviceSession(e2e.Identity(), CLOUD_PUBLIC, 244).start()[0])
        hello[3 + start:3 + start + 32] = bytes(32)
        with pytest.raises(e2e.AuthenticationError):
            e2e.CloudSession(CLOUD_KEY, unknown, 244).receive(bytes(hello))


# --- Devices ---

def test_second_boot_keeps_the_identity(tmp_path: Path) -> None:
    """The state file has it, for its owner only; a broken one is not replaced."""
    path = tmp_path / "device.json"
    first = VirtualDevice(CLOUD_PUBLIC, path)
    second = VirtualDevice(CLOUD_PUBLIC, path)
    assert first.device_id == second.device_id and first.device_id.version == 4
    assert e2e.public_bytes(first.identity.key) == e2e.public_bytes(second.identity.key)
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError):
        VirtualDevice(CLOUD_PUBLIC, path, device_id=uuid.uuid4())
    path.write_text("{}")
    with pytest.raises(ValueError):
        VirtualDevice(CLOUD_PUBLIC, path)


def test_service_data() -> None:
    """The samples of real devices."""
    device_id = uuid.UUID("f2ea6ed6-c079-4602-980d-fce59cf19da2")
    device = VirtualDevice(CLOUD_PUBLIC, device_id=device_id)
    rest = "04f2ea6ed6c0794602980dfce59cf19da20300"
    assert device.service_data.hex() == "3a" + rest
    device.ask(b"x")
    assert device.service_data.hex() == "3b" + rest
    device.announces = True
    assert device.service_data.hex() == "3f" + rest
    device.opened(20)
    assert device.service_data.hex() == "3a" + rest
    assert device.device_url == f"https://blecon.dev/{device_id}"
    assert VirtualDevice(CLOUD_PUBLIC, tx_power=-12).service_data[1] == 0xF4


def run_device(device: VirtualDevice, cloud: e2e.CloudSession, max_frame: int,
               frames_until_lost: int = MIB) -> None:
    """One link of a device, with a cloud that answers in capitals."""
    up = device.opened(max_frame)
    while up and frames_until_lost > 0 and not cloud.closed:
        handled = len(cloud.messages)
        frames_until_lost -= len(up)
        down = [reply for frame in up for reply in cloud.receive(frame)]
        for request in cloud.messages[handled:]:
            down += cloud.send(request.upper())
        up = [reply for frame in down for reply in device.received(frame)]
    device.closed()


def test_device_asks_until_it_is_answered() -> None:
    """A link that breaks loses no request; answers keep their order."""
    device = VirtualDevice(CLOUD_PUBLIC)
    events: list[str] = []
    device.on_event = lambda name, _details: events.append(name)
    device.ask(b"one")
    device.ask(b"two")
    run_device(device, e2e.CloudSession(CLOUD_KEY, unknown, 244), 244, frames_until_lost=3)
    assert device.answers == [b"ONE"] and device.asks and not device.finished
    run_device(device, e2e.CloudSession(CLOUD_KEY, unknown, 244), 244)
    assert device.answers == [b"ONE", b"TWO"] and device.finished and not device.asks
    assert device.sessions == 2 and device.failed is None
    assert events == ["session_open", "established", "request_sent", "answer", "request_sent",
                      "closed", "session_open", "established", "request_sent", "answer", "closed"]


def test_device_rejects() -> None:
    """It says why, tells the other end, and asks again."""
    device = VirtualDevice(CLOUD_PUBLIC)
    device.ask(b"x")
    with pytest.raises(e2e.AbortError):
        run_device(device, e2e.CloudSession(X25519PrivateKey.generate(), unknown, 244), 244)
    assert "trusts" in str(device.failed)
    assert device.received(b"more") == []
    device.closed()
    assert device.asks
    run_device(device, e2e.CloudSession(CLOUD_KEY, unknown, 244), 244)
    assert device.failed is None and device.answers == [b"X"]


def test_echo_device() -> None:
    """Frames of the sizes asked for, whatever comes is kept."""
    device = EchoDevice([1, 20, 0], echo=True)
    assert device.asks and not device.finished
    frames = device.opened(20)
    assert list(map(len, frames)) == [1, 20, 0] and not device.asks
    assert [device.received(f) for f in frames] == [[f] for f in frames]
    assert device.answers == frames == device.sent and device.finished


# --- Certificates ---

@pytest.fixture(name="ca", scope="module")
def fixture_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Ca:
    """A CA, and a server certificate next to it."""
    ca = tls.make_ca(tmp_path_factory.mktemp("tls"))
    tls.make_server_cert(ca.cert.parent, ca=ca)
    return ca


def run(test: Awaitable[None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(test)   # type: ignore[arg-type]


def trusting(ca: tls.Ca) -> ssl.SSLContext:
    """A client's settings."""
    return ssl.create_default_context(cafile=str(ca.cert))


def test_certificates(ca: tls.Ca) -> None:
    """A client takes the good one and tells the others apart."""
    directory = ca.cert.parent

    async def verify(server: tls.Pair) -> str:
        cloud = Cloud(*server)
        await cloud.start()
        try:
            async with websockets.connect(cloud.url, ssl=trusting(ca), subprotocols=[
                    cloud_module.SUBPROTOCOL]):     # type: ignore[list-item]
                return "good"
        except ssl.SSLCertVerificationError as err:
            return err.verify_message
        finally:
            await cloud.stop()

    async def test() -> None:
        assert await verify(tls.make_server_cert(directory, ca=ca)) == "good"
        assert "expired" in await verify(tls.make_expired_cert(directory, ca))
        assert "not yet valid" in await verify(tls.make_future_cert(directory, ca))
        assert "mismatch" in await verify(tls.make_wrong_host_cert(directory, ca))
        assert "issuer" in await verify(tls.make_other_ca_cert(directory))
        past = datetime(2001, 2, 3, tzinfo=timezone.utc)
        pair_of_2001 = tls.make_server_cert(directory, not_before=past, not_after=past, ca=ca,
                                            name="2001")
        assert "expired" in await verify(pair_of_2001)
    run(test())


# --- The cloud ---

class Client:
    """A hotspot in a few lines, by the protocol's text."""

    def __init__(self, cloud: Cloud, ca: tls.Ca, key: ec.EllipticCurvePrivateKey | None = None
                 ) -> None:
        self.cloud = cloud
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.public = self.key.public_key().public_bytes(Encoding.X962,
                                                         PublicFormat.UncompressedPoint)
        self.hotspot_id = cloud_module.hotspot_id_of(self.public)
        self.run = b"run-0001"
        self.seq: dict[int, int] = {}
        self._tls = trusting(ca)
        self._ws: Any = None

    async def connect(self, url: str | None = None, **options: Any) -> Client:
        """Connect, without a HELLO."""
        options = {"subprotocols": ["hotspot-relay.v1"], "max_size": None, **options}
        self._ws = await websockets.connect(url or self.cloud.url, ssl=self._tls, **options)
        return self

    async def hello(self, authority: str | None = None, **changed: Any) -> list[Any]:
        """Answer the CHALLENGE; the message that follows."""
        challenge = await self.receive()
        assert challenge[0] == 1 and len(challenge[1]) == 32 and challenge[2] > 1.6e12
        authority = authority or f"127.0.0.1:{self.cloud.port}"
        covered = (b"hotspot-relay.v1\0" + challenge[1] + self.hotspot_id.bytes
                   + authority.encode())
        r, s = decode_dss_signature(self.key.sign(covered, ec.ECDSA(SHA256())))
        fields = {"version": 1, "id": self.hotspot_id.bytes, "key": self.public,
                  "signature": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
                  "info": {"run": self.run, "agent": "test 1"}, "resume": [], **changed}
        await self.send(2, *fields.values())
        return await self.receive()

    async def send(self, *message: Any) -> None:
        """Send a message."""
        await self._ws.send(cbor2.dumps(message))

    async def send_raw(self, message: bytes | str) -> None:
        """Send anything."""
        await self._ws.send(message)

    async def data(self, session: int, payload: bytes, channel: int = 0) -> None:
        """Send a frame."""
        seq = self.seq[session] = self.seq.get(session, -1) + 1
        await self.send(22, session, channel, seq, payload)

    async def receive(self) -> list[Any]:
        """The next message, 2 s at most."""
        return cbor2.loads(await asyncio.wait_for(self._ws.recv(), 2))

    async def closed(self) -> tuple[int, str]:
        """The code and reason the cloud closes with; what comes before is ignored."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self._ws.close_code, self._ws.close_reason

    async def close(self) -> None:
        """Close the connection."""
        await self._ws.close()


def with_client(ca: tls.Ca, test: Callable[[Cloud, Client], Awaitable[None]],
                **options: Any) -> None:
    """Run a test with a cloud and a connected client, HELLO still to be said."""
    directory = ca.cert.parent

    async def whole() -> None:
        cloud = Cloud(directory / "server.pem", directory / "server.key", **options)
        await cloud.start()
        client = await Client(cloud, ca).connect()
        try:
            await test(cloud, client)
        finally:
            await client.close()
            await cloud.stop()
    run(whole())


def test_hello(ca: tls.Ca) -> None:
    """WELCOME has the settings; a newer connection replaces the older."""
    async def test(cloud: Cloud, client: Client) -> None:
        settings = {"credits": 16, "report_ms": 30000, "hotspot_name": "lab"}
        assert await client.hello() == [3, settings, []]
        event = await cloud.wait_for("hello", hotspot_id=client.hotspot_id)
        assert event["run"] == client.run and event["agent"] == "test 1"
        assert client.hotspot_id.version == 8 and client.hotspot_id.variant == uuid.RFC_4122
        newer = await Client(cloud, ca, client.key).connect()
        assert (await newer.hello())[0] == 3
        assert (await client.closed())[0] == 4409
        await newer.send(30, {"uptime_s": 1})
        assert (await cloud.wait_for("stats"))["counters"] == {"uptime_s": 1}
        cloud.goaway(500, "moving")
        assert await newer.receive() == [31, 500, "moving"]
        await newer.close()
        await cloud.wait_for("disconnected", hotspot_id=client.hotspot_id, by="hotspot")
        assert not cloud.hotspots
    with_client(ca, test, settings={"report_ms": 30000, "hotspot_name": "lab"})


@pytest.mark.parametrize("changed, code", [
    ({"version": 2}, 4426), ({"signature": bytes(64)}, 4401), ({"signature": b"\x01" * 64}, 4401),
    ({"authority": "localhost:443"}, 4401), ({"authority": "127.0.0.1"}, 4401),
    ({"id": bytes(16)}, 4401), ({"id": uuid.uuid4().bytes}, 4401), ({"key": bytes(65)}, 4401),
    ({"key": bytes(64)}, 4400), ({"info": {}}, 4400), ({"info": {"run": b"short"}}, 4400),
    ({"info": []}, 4400), ({"resume": [[1]]}, 4400), ({"version": "1"}, 4400)])
def test_bad_hello(ca: tls.Ca, changed: dict[str, Any], code: int) -> None:
    """Each gets its code, and says so in an event."""
    async def test(cloud: Cloud, client: Client) -> None:
        with pytest.raises(ConnectionClosed):
            await client.hello(**changed)
        got, reason = await client.closed()
        assert got == code and reason
        await cloud.wait_for("refused", code=code, reason=reason)
    with_client(ca, test)


def test_names_of_the_cloud(ca: tls.Ca) -> None:
    """A Host without a port means 443; a cloud that knows its names answers to no other."""
    async def test(cloud: Cloud, client: Client) -> None:
        by_name = Client(cloud, ca, client.key)
        await by_name.connect("wss://localhost/", host="127.0.0.1", port=cloud.port)
        assert (await by_name.hello(authority="localhost:443"))[0] == 3
        with pytest.raises(ConnectionClosed):
            await client.hello()
        assert (await client.closed())[0] == 4401
        await by_name.close()
    with_client(ca, test, authorities={"localhost:443"})


def test_refusals(ca: tls.Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the allow-list, as scripted, before its HELLO, without one, without subprotocol."""
    async def test(cloud: Cloud, client: Client) -> None:
        with pytest.raises(ConnectionClosed):
            await client.hello()
        assert (await client.closed())[0] == 4403
        cloud.allow = None
        cloud.refuse_hello = 4401
        client = await Client(cloud, ca).connect()
        with pytest.raises(ConnectionClosed):
            await client.hello()
        assert (await client.closed())[0] == 4401
        client = await Client(cloud, ca).connect()
        await client.send(10, 1, [])
        assert (await client.closed())[0] == 4401
        monkeypatch.setattr(cloud_module, "HELLO_TIMEOUT_S", 0.01)
        client = await Client(cloud, ca).connect()
        assert await client.closed() == (4401, "no HELLO")
        with contextlib.suppress(InvalidHandshake):     # newer websockets refuse the upgrade
            client = await Client(cloud, ca).connect(subprotocols=None)
            assert (await client.closed())[0] == 4426
    with_client(ca, test, allow={uuid.uuid4()})


SIGHTING: list[Any] = [uuid.UUID(int=7).bytes, b"\x3a\x04", 900, 100, 5, -60, -70, -50, 0, 0]


def changed_sighting(index: int, value: Any) -> bytes:
    """A batch with one field of its sighting changed."""
    return cbor2.dumps([10, 1, [SIGHTING[:index] + [value] + SIGHTING[index + 1:]]])


MALFORMED = {
    "text": "hello",
    "empty": b"",
    "empty array": cbor2.dumps([]),
    "no array": cbor2.dumps({"type": 1}),
    "type is text": cbor2.dumps(["10", 1]),
    "negative type": cbor2.dumps([-1]),
    "trailing": cbor2.dumps([30, {}]) + b"\0",
    "cut": cbor2.dumps([10, 1, [SIGHTING]])[:-1],
    "too long": cbor2.dumps([99, bytes(65536)]),
    "indefinite array": bytes.fromhex("9f181ea0ff"),
    "indefinite bytes": bytes.fromhex("82185a5f4100ff"),
    "indefinite map": bytes.fromhex("82181ebfff"),
    "long integer": bytes.fromhex("821900 1ea0"),
    "long length": bytes.fromhex("9802181ea0"),
    "long simple": bytes.fromhex("821863f801"),
    "reserved": bytes.fromhex("8218635c"),
    "break": bytes.fromhex("821863ff"),
    "not UTF-8": bytes.fromhex("82186361ff"),
    "huge array": bytes.fromhex("9b00ffffffffffffff18"),
    "too deep": bytes.fromhex("821863") + b"\x81" * 20 + b"\0",
    "HELLO again": cbor2.dumps([2, 1, bytes(16), bytes(65), bytes(64), {"run": bytes(8)}, []]),
    "missing field": cbor2.dumps([10, 1]),
    "tagged integer": bytes.fromhex("830ac2410180"),
    "bool for an integer": cbor2.dumps([10, True, []]),
    "batch 0": cbor2.dumps([10, 0, []]),
    "sightings are a map": cbor2.dumps([10, 1, {}]),
    "sighting too short": cbor2.dumps([10, 1, [SIGHTING[:-1]]]),
    "short device id": changed_sighting(0, bytes(15)),
    "service data is text": changed_sighting(1, "3a04"),
    "seen before it was": changed_sighting(2, 99),
    "negative age": changed_sighting(3, -1),
    "count 0": changed_sighting(4, 0),
    "RSSI is no int8": changed_sighting(5, -129),
    "RSSI is a float": changed_sighting(5, -60.0),
    "RSSI upside down": changed_sighting(6, -40),
    "state 3": changed_sighting(8, 3),
    "bearer 2": cbor2.dumps([20, 1, bytes(16), b"", 2, 244, -60]),
    "session over uint32": cbor2.dumps([22, 2**32, 0, 0, b""]),
    "payload is text": cbor2.dumps([22, 1, 0, 0, "x"]),
    "reason is bytes": cbor2.dumps([24, 1, 0, b"x"]),
    "STATS without a map": cbor2.dumps([30, []]),
}


def test_malformed_messages(ca: tls.Ca) -> None:
    """Each closes the connection with 4400."""
    async def test(cloud: Cloud, _client: Client) -> None:
        for name, message in MALFORMED.items():
            client = await Client(cloud, ca).connect()
            assert (await client.hello())[0] == 3
            await client.send_raw(message)
            assert (await client.closed())[0] == 4400, name
            await cloud.wait_for("bad_message", hotspot_id=client.hotspot_id)
        assert not cloud.totals()
    with_client(ca, test)


def test_what_is_to_be_ignored(ca: tls.Ca) -> None:
    """Unknown types, fields at the end, unknown keys; the longest message."""
    async def test(cloud: Cloud, client: Client) -> None:
        assert (await client.hello(info={"run": client.run, "x": [1.5, None]}, extra=1))[0] == 3
        await client.send(99, {1: 2, (3, 4): cbor2.CBORTag(1, 5)}, 2.5, None, [[]])
        await client.send(1, "from the cloud only")
        await client.send(99, bytes(65536 - 6))
        await client.send(10, 1, [SIGHTING + ["more"]], "more")
        assert await client.receive() == [11, 1]
        assert len(cloud.raw[-3][1]) == 65536 and cloud.raw[-1] == ("out", cbor2.dumps([11, 1]))
    with_client(ca, test, record_raw=True)


def test_sightings(ca: tls.Ca, tmp_path: Path) -> None:
    """Counted once for each run and batch, also over a reset and a restart."""
    device_id = uuid.UUID(bytes=SIGHTING[0])
    lost = [*SIGHTING[:4], 0, *SIGHTING[5:8], 2, 0]

    async def test(cloud: Cloud, client: Client) -> None:
        async def again(run_id: bytes = client.run) -> Client:
            newer = await Client(cloud, ca, client.key).connect()
            newer.run = run_id
            assert (await newer.hello())[0] == 3
            return newer

        await client.hello()
        await client.send(10, 1, [SIGHTING, SIGHTING])
        assert await client.receive() == [11, 1]
        cloud.drop_before_ack = True
        await client.send(10, 2, [lost])
        assert (await client.closed())[0] == 1006
        newer = await again()
        await newer.send(10, 2, [lost])
        assert await newer.receive() == [11, 2]
        cloud.ack_sightings = False
        await newer.send(10, 3, [SIGHTING])
        await cloud.wait_for("batch", batch=3, duplicate=False)
        assert cloud.totals() == {device_id: 15}
        await cloud.kill()
        await cloud.stop()              # there is nothing left to stop
        assert (await newer.closed())[0] == 1006
        with open(tmp_path / "sightings.jsonl", "a", encoding="ascii") as file:
            file.write('{"torn')
        cloud.ack_sightings = True
        await cloud.start()
        assert cloud.totals() == {device_id: 15}
        newer = await again()
        await newer.send(10, 3, [SIGHTING])
        assert await newer.receive() == [11, 3]
        assert cloud.totals() == {device_id: 15} and cloud.devices[device_id].flags == 0x3A
        newer = await again(b"run-0002")
        await newer.send(10, 1, [lost])
        assert await newer.receive() == [11, 1]
        assert len(cloud.find("batch", duplicate=True)) == 2
        assert cloud_module.STATES[cloud.devices[device_id].state] == "lost"
        assert len(cloud.find("sighting", device_id=device_id)) == 5
        await cloud.stop()
        assert (await newer.closed())[0] == 1001
        await cloud.start()
        assert cloud.totals() == {device_id: 15}
    with_client(ca, test, state=tmp_path)


@pytest.fixture(name="program")
def fixture_program(ca: tls.Ca, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts cloud.py."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        directory = ca.cert.parent
        process = subprocess.Popen(
            [sys.executable, cloud_module.__file__, "--cert", str(directory / "server.pem"),
             "--key", str(directory / "server.key"), "--state", str(tmp_path / "state"), *args],
            stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()      # type: ignore[union-attr]


def test_program(ca: tls.Ca, program: Callable[..., subprocess.Popen[str]]) -> None:
    """kill -9 loses no batch that was acknowledged, SIGTERM ends with 1001; what it prints."""
    directory = ca.cert.parent
    here = Cloud(directory / "server.pem", directory / "server.key")    # for its address only

    async def report(client: Client) -> None:
        await client.connect()
        assert (await client.hello())[0] == 3
        await client.send(10, 1, [SIGHTING])
        assert await client.receive() == [11, 1]

    async def test() -> None:
        first = program("--listen", "127.0.0.1:0", "--json")
        listening = json.loads(first.stdout.readline())     # type: ignore[union-attr]
        here.port = int(listening["url"].rpartition(":")[2].rstrip("/"))
        client = Client(here, ca)
        await report(client)
        first.kill()
        assert (await client.closed())[0] == 1006
        output, _ = first.communicate()
        assert [json.loads(line)["event"] for line in output.splitlines()][:3] == [
            "connected", "hello", "batch"]
        second = program("--listen", f"127.0.0.1:{here.port}", "--hotspot-name", "hall")
        assert second.stdout.readline() == (        # type: ignore[union-attr]
            f"listening on {here.url}\n")
        trusted = second.stdout.readline().split()[2]   # type: ignore[union-attr]
        assert trusted == listening["device_public_key"]
        await report(client)
        await client.send(10, 2, [SIGHTING])
        assert await client.receive() == [11, 2]
        second.send_signal(signal.SIGTERM)
        assert (await client.closed())[0] == 1001
        output, _ = second.communicate(timeout=5)
        assert output.splitlines() == [
            f"hotspot {client.hotspot_id} connected, test 1",
            "spotted https://blecon.dev/00000000-0000-0000-0000-000000000007 rssi -60 dBm "
            "flags 0x3a state appeared",
            f"hotspot {client.hotspot_id} disconnected, code 1001"]
        assert second.returncode == 0
    run(test())


async def relay(client: Client, device: VirtualDevice, session: int, max_frame: int = 244
                ) -> tuple[int, int, int]:
    """Carry a device's session to its CLOSE, whose code, and the DATA each way, are returned."""
    await client.send(20, session, device.device_id.bytes, device.service_data, 0, max_frame, -60)
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
        stranger = VirtualDevice(CLOUD_PUBLIC)
        assert (await relay(client, stranger, 5))[0] == 3
        assert stranger.failed and "rejected" in cloud.find("close", session=5)[0]["reason"]
        assert cloud.known_key(stranger.device_id) is None
        await client.send(20, 6, uuid.uuid4().bytes, b"", 0, 244, -60)
        for frame in stranger.opened(244):
            await client.data(6, frame)
        assert await client.receive() == [21, 6]
        closing = await client.receive()
        assert closing[:3] == [24, 6, 3] and "announced" in closing[3]
        assert (await relay(client, device, 7))[0] == 0
        await client.close()
    with_client(ca, test, state=tmp_path)


def test_credits_to_the_letter(ca: tls.Ca) -> None:
    """Neither side sends without; what breaks the rules ends its session with 8."""
    async def test(cloud: Cloud, client: Client) -> None:
        async def opened(session: int) -> None:
            await client.send(20, session, uuid.uuid4().bytes, b"", 1, 245, -60)
            assert await client.receive() == [21, session]

        async def broken(*message: Any) -> str:
            await client.send(*message)
            closing = await client.receive()
            assert closing[:3] == [24, message[1], 8], closing
            return closing[3]

        await client.hello()
        cloud.withhold_credits = True
        await opened(1)
        for n in range(4):
            await client.data(1, bytes([n]))
            assert await client.receive() == [22, 1, 0, n, bytes([n])]
        cloud.release_credits()
        assert await client.receive() == [23, 1, 4, 4]
        for n in range(4):      # the cloud has no credit left: it gives some, and sends nothing
            await client.data(1, b"x", channel=n % 2)
        assert [await client.receive() for _ in range(2)] == [[23, 1, 2, 6], [23, 1, 2, 8]]
        await client.send(23, 1, 1, 4)
        assert await client.receive() == [22, 1, 0, 4, b"x"]
        await client.send(23, 1, 9, 5)
        assert [(await client.receive())[2:4] for _ in range(3)] == [[1, 5], [0, 6], [1, 7]]
        cloud.withhold_credits = True
        await client.send(24, 1, 1, "device disconnected")
        event = await cloud.wait_for("close", session=1, by="hotspot", code=1)
        assert event["frames_in"] == event["frames_out"] == 8

        await client.send(22, 1, 0, 8, b"late")         # on its way when it closed: no answer
        assert "no such session" in await broken(22, 99, 0, 0, b"")
        await opened(2)
        assert "seq 1" in await broken(22, 2, 0, 1, b"")
        await opened(3)
        assert "channel" in await broken(22, 3, 2, 0, b"")
        await opened(4)
        assert "next_seq" in await broken(23, 4, 1, 1)
        await opened(5)
        assert "too many" in await broken(23, 5, 2**32 - 1, 0)
        await opened(6)
        assert "twice" in await broken(20, 6, bytes(16), b"", 0, 20, 0)
        await opened(7)
        for n in range(4):
            await client.data(7, b"")
            assert (await client.receive())[0] == 22
        assert "credit" in await broken(22, 7, 0, 4, b"")
        assert not cloud.sessions
    with_client(ca, test, settings={"credits": 4},
                raw_handler=lambda _session, _channel, frame: [frame])


def test_late_accept_and_lost_connection(ca: tls.Ca) -> None:
    """DATA may come before ACCEPT, what answers it does not; no session outlives its connection."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        cloud.accept_delay_s = 0.1
        device = VirtualDevice(cloud.device_public_key)
        await client.send(20, 1, device.device_id.bytes, b"", 0, 244, -60)
        for frame in device.opened(244):
            await client.data(1, frame)
        assert await client.receive() == [21, 1]
        assert (await client.receive())[:2] == [22, 1]
        cloud.send_raw(b"anything")
        assert await client._ws.recv() == b"anything"
        await client.close()
        await cloud.wait_for("close", session=1, by="connection", code=None)
        with pytest.raises(TimeoutError):
            await cloud.wait_for("close", timeout_s=0.01, count=2)
    with_client(ca, test)
