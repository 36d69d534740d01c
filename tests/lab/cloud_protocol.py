# SPDX-License-Identifier: Apache-2.0
"""The messages of uplink/PROTOCOL.md as the lab's cloud takes them.

The protocol's constants, a strict CBOR reader, the check of each field, decode(), and what shows
that a hotspot is who it says.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

SUBPROTOCOL = "hotspot-relay.v1"
VERSION = 1
MAX_MESSAGE = 65536
MAX_DEPTH = 16              # of nested arrays, maps and tags
MAX_REASON = 123            # bytes, of a WebSocket close frame

CHALLENGE, HELLO, WELCOME = 1, 2, 3
SIGHTINGS, SIGHTINGS_ACK = 10, 11
OPEN, ACCEPT, DATA, CREDIT, CLOSE = 20, 21, 22, 23, 24
STATS, GOAWAY = 30, 31

BAD_MESSAGE, NOT_AUTHENTICATED, NOT_ALLOWED, REPLACED, WRONG_VERSION = 4400, 4401, 4403, 4409, 4426
DONE, REFUSED, NOT_SERVED, WINDOW_PASSED, PROTOCOL_ERROR = 0, 3, 5, 6, 8

STATES = ("appeared", "present", "lost")
LOST = 2
BEARERS = ("GATT", "L2CAP")
MAX_LABEL = 64              # bytes of a text of a location
MAX_SIGHTINGS = 100         # in a batch
MIN_FRAME = 20              # the least max_frame
MAX_FRAME = 512             # the greatest
MAX_FRAME_IN = 512          # bytes of the longest frame from a device
NO_RSSI = 127               # dBm: not available


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


class Map(dict[str, Any]):
    """A CBOR map, which may have keys that are no texts, or stand there twice: these are left out.
    """

    is_good = True              # it has no such keys


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
            return self._map(value, depth + 1)
        self._item(depth + 1)
        return Other()

    def _map(self, pairs: int, depth: int) -> Map:
        items = Map()
        for _ in range(pairs):
            key, value = self._item(depth), self._item(depth)
            if not isinstance(key, str) or key in items:
                items.is_good = False
            else:
                items[key] = value
        return items


Check = Callable[[Any], Any]    # the field's value, or BadMessage


def _uint(value: Any, limit: int = 2**64 - 1, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= limit:
        raise BadMessage("unsigned integer expected" + f" of at least {least}" * bool(least))
    return value


_uint32 = partial(_uint, limit=2**32 - 1)


def _int8(value: Any) -> int:
    if type(value) is not int or not -128 <= value <= 127:
        raise BadMessage("dBm expected")
    return value


def _degrees(value: Any, limit: int) -> int:
    if type(value) is not int or abs(value) > limit * 1_000_000:
        raise BadMessage("millionths of a degree expected")
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
    if not isinstance(value, Map):
        raise BadMessage("map expected")
    if not value.is_good:
        raise BadMessage("key that is no text, or stands there twice")
    return value


def _label(value: Any) -> str:
    if len(_text(value).encode()) > MAX_LABEL:
        raise BadMessage(f"label of over {MAX_LABEL} bytes")
    return value


LOCATION: dict[str, Check] = {
    "latitude_udeg": partial(_degrees, limit=90), "longitude_udeg": partial(_degrees, limit=180),
    "accuracy_m": _uint32, "floor": _label, "zone": _label, "name": _label}


def _location(value: Any) -> dict[str, Any]:
    location = {key: LOCATION[key](item) for key, item in _map(value).items() if key in LOCATION}
    if ("latitude_udeg" in location) != ("longitude_udeg" in location):
        raise BadMessage("half a position")
    return location


def _info(value: Any) -> dict[str, Any]:
    _bytes(_map(value).get("run"), 8)
    return value | {"location": _location(value["location"])} if "location" in value else value


def _counters(value: Any) -> dict[str, int]:
    return {name: _uint(counter) for name, counter in _map(value).items()}


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadMessage("array expected")
    return value


def _fields(values: Any, checks: tuple[Check, ...]) -> list[Any]:
    if len(_array(values)) < len(checks):
        raise BadMessage("field missing")
    return [check(value) for check, value in zip(checks, values)]


def _list(value: Any, check: Check) -> list[Any]:
    return [check(item) for item in _array(value)]


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
    rssi = sighting.rssi_min, sighting.rssi_last, sighting.rssi_max
    if not rssi[0] <= rssi[1] <= rssi[2]:
        raise BadMessage("RSSI out of order")
    if NO_RSSI in rssi and set(rssi) != {NO_RSSI}:
        raise BadMessage("RSSI is there in part")
    if sighting.count == 0 and sighting.state != LOST:
        raise BadMessage("sighting that counts nothing")
    return sighting


def _sightings(value: Any) -> list[Sighting]:
    if not 1 <= len(_array(value)) <= MAX_SIGHTINGS:
        raise BadMessage(f"{len(value)} sightings")
    return _list(value, _sighting)


def _resume(value: Any) -> dict[int, tuple[int, int]]:
    """next_seq and credits of each session."""
    entries = _list(value, partial(_fields, checks=(_uint32, _uint, _uint32)))
    resume = {number: (next_seq, credits) for number, next_seq, credits in entries}
    if len(resume) < len(entries):
        raise BadMessage("session listed twice")
    return resume


FIELDS: dict[int, tuple[Check, ...]] = {
    HELLO: (_uint, partial(_bytes, length=16), partial(_bytes, length=65),
            partial(_bytes, length=64), _info, _resume),
    SIGHTINGS: (partial(_uint, least=1), _sightings),
    OPEN: (_uint32, _device_id, _bytes, partial(_uint, limit=1),
           partial(_uint, least=MIN_FRAME, limit=MAX_FRAME), _int8,
           partial(_uint, least=1, limit=2)),
    DATA: (_uint32, _uint32, _uint, _bytes),
    CREDIT: (_uint32, _uint32, _uint),
    CLOSE: (_uint32, _uint32, _text),
    STATS: (_counters,),
}


def decode(message: bytes | str, greeted: bool = False) -> tuple[int, list[Any]]:
    """A message's type and checked fields; none for a type a hotspot does not send. Refused.

    greeted: there was a HELLO. Of the first the version counts before all else.
    """
    if isinstance(message, str):
        raise BadMessage("text message")
    if len(message) > MAX_MESSAGE:
        raise BadMessage(f"message of {len(message)} bytes")
    items = _Reader(message).whole()
    if not _array(items):
        raise BadMessage("no type")
    kind = _uint(items[0])
    if kind == HELLO and greeted:
        raise BadMessage("HELLO again")
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


def signature_is_good(public_key: bytes, signature: bytes, covered: bytes) -> bool:
    """Whether a HELLO's signature is by this key."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        key.verify(encode_dss_signature(r, s), covered, ec.ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True
