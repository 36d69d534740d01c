# SPDX-License-Identifier: Apache-2.0
"""The lab's end-to-end session."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e

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
