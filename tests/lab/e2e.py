# SPDX-License-Identifier: Apache-2.0
"""The end-to-end encrypted session between a device and the cloud. Pure: frames in, frames out.

Both prove their static X25519 key (S); the relay between them sees sizes and the Device ID only.
E is an ephemeral key, R are 32 random bytes, | is concatenation.

    device                                                   cloud
    HELLO   version | Device ID | S_d | E_d | R_d    ------>
            <------    REPLY   E_c | R_c | HMAC(m_c, salt)
    FINISH  HMAC(m_d, salt)                          ------>
    records under k_d                                <----->   records under k_c

    secret             = X25519(E_d, E_c) | X25519(E_d, S_c) | X25519(S_d, E_c)
    salt               = SHA-256(label | S_c | HELLO | E_c | R_c)
    k_d, k_c, m_d, m_c = HKDF-SHA256(secret, salt, label)

The first frame of a handshake message starts with its type (1 byte) and length (2), further frames
are its bytes. The length is fixed by the type, so whatever is wrong with it shows at once. After
the handshake each frame is one ChaCha20-Poly1305 record, its nonce the count of the records before
it. A message is kind (1) | length (3) | content, cut into records; each starts a record of its own.

All numbers are big-endian, all lengths bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat, PublicFormat)

LABEL = b"hotspot-lab e2e v1\0"
VERSION = 1
MIN_FRAME = 20              # ATT's default MTU of 23 less 3: a record of 4 bytes, a message's head
MAX_FRAME = 512
MAX_MESSAGE = 1 << 20
TAG = 16
HEAD = 4                    # of a message

HELLO, REPLY, FINISH, ABORT = 1, 2, 3, 4
LENGTH = {HELLO: 1 + 16 + 3 * 32, REPLY: 3 * 32, FINISH: 32}
REQUEST, ANSWER, BYE = 1, 2, 3
ABORT_FRAME = bytes([ABORT, 0, 0])  # the device gives up; it is no record either


class SessionError(Exception):
    """What came ends the session."""


class FormatError(SessionError):
    """Wrong length, type or order of messages."""


class AuthenticationError(SessionError):
    """Not from the other side, not for this session, or not in this place of it."""


class KeyChangedError(SessionError):
    """The Device ID is known with another key, or is not the one announced."""


class AbortError(SessionError):
    """The device rejected the session."""


class ClosedError(SessionError):
    """There is no session: not yet, or not any more."""


def public_bytes(key: X25519PrivateKey) -> bytes:
    """The 32 bytes of its public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def private_bytes(key: X25519PrivateKey) -> bytes:
    """The 32 bytes to be kept secret."""
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


@dataclass(frozen=True)
class Identity:
    """Who a device is."""

    device_id: uuid.UUID = field(default_factory=uuid.uuid4)
    key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)


class _Direction:
    """Records one way."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._count = 0

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._count - 1).to_bytes(12, "big")

    def seal(self, data: bytes) -> bytes:
        """The record of data."""
        return self._aead.encrypt(self._nonce(), data, None)

    def open(self, record: bytes) -> bytes:
        """The data of the next record."""
        if len(record) <= TAG:
            raise FormatError("record too short")
        try:
            return self._aead.decrypt(self._nonce(), record, None)
        except InvalidTag:
            raise AuthenticationError("record does not authenticate") from None


class _Schedule:
    """Keys and confirmations of one session, the same at both ends."""

    def __init__(self, secrets: list[bytes], transcript: bytes) -> None:
        self._salt = hashlib.sha256(LABEL + transcript).digest()
        keys = HKDF(SHA256(), 128, self._salt, LABEL).derive(b"".join(secrets))
        self.device, self.cloud = _Direction(keys[:32]), _Direction(keys[32:64])
        self.device_confirm = self._confirm(keys[64:96])
        self.cloud_confirm = self._confirm(keys[96:])

    def _confirm(self, key: bytes) -> bytes:
        return hmac.digest(key, self._salt, "sha256")


def _exchange(own: X25519PrivateKey, other: bytes) -> bytes:
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:
        raise AuthenticationError("not a usable public key") from None


class _Session:
    """What both ends have in common.

    max_frame limits what this end sends; it takes frames up to MAX_FRAME. messages are the
    plaintexts received, sent those sent. receive() raises a SessionError for what is rejected, and
    closed is True from then on.
    """

    _accepts: tuple[int, ...]
    _expected: int              # handshake message

    def __init__(self, max_frame: int) -> None:
        if max_frame < MIN_FRAME:
            raise ValueError(f"frames of {max_frame} bytes: {MIN_FRAME} are needed")
        self.max_frame = min(max_frame, MAX_FRAME)
        self.established = False
        self.closed = False
        self.messages: list[bytes] = []
        self.sent: list[bytes] = []
        self._handshake_bytes = b""
        self._kind = self._length = 0
        self._content: bytearray | None = None
        self._out: _Direction
        self._in: _Direction

    def receive(self, frame: bytes) -> list[bytes]:
        """Take one frame; the frames to send back."""
        if self.closed:
            raise ClosedError("the session is over")
        try:
            if not 0 < len(frame) <= MAX_FRAME:
                raise FormatError(f"frame of {len(frame)} bytes")
            if self.established:
                self._take_record(self._in.open(frame))
                return []
            self._handshake_bytes += frame
            return self._take_handshake()
        except SessionError:
            self.closed = True
            raise

    def _take_handshake(self) -> list[bytes]:
        data, length = self._handshake_bytes, LENGTH[self._expected]
        head = bytes([self._expected]) + length.to_bytes(2, "big")
        if data[:3] != head:
            raise FormatError(f"not the start of handshake message {self._expected}")
        if len(data) < 3 + length:
            return []
        if len(data) > 3 + length:
            raise FormatError(f"handshake message {self._expected} is too long")
        self._handshake_bytes = b""
        return self._on_handshake(data[3:])

    def _on_handshake(self, body: bytes) -> list[bytes]:
        raise NotImplementedError

    def _take_record(self, data: bytes) -> None:
        if self._content is None:
            if len(data) < HEAD:
                raise FormatError("message without its head")
            self._kind, self._length = data[0], int.from_bytes(data[1:HEAD], "big")
            if self._kind not in self._accepts:
                raise FormatError(f"message of kind {self._kind}")
            if self._length > (0 if self._kind == BYE else MAX_MESSAGE):
                raise FormatError(f"message of {self._length} bytes")
            self._content, data = bytearray(), data[HEAD:]
        self._content += data
        if len(self._content) > self._length:
            raise FormatError("message longer than announced")
        if len(self._content) == self._length:
            content, self._content = bytes(self._content), None
            if self._kind == BYE:
                self.closed = True
            else:
                self.messages.append(content)

    def _handshake_frames(self, kind: int, body: bytes) -> list[bytes]:
        return self._cut(bytes([kind]) + LENGTH[kind].to_bytes(2, "big") + body, self.max_frame)

    def _send(self, kind: int, content: bytes) -> list[bytes]:
        if self.closed or not self.established:
            raise ClosedError("no session to send in")
        if len(content) > MAX_MESSAGE:
            raise ValueError(f"message of {len(content)} bytes")
        data = bytes([kind]) + len(content).to_bytes(3, "big") + content
        return [self._out.seal(part) for part in self._cut(data, self.max_frame - TAG)]

    @staticmethod
    def _cut(data: bytes, size: int) -> list[bytes]:
        return [data[i:i + size] for i in range(0, len(data), size)]


class DeviceSession(_Session):
    """The device's end. start() first, then receive() until established."""

    _accepts = (ANSWER,)
    _expected = REPLY

    def __init__(self, identity: Identity, cloud_public_key: bytes, max_frame: int) -> None:
        super().__init__(max_frame)
        self._identity = identity
        self._cloud_key = cloud_public_key
        self._ephemeral = X25519PrivateKey.generate()
        self._hello = b"".join([
            bytes([VERSION]), identity.device_id.bytes, public_bytes(identity.key),
            public_bytes(self._ephemeral), os.urandom(32)])

    def start(self) -> list[bytes]:
        """The frames that open the session."""
        return self._handshake_frames(HELLO, self._hello)

    def _on_handshake(self, body: bytes) -> list[bytes]:
        ephemeral, confirm = body[:32], body[64:]
        keys = _Schedule(
            [_exchange(self._ephemeral, ephemeral), _exchange(self._ephemeral, self._cloud_key),
             _exchange(self._identity.key, ephemeral)],
            self._cloud_key + self._hello + body[:64])
        if not hmac.compare_digest(confirm, keys.cloud_confirm):
            raise AuthenticationError("not the cloud this device trusts")
        self._out, self._in = keys.device, keys.cloud
        self.established = True
        return self._handshake_frames(FINISH, keys.device_confirm)

    def send(self, message: bytes) -> list[bytes]:
        """The frames of a request of at most MAX_MESSAGE bytes."""
        frames = self._send(REQUEST, message)
        self.sent.append(message)
        return frames

    def bye(self) -> list[bytes]:
        """The frames that end the session."""
        frames = self._send(BYE, b"")
        self.closed = True
        return frames


class CloudSession(_Session):
    """The cloud's end. closed without an error means that the device said bye.

    lookup gives the public key registered for a Device ID, or None where the first key is to be
    trusted; once established, the caller registers public_key for device_id. Where the relay has
    announced a device, it must be that one.
    """

    _accepts = (REQUEST, BYE)
    _expected = HELLO

    def __init__(self, cloud_key: X25519PrivateKey, lookup: Callable[[uuid.UUID], bytes | None],
                 max_frame: int, announced: uuid.UUID | None = None) -> None:
        super().__init__(max_frame)
        self.device_id: uuid.UUID | None = None     # claimed until established
        self.public_key = b""
        self._cloud_key = cloud_key
        self._lookup = lookup
        self._announced = announced
        self._keys: _Schedule

    def receive(self, frame: bytes) -> list[bytes]:
        """Take one frame; the frames to send back."""
        if frame == ABORT_FRAME and not self.closed:
            self.closed = True
            raise AbortError("the device rejected the session")
        return super().receive(frame)

    def _on_handshake(self, body: bytes) -> list[bytes]:
        return self._on_hello(body) if self._expected == HELLO else self._on_finish(body)

    def _on_hello(self, body: bytes) -> list[bytes]:
        if body[0] != VERSION:
            raise FormatError(f"version {body[0]}")
        self.device_id, self.public_key = uuid.UUID(bytes=body[1:17]), body[17:49]
        if self._announced not in (None, self.device_id):
            raise KeyChangedError("not the device that was announced")
        self._check_key()
        ephemeral = X25519PrivateKey.generate()
        reply = public_bytes(ephemeral) + os.urandom(32)
        self._keys = _Schedule(
            [_exchange(ephemeral, body[49:81]), _exchange(self._cloud_key, body[49:81]),
             _exchange(ephemeral, self.public_key)],
            public_bytes(self._cloud_key) + body + reply)
        self._expected = FINISH
        return self._handshake_frames(REPLY, reply + self._keys.cloud_confirm)

    def _on_finish(self, body: bytes) -> list[bytes]:
        if not hmac.compare_digest(body, self._keys.device_confirm):
            raise AuthenticationError("the device does not have the key it showed")
        self._check_key()
        self._out, self._in = self._keys.cloud, self._keys.device
        self.established = True
        return []

    def _check_key(self) -> None:
        assert self.device_id
        if self._lookup(self.device_id) not in (None, self.public_key):
            raise KeyChangedError(f"{self.device_id} is known with another key")

    def send(self, message: bytes) -> list[bytes]:
        """The frames of an answer of at most MAX_MESSAGE bytes."""
        frames = self._send(ANSWER, message)
        self.sent.append(message)
        return frames
