# SPDX-License-Identifier: Apache-2.0
"""The lab's cloud: certificates, HELLO, messages, sightings, the program."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cbor2
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import cloud as cloud_module
import tls
from cloud import Cloud, describe
from cloud_protocol import HELLO, decode, hotspot_id_of, signature_is_good, signed_bytes
from hotspot_client import HEADERS, SIGHTING, Client, run, trusting, with_client


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


def test_hello(ca: tls.Ca) -> None:
    """WELCOME has the settings; a newer connection replaces the older."""
    async def test(cloud: Cloud, client: Client) -> None:
        settings = {"credits": 16, "resume_ms": 30000, "report_ms": 30000, "hotspot_name": "lab"}
        assert await client.hello() == [3, settings, []]
        event = await cloud.wait_for("hello", hotspot_id=client.hotspot_id)
        assert event["run"] == client.run and event["agent"] == "test 1"
        assert event["location"] is None
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


@pytest.mark.parametrize("location", [
    {}, {"name": "x" * 64}, {"accuracy_m": 2**32 - 1, "floor": "2"},
    {"latitude_udeg": -90_000_000, "longitude_udeg": 180_000_000, "zone": "\xe9", "x": [1.5]}])
def test_location(ca: tls.Ca, location: dict[str, Any]) -> None:
    """What HELLO says of it is in the event."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello(info={"run": client.run, "location": location})
        event = await cloud.wait_for("hello")
        assert event["location"] == {k: v for k, v in location.items() if k != "x"}
    with_client(ca, test)


@pytest.mark.parametrize("location", [
    1, [], {"latitude_udeg": 1}, {"longitude_udeg": 1}, {"name": "\xe9" * 33}, {"name": 1},
    {"latitude_udeg": 90_000_001, "longitude_udeg": 0},
    {"latitude_udeg": 0, "longitude_udeg": -180_000_001},
    {"latitude_udeg": 1.5, "longitude_udeg": 0}, {"accuracy_m": -1}, {"accuracy_m": 2**32},
    {"zone": b"yard"}])
def test_bad_location(ca: tls.Ca, location: Any) -> None:
    """Closed with 4400."""
    async def test(cloud: Cloud, client: Client) -> None:
        with pytest.raises(ConnectionClosed):
            await client.hello(info={"run": client.run, "location": location})
        assert (await client.closed())[0] == 4400
    with_client(ca, test)


@pytest.mark.parametrize("changed, code", [
    ({"version": 2}, 4426), ({"signature": bytes(64)}, 4401), ({"signature": b"\x01" * 64}, 4401),
    ({"authority": "localhost:443"}, 4401), ({"authority": "127.0.0.1"}, 4401),
    ({"id": bytes(16)}, 4401), ({"id": uuid.uuid4().bytes}, 4401), ({"key": bytes(65)}, 4401),
    ({"key": bytes(64)}, 4400), ({"info": {}}, 4400), ({"info": {"run": b"short"}}, 4400),
    ({"info": []}, 4400), ({"resume": [[1, 0]]}, 4400), ({"resume": [1]}, 4400),
    ({"resume": [[1, 0, 2**32]]}, 4400), ({"resume": [[2**32, 0, 1]]}, 4400),
    ({"resume": [[1, 0, 1], [1, 0, 1]]}, 4400), ({"version": "1"}, 4400),
    ({"version": 2, "id": "", "info": 0}, 4426), ({"info": {"run": bytes(8), 1: 2}}, 4400)])
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


def test_refusals(ca: tls.Ca) -> None:
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
        await client.send(10, 1, [SIGHTING])
        assert (await client.closed())[0] == 4401
        cloud.hello_timeout_s = 0.01
        client = await Client(cloud, ca).connect()
        assert await client.closed() == (4401, "no HELLO")
        cloud.hello_timeout_s = cloud_module.HELLO_TIMEOUT_S
        with contextlib.suppress(InvalidHandshake):     # newer websockets refuse the upgrade
            client = await Client(cloud, ca).connect(subprotocols=None)
            assert (await client.closed())[0] == 4426
    with_client(ca, test, allow={uuid.uuid4()})


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
    "type is a float": cbor2.dumps([10.0, 1]),
    "trailing": cbor2.dumps([30, {}]) + b"\0",
    "cut": cbor2.dumps([10, 1, [SIGHTING]])[:-1],
    "too long": cbor2.dumps([99, bytes(65536)]),
    "indefinite array": bytes.fromhex("9f181ea0ff"),
    "indefinite bytes": bytes.fromhex("82185a5f4100ff"),
    "indefinite map": bytes.fromhex("82181ebfff"),
    "long integer": bytes.fromhex("821900 1ea0"),
    "long length": bytes.fromhex("9802181ea0"),
    "long simple": bytes.fromhex("821863f801"),
    "long tag": bytes.fromhex("821863d80100"),
    "reserved": bytes.fromhex("8218635c"),
    "break": bytes.fromhex("821863ff"),
    "not UTF-8": bytes.fromhex("82186361ff"),
    "huge array": bytes.fromhex("9b00ffffffffffffff18"),
    "too deep": bytes.fromhex("821863") + b"\x81" * 16 + b"\0",
    "tags too deep": bytes.fromhex("821863") + b"\xc1" * 16 + b"\0",
    "HELLO again": cbor2.dumps([2, 1, bytes(16), bytes(65), bytes(64), {"run": bytes(8)}, []]),
    "HELLO of version 2": cbor2.dumps([2, 2]),
    "HELLO without a version": cbor2.dumps([2]),
    "missing field": cbor2.dumps([10, 1]),
    "tagged integer": bytes.fromhex("830ac2410180"),
    "bool for an integer": cbor2.dumps([10, True, [SIGHTING]]),
    "batch 0": cbor2.dumps([10, 0, [SIGHTING]]),
    "no sighting": cbor2.dumps([10, 1, []]),
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
    "RSSI under its minimum": changed_sighting(5, -71),
    "RSSI over its maximum": changed_sighting(5, -49),
    "RSSI without its maximum": changed_sighting(7, 127),
    "RSSI without what it was last": changed_sighting(5, 127),
    "state 3": changed_sighting(8, 3),
    "101 sightings": cbor2.dumps([10, 1, [SIGHTING] * 101]),
    "bearer 2": cbor2.dumps([20, 1, bytes(16), b"", 2, 244, -60, 1]),
    "frames of 19 bytes": cbor2.dumps([20, 1, bytes(16), b"", 1, 19, -60, 1]),
    "frames of 513 bytes": cbor2.dumps([20, 1, bytes(16), b"", 1, 513, -60, 1]),
    "channels missing": cbor2.dumps([20, 1, bytes(16), b"", 1, 244, -60]),
    "channels 0": cbor2.dumps([20, 1, bytes(16), b"", 1, 244, -60, 0]),
    "channels 3": cbor2.dumps([20, 1, bytes(16), b"", 1, 244, -60, 3]),
    "channel over uint32": cbor2.dumps([22, 1, 2**32, 0, b""]),
    "code over uint32": cbor2.dumps([24, 1, 2**32, ""]),
    "session over uint32": cbor2.dumps([22, 2**32, 0, 0, b""]),
    "payload is text": cbor2.dumps([22, 1, 0, 0, "x"]),
    "reason is bytes": cbor2.dumps([24, 1, 0, b"x"]),
    "STATS without a map": cbor2.dumps([30, []]),
    "key is an integer": cbor2.dumps([30, {1: 2}]),
    "key is an array": cbor2.dumps([30, {(1, 2): 2}]),
    "key is a tag": bytes.fromhex("82181ea1c1616101"),
    "key stands twice": bytes.fromhex("82181ea2616101616102"),
    "counter is text": cbor2.dumps([30, {"n": "1"}]),
    "counter is negative": cbor2.dumps([30, {"n": -1}]),
    "counter is a float": cbor2.dumps([30, {"n": 1.0}]),
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


def test_examples_of_the_protocol() -> None:
    """What the text shows in hexadecimal is what the cloud reads and writes."""
    text = (Path(cloud_module.__file__).parents[2] / "uplink/PROTOCOL.md").read_text()
    examples: dict[str, bytes] = {}
    name = ""
    for line in text.partition("### Examples")[2].partition("## Connecting")[0].splitlines():
        if line.startswith(" " * 8):
            examples[name] = examples.get(name, b"") + bytes.fromhex(line)
        elif line.startswith(" " * 4):
            name = line.strip()
    device_id = uuid.UUID("f2ea6ed6-c079-4602-980d-fce59cf19da2")
    data = bytes([0x3B, 4]) + device_id.bytes + b"\x03\0"
    assert decode(examples.pop("OPEN of session 1 over GATT, with channel 0 alone")) == (
        20, [1, device_id, data, 0, 244, -61, 1])
    assert decode(examples.pop("CREDIT of 8 more, all below seq 16 having arrived")) == (
        23, [1, 8, 16])
    assert examples.pop("WELCOME, session 1 goes on: all below seq 5 arrived, 11 more are taken") \
        == cbor2.dumps((3, {}, [[1, 5, 11]]))
    hello = decode(examples.pop(
        "HELLO to wss://hub.example.com/, in answer to that, with session 1 to resume"))
    assert hello[0] == HELLO
    _, hotspot_id, public_key, signature, _, resume = hello[1]
    assert hotspot_id_of(public_key).bytes == hotspot_id
    assert signature_is_good(public_key, signature, signed_bytes(
        b"\xaa" * 32, hotspot_id, "hub.example.com:443"))
    assert resume == {1: (5, 11)}
    assert len([decode(message) for message in examples.values()]) == 9


def test_described() -> None:
    """Sessions that come and go, as people read of them."""
    device_id, url = uuid.UUID(int=7), "https://blecon.dev/00000000-0000-0000-0000-000000000007"
    fields = {"device_id": device_id, "session": 3}
    opened = {"event": "open", **fields, "bearer": 1, "max_frame": 244}
    assert describe({**opened, "channels": 1}) == (
        f"opened {url} session 3 over L2CAP, frames of 244 bytes")
    assert describe({**opened, "channels": 2}) == (
        f"opened {url} session 3 over L2CAP, frames of 244 bytes, 2 channels")
    assert describe({"event": "suspended", **fields}) == (
        f"suspended {url} session 3, its hotspot is not connected")
    assert describe({"event": "resumed", **fields, "resent": 2}) == (
        f"resumed {url} session 3, 2 frames to send again")


def test_what_is_to_be_ignored(ca: tls.Ca) -> None:
    """Unknown types, fields at the end, unknown keys; the longest message."""
    async def test(cloud: Cloud, client: Client) -> None:
        assert (await client.hello(info={"run": client.run, "x": [1.5, None]}, extra=1))[0] == 3
        await client.send(99, {1: 2, (3, 4): cbor2.CBORTag(1, 5)}, 2.5, None, [[]])
        for deepest in (b"\x81", b"\xc1"):     # 16 levels, the message being the first
            await client.send_raw(bytes.fromhex("821863") + deepest * 15 + b"\0")
        await client.send_raw(bytes.fromhex("841863f90000fa00000000fb" + 8 * "00"))
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
        await newer.send(10, 1, [SIGHTING])     # held up somewhere
        assert await newer.receive() == [11, 1]
        await newer.send(10, 7, [SIGHTING])     # as if it had lost what it knew
        assert await newer.receive() == [11, 7]
        await newer.send(10, 5, [SIGHTING])
        assert await newer.receive() == [11, 5]
        assert cloud.totals() == {device_id: 20}
        newer = await again(b"run-0002")
        await newer.send(10, 1, [lost])
        assert await newer.receive() == [11, 1]
        assert len(cloud.find("batch", duplicate=True)) == 4
        assert cloud_module.STATES[cloud.devices[device_id].state] == "lost"
        assert len(cloud.find("sighting", device_id=device_id)) == 6
        await cloud.stop()
        assert (await newer.closed())[0] == 1001
        await cloud.start()
        assert cloud.totals() == {device_id: 20}
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


def test_program_with_token_and_client_ca(
        ca: tls.Ca, tmp_path: Path, program: Callable[..., subprocess.Popen[str]]) -> None:
    """The options of the program that make it admit fewer hotspots."""
    (tmp_path / "token").write_text("secret\n")
    here = Cloud(ca.cert.parent / "server.pem", ca.cert.parent / "server.key")

    async def test() -> None:
        first = program("--listen", "127.0.0.1:0", "--json", "--token-file",
                        str(tmp_path / "token"))
        listening = json.loads(first.stdout.readline())     # type: ignore[union-attr]
        here.port = int(listening["url"].rpartition(":")[2].rstrip("/"))
        with pytest.raises(InvalidHandshake):
            await Client(here, ca).connect()
        client = await Client(here, ca).connect(
            **{HEADERS: {"Authorization": "Bearer secret"}})
        assert (await client.hello())[0] == 3
        first.kill()
        first.wait()
        second = program("--listen", f"127.0.0.1:{here.port}", "--client-ca", str(ca.cert))
        second.stdout.readline()    # type: ignore[union-attr]
        with pytest.raises((ssl.SSLError, ConnectionError, InvalidHandshake)):
            await Client(here, ca).connect()
    run(test())
