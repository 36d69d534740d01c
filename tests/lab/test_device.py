# SPDX-License-Identifier: Apache-2.0
"""The lab's devices."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e
from device import EchoDevice, VirtualDevice

MIB = 1 << 20
CLOUD_KEY = X25519PrivateKey.generate()
CLOUD_PUBLIC = e2e.public_bytes(CLOUD_KEY)


def unknown(_device_id: uuid.UUID) -> None:
    """No device is registered."""


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
