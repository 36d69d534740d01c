#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lab's cloud: the other side of uplink/PROTOCOL.md, written from that text alone.

In a test, within asyncio:

    cloud = Cloud(*tls.make_server_cert(directory))
    await cloud.start()
    device = VirtualDevice(cloud.device_public_key)
    event = await cloud.wait_for("answer", device_id=device.device_id)

As a program, until SIGTERM or SIGINT:

    cloud.py --listen 127.0.0.1:8443 --cert server.pem --key server.key --state DIR [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import ssl
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import websockets
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from websockets.exceptions import ConnectionClosed

import e2e
from device import ANNOUNCES, ASKS, URL_PREFIX

SUBPROTOCOL = "hotspot-relay.v1"
VERSION = 1
MAX_MESSAGE = 65536
MAX_DEPTH = 16              # of nested arrays and maps; the protocol needs 3
MAX_REASON = 123            # bytes, of a WebSocket close frame
CREDITS = 16
HELLO_TIMEOUT_S = 10.0

CHALLENGE, HELLO, WELCOME = 1, 2, 3
SIGHTINGS, SIGHTINGS_ACK = 10, 11
OPEN, ACCEPT, DATA, CREDIT, CLOSE = 20, 21, 22, 23, 24
STATS, GOAWAY = 30, 31

BAD_MESSAGE, NOT_AUTHENTICATED, NOT_ALLOWED, REPLACED, WRONG_VERSION = 4400, 4401, 4403, 4409, 4426
DONE, REFUSED, NOT_SERVED, PROTOCOL_ERROR = 0, 3, 5, 8

STATES = ("appeared", "present", "lost")
LOST = 2
BEARERS = ("GATT", "L2CAP")

Event = dict[str, Any]


# --- Messages ---

class Refused(Exception):
    """Closes the connection, with a WebSocket close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class BadMessage(Refused):
    """A message that the protocol does not allow."""

    def __init__(self, reason: str) -> None:
        super().__init__(BAD_MESSAGE, reason)


class Other:
    """A CBOR item of a kind the protocol has no use for: tagged, simple or a float."""


class _Reader:
    """CBOR as the protocol has it: definite lengths, heads in shortest form."""

    _SMALLEST = {0: 0, 1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}   # value, by bytes of the head

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    def whole(self) -> Any:
        """The one item that the data is."""
        item = self._item(0)
        if self._pos != len(self._data):
            raise BadMessage("bytes after the message")
        return item

    def _take(self, length: int) -> bytes:
        start, self._pos = self._pos, self._pos + length
        if self._pos > len(self._data):
            raise BadMessage("message ends within an item")
        return self._data[start:self._pos]

    def _head(self) -> tuple[int, int]:
        byte = self._take(1)[0]
        major, info = byte >> 5, byte & 31
        if info < 24:
            return major, info
        if info > 27:
            raise BadMessage("item of indefinite length or reserved form")
        size = 1 << (info - 24)
        value = int.from_bytes(self._take(size), "big")
        if value < (32 * (size == 1) if major == 7 else self._SMALLEST[size]):
            raise BadMessage("item not in shortest form")
        return major, value

    def _item(self, depth: int) -> Any:
        major, value = self._head()
        if major == 0:
            return value
        if major == 1:
            return -1 - value
        if major == 2:
            return self._take(value)
        if major == 3:
            try:
                return self._take(value).decode()
            except UnicodeDecodeError:
                raise BadMessage("text is not UTF-8") from None
        if major == 7:
            return Other()
        if depth == MAX_DEPTH:
            raise BadMessage("items nested too deeply")
        if major == 4:
            return [self._item(depth + 1) for _ in range(value)]
        if major == 5:
            pairs = [(self._item(depth + 1), self._item(depth + 1)) for _ in range(value)]
            return {key: item for key, item in pairs if isinstance(key, str)}
        self._item(depth + 1)
        return Other()


Check = Callable[[Any], Any]    # the field's value, or BadMessage


def _uint(value: Any, limit: int = 2**64 - 1) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise BadMessage("unsigned integer expected")
    return value


_uint32 = partial(_uint, limit=2**32 - 1)


def _int8(value: Any) -> int:
    if type(value) is not int or not -128 <= value <= 127:
        raise BadMessage("dBm expected")
    return value


def _bytes(value: Any, length: int | None = None) -> bytes:
    if not isinstance(value, bytes) or length not in (None, len(value)):
        raise BadMessage("byte string expected" + (f" of {length} bytes" if length else ""))
    return value


def _device_id(value: Any) -> uuid.UUID:
    return uuid.UUID(bytes=_bytes(value, 16))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadMessage("text expected")
    return value


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage("map expected")
    return value


def _info(value: Any) -> dict[str, Any]:
    _bytes(_map(value).get("run"), 8)
    return value


def _fields(values: Any, checks: tuple[Check, ...]) -> list[Any]:
    if not isinstance(values, list):
        raise BadMessage("array expected")
    if len(values) < len(checks):
        raise BadMessage("field missing")
    return [check(value) for check, value in zip(checks, values)]


def _list(value: Any, check: Check) -> list[Any]:
    if not isinstance(value, list):
        raise BadMessage("array expected")
    return [check(item) for item in value]


@dataclass(frozen=True)
class Sighting:
    """What a hotspot has heard of a device since it last said so."""

    device_id: uuid.UUID
    service_data: bytes
    first_age_ms: int
    last_age_ms: int
    count: int
    rssi_last: int
    rssi_min: int
    rssi_max: int
    state: int
    adapter: int


def _sighting(value: Any) -> Sighting:
    sighting = Sighting(*_fields(value, (
        _device_id, _bytes, _uint, _uint, _uint, _int8, _int8, _int8,
        partial(_uint, limit=LOST), _uint)))
    if sighting.first_age_ms < sighting.last_age_ms:
        raise BadMessage("last seen before first seen")
    if sighting.rssi_min > sighting.rssi_max:
        raise BadMessage("RSSI minimum over maximum")
    if sighting.count == 0 and sighting.state != LOST:
        raise BadMessage("sighting that counts nothing")
    return sighting


def _batch(value: Any) -> int:
    if _uint(value) == 0:
        raise BadMessage("batches count from 1")
    return value


_resume = partial(_list, check=partial(_fields, checks=(_uint32, _uint)))

FIELDS: dict[int, tuple[Check, ...]] = {
    HELLO: (_uint, partial(_bytes, length=16), partial(_bytes, length=65),
            partial(_bytes, length=64), _info, _resume),
    SIGHTINGS: (_batch, partial(_list, check=_sighting)),
    OPEN: (_uint32, _device_id, _bytes, partial(_uint, limit=1), _uint, _int8),
    DATA: (_uint32, _uint, _uint, _bytes),
    CREDIT: (_uint32, _uint32, _uint),
    CLOSE: (_uint32, _uint, _text),
    STATS: (_map,),
}


def decode(message: bytes | str) -> tuple[int, list[Any]]:
    """A message's type and checked fields; none for a type a hotspot does not send. Refused."""
    if isinstance(message, str):
        raise BadMessage("text message")
    if len(message) > MAX_MESSAGE:
        raise BadMessage(f"message of {len(message)} bytes")
    items = _Reader(message).whole()
    if not isinstance(items, list) or not items:
        raise BadMessage("not an array with a type")
    kind = _uint(items[0])
    if kind == HELLO and len(items) > 1 and _uint(items[1]) != VERSION:
        raise Refused(WRONG_VERSION, f"version {items[1]}")
    try:
        return kind, _fields(items[1:], FIELDS.get(kind, ()))
    except BadMessage as err:
        raise BadMessage(f"message {kind}: {err}") from None


def hotspot_id_of(public_key: bytes) -> uuid.UUID:
    """The UUIDv8 that belongs to a hotspot's key."""
    digest = bytearray(hashlib.sha256(public_key).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(digest))


def signed_bytes(nonce: bytes, hotspot_id: bytes, authority: str) -> bytes:
    """What a HELLO's signature covers."""
    return SUBPROTOCOL.encode() + b"\0" + nonce + hotspot_id + authority.encode()


def _signature_is_good(public_key: bytes, signature: bytes, covered: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        key.verify(encode_dss_signature(r, s), covered, ec.ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


# --- What lasts ---

class _Log:
    """JSON lines in a file, on the disk when append() returns. A torn last line is cut off."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        os.ftruncate(self._fd, end)
        self.entries = [json.loads(line) for line in data[:end].splitlines()]

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry."""
        line = memoryview(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        while line:
            line = line[os.write(self._fd, line):]
        os.fsync(self._fd)

    def close(self) -> None:
        """No more entries."""
        os.close(self._fd)


@dataclass
class Spotted:
    """What the cloud knows of a device by its adverts."""

    count: int = 0              # adverts, all hotspots
    reports: int = 0
    state: int = LOST
    service_data: bytes = b""
    rssi: int = 127             # dBm, 127 for not available
    hotspot_id: uuid.UUID | None = None     # of the last report

    @property
    def flags(self) -> int:
        """The first byte of the service data."""
        return self.service_data[0] if self.service_data else 0


class Store:
    """Sightings and device keys; without a directory they last as long as the object."""

    def __init__(self, directory: Path | None) -> None:
        self.devices: dict[uuid.UUID, Spotted] = {}
        self.device_keys: dict[uuid.UUID, bytes] = {}
        self._batches: set[tuple[uuid.UUID, bytes, int]] = set()
        self._sightings_log = self._keys_log = None
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            self._sightings_log = _Log(directory / "sightings.jsonl")
            self._keys_log = _Log(directory / "device-keys.jsonl")
            for entry in self._sightings_log.entries:
                self._count(uuid.UUID(entry["hotspot_id"]), bytes.fromhex(entry["run"]),
                            entry["batch"], map(_sighting_of_json, entry["sightings"]))
            for entry in self._keys_log.entries:
                key = bytes.fromhex(entry["public_key"])
                self.device_keys[uuid.UUID(entry["device_id"])] = key

    def add_batch(self, hotspot_id: uuid.UUID, run: bytes, batch: int,
                  sightings: list[Sighting]) -> bool:
        """Store a batch; False if it is there already."""
        if (hotspot_id, run, batch) in self._batches:
            return False
        if self._sightings_log:
            self._sightings_log.append({
                "hotspot_id": str(hotspot_id), "run": run.hex(), "batch": batch,
                "received_ms": int(time.time() * 1000),
                "sightings": [_json_of_sighting(s) for s in sightings]})
        self._count(hotspot_id, run, batch, sightings)
        return True

    def _count(self, hotspot_id: uuid.UUID, run: bytes, batch: int,
               sightings: Iterable[Sighting]) -> None:
        self._batches.add((hotspot_id, run, batch))
        for sighting in sightings:
            device = self.devices.setdefault(sighting.device_id, Spotted())
            device.count += sighting.count
            device.reports += 1
            device.state = sighting.state
            device.service_data = sighting.service_data
            device.rssi = sighting.rssi_last
            device.hotspot_id = hotspot_id

    def add_device_key(self, device_id: uuid.UUID, public_key: bytes) -> None:
        """Register a device's key, for good."""
        self.device_keys[device_id] = public_key
        if self._keys_log:
            self._keys_log.append({"device_id": str(device_id), "public_key": public_key.hex()})

    def close(self) -> None:
        """Close its files."""
        for log in (self._sightings_log, self._keys_log):
            if log:
                log.close()


def _json_of_sighting(sighting: Sighting) -> dict[str, Any]:
    return {**vars(sighting), "device_id": str(sighting.device_id),
            "service_data": sighting.service_data.hex()}


def _sighting_of_json(entry: dict[str, Any]) -> Sighting:
    return Sighting(**(entry | {"device_id": uuid.UUID(entry["device_id"]),
                                "service_data": bytes.fromhex(entry["service_data"])}))


# --- Sessions ---

class RelaySession:
    """One device's session through one hotspot.

    frames are those that came in where a raw handler has the session, as (channel, payload).
    """

    def __init__(self, hotspot: Hotspot, number: int, device_id: uuid.UUID, max_frame: int) -> None:
        self.hotspot = hotspot
        self.number = number
        self.device_id = device_id
        self.max_frame = max_frame
        self.frames: list[tuple[int, bytes]] = []
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self.next_in = self.next_out = 0        # seq
        self.credits_in = self.credits_out = hotspot.cloud.credits
        self.acknowledged = 0                   # of what went out, next_seq of the last CREDIT
        self.e2e: e2e.CloudSession | None = None
        self.ended = False
        self._accepted = False
        self._consumed = 0                      # frames whose credit was not given back
        self._queue: deque[tuple[int, bytes]] = deque()
        if not hotspot.cloud.raw_handler:
            self.e2e = e2e.CloudSession(hotspot.cloud.device_key, hotspot.cloud.known_key,
                                        max_frame, device_id)

    def accept(self) -> None:
        """Send ACCEPT and what waited for it."""
        if not self.ended:
            self._accepted = True
            self.hotspot.send(ACCEPT, self.number)
            self.grant()
            self._pump()

    def on_data(self, channel: int, seq: int, payload: bytes) -> None:
        """One frame from the device."""
        if channel > 1:
            return self.close(PROTOCOL_ERROR, f"channel {channel}")
        if seq != self.next_in:
            return self.close(PROTOCOL_ERROR, f"seq {seq} where {self.next_in} was due")
        if self.credits_in == 0:
            return self.close(PROTOCOL_ERROR, "frame without credit")
        self.credits_in -= 1
        self.next_in += 1
        self.frames_in += 1
        self.bytes_in += len(payload)
        if self.hotspot.cloud.raw_handler:
            self.frames.append((channel, payload))
            self.send_frames(self.hotspot.cloud.raw_handler(self, channel, payload), channel)
        elif channel == 0:
            self._take(payload)
        self._consumed += 1
        self.grant()

    def on_credit(self, credits: int, next_seq: int) -> None:
        """The hotspot takes more frames."""
        if not self.acknowledged <= next_seq <= self.next_out:
            return self.close(PROTOCOL_ERROR, f"next_seq {next_seq} of {self.next_out}")
        if self.credits_out + credits > 2**32 - 1:
            return self.close(PROTOCOL_ERROR, "too many credits")
        self.acknowledged = next_seq
        self.credits_out += credits
        self._pump()

    def _take(self, payload: bytes) -> None:
        """One frame for the end-to-end session."""
        assert self.e2e
        cloud, session = self.hotspot.cloud, self.e2e
        was_established, handled = session.established, len(session.messages)
        try:
            replies = session.receive(payload)
        except e2e.SessionError as err:
            self.close(REFUSED, f"end-to-end session: {err}")
            return
        self.send_frames(replies)
        if session.established and not was_established:
            if cloud.known_key(self.device_id) is None:
                cloud.store.add_device_key(self.device_id, session.public_key)
            cloud.emit("established", session=self.number, device_id=self.device_id)
        for request in session.messages[handled:]:
            cloud.emit("request", session=self.number, device_id=self.device_id, data=request)
            answer = cloud.handler(request)
            self.send_frames(session.send(answer))
            cloud.emit("answer", session=self.number, device_id=self.device_id, data=answer)
        if session.closed:
            self.close(DONE, "")

    def send_frames(self, frames: Iterable[bytes], channel: int = 0) -> None:
        """Queue frames for the device; they go as credits allow."""
        self._queue.extend((channel, frame) for frame in frames)
        self._pump()

    def _pump(self) -> None:
        while self._accepted and not self.ended and self._queue and self.credits_out:
            channel, payload = self._queue.popleft()
            self.hotspot.send(DATA, self.number, channel, self.next_out, payload)
            self.credits_out -= 1
            self.next_out += 1
            self.frames_out += 1
            self.bytes_out += len(payload)

    def grant(self, at_once: bool = False) -> None:
        """Give back the credits of consumed frames, by halves of the window."""
        cloud = self.hotspot.cloud
        due = 1 if at_once else max(1, cloud.credits // 2)
        if self._consumed >= due and self._accepted and not self.ended \
                and not cloud.withhold_credits:
            self.credits_in += self._consumed
            self.hotspot.send(CREDIT, self.number, self._consumed, self.next_in)
            self._consumed = 0

    def close(self, code: int, reason: str) -> None:
        """End the session with CLOSE."""
        if not self.ended:
            self.hotspot.send(CLOSE, self.number, code, reason)
            self.end(code, reason, "cloud")

    def end(self, code: int | None, reason: str, by: str) -> None:
        """The session is over: by "cloud", "hotspot", or "connection" (code None)."""
        self.ended = True
        self._queue.clear()
        self.hotspot.sessions.pop(self.number, None)
        self.hotspot.ended_sessions.add(self.number)
        self.hotspot.cloud.emit(
            "close", session=self.number, device_id=self.device_id, code=code, reason=reason,
            by=by, frames_in=self.frames_in, frames_out=self.frames_out,
            bytes_in=self.bytes_in, bytes_out=self.bytes_out)


class Hotspot:
    """One connection of a hotspot. hotspot_id and run are None and empty until its HELLO."""

    def __init__(self, cloud: Cloud, ws: Any) -> None:
        self.cloud = cloud
        self.ws = ws
        self.hotspot_id: uuid.UUID | None = None
        self.run = b""
        self.sessions: dict[int, RelaySession] = {}
        self.ended_sessions: set[int] = set()
        self._outbox: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._closing = False

    async def serve(self) -> None:
        """From the upgrade to the end of the connection."""
        writer = asyncio.create_task(self._write())
        try:
            self.cloud.emit("connected", address=self.ws.remote_address[0])
            await self._authenticate()
            while True:
                self._handle(*decode(await self._receive()))
        except ConnectionClosed:
            pass
        except Refused as err:
            event = "refused" if self.hotspot_id is None else "bad_message"
            self.cloud.emit(event, hotspot_id=self.hotspot_id, code=err.code, reason=str(err))
            await self.close(err.code, str(err))
        finally:
            writer.cancel()
            self._gone()

    def send(self, *message: Any) -> None:
        """Queue one message."""
        self.send_raw(cbor2.dumps(message))

    def send_raw(self, message: bytes | str) -> None:
        """Queue a message as it is."""
        self._outbox.put_nowait(message)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection; its sessions end."""
        self._closing = True
        await self.ws.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))

    def abort(self) -> None:
        """Reset the TCP connection."""
        self._closing = True
        self.ws.transport.abort()

    async def _write(self) -> None:
        try:
            while True:
                message = await self._outbox.get()
                self.cloud.record("out", message)
                await self.ws.send(message)
        except ConnectionClosed:
            pass

    async def _receive(self) -> bytes | str:
        message = await self.ws.recv()
        self.cloud.record("in", message)
        return message

    async def _authenticate(self) -> None:
        if self.ws.subprotocol != SUBPROTOCOL:
            raise Refused(WRONG_VERSION, f"subprotocol {SUBPROTOCOL} not offered")
        nonce = os.urandom(32)
        self.send(CHALLENGE, nonce, int(time.time() * 1000))
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await self._hello()
        except TimeoutError:
            raise Refused(NOT_AUTHENTICATED, "no HELLO") from None
        _, id_bytes, public_key, signature, info, _ = hello
        hotspot_id, authority = uuid.UUID(bytes=id_bytes), self._authority()
        if hotspot_id != hotspot_id_of(public_key):
            raise Refused(NOT_AUTHENTICATED, "hotspot_id is not of this key")
        if not _signature_is_good(public_key, signature,
                                  signed_bytes(nonce, id_bytes, authority)):
            raise Refused(NOT_AUTHENTICATED, f"signature is not good at {authority}")
        if self.cloud.allow is not None and hotspot_id not in self.cloud.allow:
            raise Refused(NOT_ALLOWED, f"hotspot {hotspot_id} is not allowed")
        if self.cloud.refuse_hello:
            raise Refused(self.cloud.refuse_hello, "refused as configured")
        self.hotspot_id, self.run = hotspot_id, info["run"]
        self.cloud.welcome(self)
        self.cloud.emit("hello", hotspot_id=hotspot_id, run=self.run,
                        agent=info.get("agent"), authority=authority)

    async def _hello(self) -> list[Any]:
        while True:
            kind, fields = decode(await self._receive())
            if kind == HELLO:
                return fields
            if kind in FIELDS:
                raise Refused(NOT_AUTHENTICATED, f"message {kind} before HELLO")

    def _authority(self) -> str:
        """The host:port it says it wants to reach."""
        ws = self.ws
        headers = ws.request.headers if hasattr(ws, "request") else ws.request_headers
        host = headers["Host"]
        authority = host if host.rpartition(":")[2].isdigit() else f"{host}:443"
        if self.cloud.authorities is not None and authority not in self.cloud.authorities:
            raise Refused(NOT_AUTHENTICATED, f"this is not {authority}")
        return authority

    def _handle(self, kind: int, fields: list[Any]) -> None:
        if kind == HELLO:
            raise BadMessage("HELLO again")
        if kind == SIGHTINGS:
            self._on_sightings(*fields)
        elif kind == OPEN:
            self._on_open(*fields)
        elif kind == STATS:
            self.cloud.emit("stats", hotspot_id=self.hotspot_id, counters=fields[0])
        elif kind in (DATA, CREDIT, CLOSE):
            self._on_session_message(kind, *fields)

    def _on_sightings(self, batch: int, sightings: list[Sighting]) -> None:
        cloud = self.cloud
        assert self.hotspot_id
        new = cloud.store.add_batch(self.hotspot_id, self.run, batch, sightings)
        if cloud.drop_before_ack:
            cloud.drop_before_ack = False
            self.abort()
        elif cloud.ack_sightings:
            self.send(SIGHTINGS_ACK, batch)
        cloud.emit("batch", hotspot_id=self.hotspot_id, run=self.run, batch=batch,
                   sightings=len(sightings), duplicate=not new)
        for sighting in sightings if new else ():
            cloud.emit("sighting", hotspot_id=self.hotspot_id, **vars(sighting))

    def _on_open(self, number: int, device_id: uuid.UUID, service_data: bytes, bearer: int,
                 max_frame: int, rssi: int) -> None:
        cloud = self.cloud
        cloud.emit("open", hotspot_id=self.hotspot_id, session=number, device_id=device_id,
                   service_data=service_data, bearer=bearer, max_frame=max_frame, rssi=rssi)
        if number in self.sessions:
            return self.sessions[number].close(PROTOCOL_ERROR, "opened twice")
        refusal = cloud.refusal(device_id, max_frame)
        if refusal:
            self.ended_sessions.add(number)
            self.send(CLOSE, number, *refusal)
            cloud.emit("close", session=number, device_id=device_id, code=refusal[0],
                       reason=refusal[1], by="cloud", frames_in=0, frames_out=0, bytes_in=0,
                       bytes_out=0)
            return
        session = self.sessions[number] = RelaySession(self, number, device_id, max_frame)
        if cloud.accept_delay_s:
            asyncio.get_running_loop().call_later(cloud.accept_delay_s, session.accept)
        else:
            session.accept()

    def _on_session_message(self, kind: int, number: int, *fields: Any) -> None:
        session = self.sessions.get(number)
        if session is None:
            # What was on its way when the session ended is no mistake.
            if kind != CLOSE and number not in self.ended_sessions:
                self.send(CLOSE, number, PROTOCOL_ERROR, "no such session")
        elif kind == DATA:
            session.on_data(*fields)
        elif kind == CREDIT:
            session.on_credit(*fields)
        else:
            code, reason = fields
            session.end(code, reason, "hotspot")

    def _gone(self) -> None:
        for session in list(self.sessions.values()):
            session.end(None, "connection lost", "connection")
        if self.hotspot_id and self.cloud.hotspots.get(self.hotspot_id) is self:
            del self.cloud.hotspots[self.hotspot_id]
        if self._closing or self.cloud.stopping:
            by = "cloud"
        else:
            by = "connection" if self.ws.close_code == 1006 else "hotspot"
        self.cloud.emit("disconnected", hotspot_id=self.hotspot_id, code=self.ws.close_code,
                        reason=self.ws.close_reason, by=by)


# --- The cloud ---

def reversed_request(request: bytes) -> bytes:
    """The default answer."""
    return request[::-1]


class Cloud:
    """A server for hotspots, and all it has seen.

    cert and key: PEM files. state: a directory to keep sightings, device keys and its own X25519
    key in; none keeps them as long as the object. settings: for WELCOME. allow: the hotspots that
    may connect, None for all. device_keys: public keys of devices known beforehand; others are
    trusted on first use. authorities: the names ("host:port") it answers to. None takes what the
    Host header says, which only a lab may: a server between hotspot and cloud could send any.
    handler makes the answer to a request. raw_handler (session, channel, payload) takes the frames
    instead of an end-to-end session, and returns the frames to send back.

    events are dicts with "event", "time" (Unix seconds) and the fields of the event, which on_event
    gets as well: connected, hello, refused, bad_message, replaced, batch, sighting, open,
    established, request, answer, close, stats, disconnected. raw: the WebSocket messages as ("in"
    or "out", message), if record_raw.

    Faults, to be set at any time:
      ack_sightings     False: batches are stored, not acknowledged
      drop_before_ack   the next batch is stored, and the connection reset
      refuse_hello      a WebSocket code that every HELLO gets
      refuse_devices    closed with code 3
      unserved_devices  closed with code 5
      accept_delay_s    between OPEN and ACCEPT
      withhold_credits  True: none are given back until release_credits()
    """

    def __init__(self, cert: Path, key: Path, *, host: str = "127.0.0.1", port: int = 0,
                 state: Path | None = None, device_key: X25519PrivateKey | None = None,
                 settings: dict[str, Any] | None = None, allow: set[uuid.UUID] | None = None,
                 device_keys: dict[uuid.UUID, bytes] | None = None,
                 authorities: set[str] | None = None,
                 handler: Callable[[bytes], bytes] = reversed_request,
                 raw_handler: Callable[[RelaySession, int, bytes], list[bytes]] | None = None,
                 on_event: Callable[[Event], None] | None = None, keep_events: bool = True,
                 record_raw: bool = False) -> None:
        self.host = host
        self.port = port                    # the one in use after start()
        self.state = state
        self.settings = {"credits": CREDITS, **(settings or {})}
        self.credits: int = self.settings["credits"]
        if self.credits < 1:
            raise ValueError("a session needs a credit")
        self.allow = allow
        self.authorities = authorities
        self.handler = handler
        self.raw_handler = raw_handler
        self.device_key = device_key or _device_key(state and state / "device.key")
        self.device_public_key = e2e.public_bytes(self.device_key)
        self.store = Store(None)
        self.hotspots: dict[uuid.UUID, Hotspot] = {}
        self.events: list[Event] = []
        self.raw: list[tuple[str, bytes | str]] = []
        self.stopping = False

        self.ack_sightings = True
        self.drop_before_ack = False
        self.refuse_hello: int | None = None
        self.refuse_devices: set[uuid.UUID] = set()
        self.unserved_devices: set[uuid.UUID] = set()
        self.accept_delay_s = 0.0
        self.withhold_credits = False

        self._provisioned = dict(device_keys or {})
        self._on_event = on_event
        self._keep_events = keep_events
        self._record_raw = record_raw
        self._connections: set[Hotspot] = set()
        self._waiting: set[tuple[Callable[[Event], bool], asyncio.Future[Event]]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Any = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(cert, key)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"wss://{self.host}:{self.port}/"

    async def start(self) -> None:
        """Listen; after stop() or kill() again, on the same port. OSError if that is taken."""
        if self.state:
            self.store = Store(self.state)
        self.stopping = False
        self._server = await websockets.serve(
            self._serve, self.host, self.port, ssl=self._tls, subprotocols=[SUBPROTOCOL],
            max_size=1 << 24, compression=None, close_timeout=2)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close all connections with 1001 and stop listening; nothing if it does not."""
        server, self._server = self._server, None
        if server:
            self.stopping = True
            server.close()
            await server.wait_closed()
            self.store.close()

    async def kill(self) -> None:
        """Reset all connections and stop listening: what kill -9 looks like from outside."""
        self.stopping = True
        for connection in self._connections:
            connection.abort()
        await self.stop()

    async def _serve(self, ws: Any) -> None:
        connection = Hotspot(self, ws)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def welcome(self, hotspot: Hotspot) -> None:
        """A hotspot has shown who it is; an older connection of it goes."""
        assert hotspot.hotspot_id
        older = self.hotspots.get(hotspot.hotspot_id)
        self.hotspots[hotspot.hotspot_id] = hotspot
        if older:
            self.emit("replaced", hotspot_id=hotspot.hotspot_id)
            task = asyncio.create_task(older.close(REPLACED, "replaced by a newer connection"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        hotspot.send(WELCOME, self.settings, [])

    def known_key(self, device_id: uuid.UUID) -> bytes | None:
        """The public key that this device must have."""
        return self._provisioned.get(device_id) or self.store.device_keys.get(device_id)

    def refusal(self, device_id: uuid.UUID, max_frame: int) -> tuple[int, str] | None:
        """Code and reason of the CLOSE a device gets instead of a session."""
        if device_id in self.refuse_devices:
            return REFUSED, "refused as configured"
        if device_id in self.unserved_devices:
            return NOT_SERVED, "not served here"
        if max_frame < e2e.MIN_FRAME and not self.raw_handler:
            return PROTOCOL_ERROR, f"max_frame of {max_frame} bytes"
        return None

    @property
    def sessions(self) -> list[RelaySession]:
        """All that are open."""
        return [s for hotspot in self.hotspots.values() for s in hotspot.sessions.values()]

    @property
    def devices(self) -> dict[uuid.UUID, Spotted]:
        """All that were ever spotted."""
        return self.store.devices

    def totals(self) -> dict[uuid.UUID, int]:
        """How many adverts of each device were reported, each batch counted once."""
        return {device_id: spotted.count for device_id, spotted in self.devices.items()}

    def send_raw(self, message: bytes | str) -> None:
        """Send a message, as it is, to every hotspot that was welcomed."""
        for hotspot in self.hotspots.values():
            hotspot.send_raw(message)

    def goaway(self, after_ms: int, reason: str = "") -> None:
        """Send every hotspot away."""
        for hotspot in self.hotspots.values():
            hotspot.send(GOAWAY, after_ms, reason)

    def release_credits(self) -> None:
        """The end of withhold_credits."""
        self.withhold_credits = False
        for session in self.sessions:
            session.grant(at_once=True)

    def record(self, direction: str, message: bytes | str) -> None:
        """Note a WebSocket message."""
        if self._record_raw:
            self.raw.append((direction, message))

    def emit(self, name: str, **fields: Any) -> None:
        """Note an event."""
        event = {"event": name, "time": time.time(), **fields}
        if self._keep_events:
            self.events.append(event)
        if self._on_event:
            self._on_event(event)
        for matches, future in list(self._waiting):
            if not future.done() and matches(event):
                future.set_result(event)

    def find(self, name: str, **fields: Any) -> list[Event]:
        """The events of a name with these fields, oldest first."""
        return [event for event in self.events if _matches(event, name, fields)]

    async def wait_for(self, name: str, timeout_s: float = 5.0, count: int = 1,
                       **fields: Any) -> Event:
        """The count-th event of a name with these fields, of all since it was made.

        TimeoutError if it does not come.
        """
        found = self.find(name, **fields)
        if len(found) >= count:
            return found[count - 1]
        missing = count - len(found)

        def matches(event: Event) -> bool:
            nonlocal missing
            missing -= _matches(event, name, fields)
            return missing == 0

        waiting = matches, asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting[1]
        finally:
            self._waiting.discard(waiting)


def _matches(event: Event, name: str, fields: dict[str, Any]) -> bool:
    return event["event"] == name and all(event.get(k) == v for k, v in fields.items())


def _device_key(path: Path | None) -> X25519PrivateKey:
    """The key in a file of 64 hex digits, which is made if it is not there."""
    if path is None:
        return X25519PrivateKey.generate()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = e2e.private_bytes(X25519PrivateKey.generate()).hex() + "\n"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))


# --- The program ---

def heard(request: bytes) -> bytes:
    """An answer for people."""
    return b"cloud heard: " + request


def describe(event: Event) -> str | None:
    """An event as a line for people; None for those that are of no interest to them."""
    name = event["event"]
    url = f"{URL_PREFIX}{event['device_id']}" if "device_id" in event else ""
    if name == "sighting":
        return f"spotted {url} rssi {event['rssi_last']} dBm {_flags(event['service_data'])} " \
               f"state {STATES[event['state']]}"
    if name == "open":
        return f"opened {url} session {event['session']} over {BEARERS[event['bearer']]}, " \
               f"frames of {event['max_frame']} bytes"
    if name in ("request", "answer"):
        return f"{name} {url} {len(event['data'])} bytes {_excerpt(event['data'])}"
    if name == "close":
        return f"closed {url} session {event['session']} by {event['by']} code {event['code']} " \
               f"{event['reason']}".rstrip()
    if name == "hello":
        return f"hotspot {event['hotspot_id']} connected, {event['agent']}"
    if name == "refused":
        return f"refused a hotspot, code {event['code']}: {event['reason']}"
    if name == "bad_message":
        return f"hotspot {event['hotspot_id']} sent a bad message: {event['reason']}"
    if name == "disconnected" and event["hotspot_id"]:
        return f"hotspot {event['hotspot_id']} disconnected, code {event['code']} " \
               f"{event['reason']}".rstrip()
    return None


def _flags(service_data: bytes) -> str:
    if not service_data:
        return "flags none"
    flags = service_data[0]
    return f"flags {flags:#04x}" + " asks" * bool(flags & ASKS) + " announces" * bool(
        flags & ANNOUNCES)


def _excerpt(data: bytes) -> str:
    text = data[:60].decode(errors="replace")
    return f'"{text}"' if text.isprintable() else data[:30].hex()


def _json_value(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _print_event(event: Event) -> None:
    line = describe(event)
    if line:
        print(line, flush=True)


def _print_json(event: Event) -> None:
    if "device_id" in event:
        event = {**event, "device_url": f"{URL_PREFIX}{event['device_id']}"}
    print(json.dumps(event, default=_json_value), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A cloud for blecon-hotspot, for tests and demos.")
    parser.add_argument("--listen", default="127.0.0.1:8443", metavar="HOST:PORT")
    parser.add_argument("--cert", type=Path, required=True, help="PEM file")
    parser.add_argument("--key", type=Path, required=True, help="PEM file")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device-key", type=Path, metavar="FILE",
                        help="the cloud's key for devices, made if missing (DIR/device.key)")
    parser.add_argument("--json", action="store_true", help="one JSON object for each event")
    parser.add_argument("--authority", action="append", metavar="HOST:PORT",
                        help="answer to this name only (repeatable)")
    parser.add_argument("--allow", action="append", type=uuid.UUID, metavar="HOTSPOT-ID",
                        help="admit this hotspot only (repeatable)")
    parser.add_argument("--refuse", action="append", type=uuid.UUID, default=[],
                        metavar="DEVICE-ID", help="open no session for this device (repeatable)")
    parser.add_argument("--heard", action="store_true",
                        help='answer "cloud heard: ..." instead of the request reversed')
    parser.add_argument("--hotspot-name", metavar="NAME")
    parser.add_argument("--report-ms", type=int, metavar="MS")
    parser.add_argument("--resume-ms", type=int, metavar="MS")
    parser.add_argument("--credits", type=int, default=CREDITS)
    return parser.parse_args()


async def _main(args: argparse.Namespace) -> None:
    host, _, port = args.listen.rpartition(":")
    settings = {name: getattr(args, name)
                for name in ("hotspot_name", "report_ms", "resume_ms", "credits")
                if getattr(args, name) is not None}
    cloud = Cloud(
        args.cert, args.key, host=host.strip("[]"), port=int(port), state=args.state,
        device_key=_device_key(args.device_key) if args.device_key else None, settings=settings,
        allow=set(args.allow) if args.allow else None,
        authorities=set(args.authority) if args.authority else None,
        handler=heard if args.heard else reversed_request,
        on_event=_print_json if args.json else _print_event, keep_events=False)
    cloud.refuse_devices = set(args.refuse)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await cloud.start()
    if args.json:
        _print_json({"event": "listening", "time": time.time(), "url": cloud.url,
                     "device_public_key": cloud.device_public_key})
    else:
        print(f"listening on {cloud.url}", flush=True)
        print(f"devices trust {cloud.device_public_key.hex()}", flush=True)
    await stop.wait()
    await cloud.stop()


if __name__ == "__main__":
    try:
        asyncio.run(_main(_arguments()))
    except OSError as err:
        sys.exit(f"cloud.py: {err}")
