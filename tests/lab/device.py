# SPDX-License-Identifier: Apache-2.0
"""Devices without a radio: what they advertise and what they say. Pure: frames in, frames out.

What carries them (the simulated BlueZ, or radio_device.py) says which channels are open: opened(),
then received() for each frame there, and closed() when none is open any more. `l2cap` and
`channels` say what it may open: the PSMs or only GATT, channel 0 alone or channel 1 too.

VirtualDevice is what a Blecon device is to the relay, with the lab's end-to-end session (e2e.py)
inside. EchoDevice has no cryptography, for tests that look at frames.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e

URL_PREFIX = "https://blecon.dev/"
FLAGS = 0x3A                # of an idle device
ASKS = 0x01
ANNOUNCES = 0x04
TAIL = b"\x03\x00"


class _Advertised:
    """What is on the air. asks and announces may be set at any time."""

    def __init__(self, device_id: uuid.UUID, tx_power: int) -> None:
        self.device_id = device_id
        self.device_url = f"{URL_PREFIX}{device_id}"
        self.tx_power = tx_power            # dBm
        self.l2cap = False                  # takes the PSMs too
        self.channels = 2                   # 1: has channel 0 alone
        self.asks = False
        self.announces = False
        self.sessions = 0                   # how many times channel 0 was opened
        self.bearer = "gatt"                # or "l2cap": of what opens next
        self.opened_channels: list[tuple[str, int]] = []    # in order: (bearer, channel)
        self.answers: list[bytes] = []
        self.failed: str | None = None
        self.on_event: Callable[[str, dict], None] | None = None

    @property
    def service_data(self) -> bytes:
        """The 20 bytes of its advert."""
        flags = FLAGS | ASKS * self.asks | ANNOUNCES * self.announces
        power = self.tx_power.to_bytes(1, "big", signed=True)
        return bytes([flags]) + power + self.device_id.bytes + TAIL

    def _open(self, max_frame: int, channel: int) -> None:
        """Note it. The session is channel 0's."""
        self.opened_channels.append((self.bearer, channel))
        if channel == 0:
            self.sessions += 1
            self.asks = self.announces = False
            self._event("session_open", max_frame=max_frame, bearer=self.bearer)

    def _event(self, name: str, **details: object) -> None:
        if self.on_event:
            self.on_event(name, details)


class VirtualDevice(_Advertised):
    """A device with requests for its cloud, one after the other, each until it is answered.

    All is on channel 0; it has nothing to say on channel 1.

    Its Device ID and key are made on first boot and kept in state_path; a second boot, of the same
    state_path, has the same. ValueError if that file is not one, or is another device's than
    device_id.

    answers are in the order of their requests. failed says why the last session was rejected, None
    again once one is established. Events: session_open, established, request_sent, answer, closed,
    rejected.
    """

    def __init__(self, cloud_public_key: bytes, state_path: Path | None = None, tx_power: int = 4,
                 device_id: uuid.UUID | None = None) -> None:
        self.identity = _identity(state_path, device_id)
        super().__init__(self.identity.device_id, tx_power)
        self.finished = False               # all requests answered and bye said
        self.session: e2e.DeviceSession | None = None
        self._cloud_public_key = cloud_public_key
        self._requests: list[bytes] = []    # without an answer
        self._in_flight = False             # the first of them is sent

    def ask(self, request: bytes) -> None:
        """Queue a request of at most 1 MiB; it goes out in the session there is, or in the next."""
        self._requests.append(request)
        self.finished = False
        self.asks = self.session is None

    def opened(self, max_frame: int, channel: int = 0) -> list[bytes]:
        """A channel is open, for frames up to max_frame bytes. The frames to send there."""
        self._open(max_frame, channel)
        if channel != 0:
            return []
        self._in_flight = False
        self.session = e2e.DeviceSession(self.identity, self._cloud_public_key, max_frame)
        return self.session.start()

    def received(self, frame: bytes, channel: int = 0) -> list[bytes]:
        """A frame came. The frames to send on its channel."""
        session = self.session
        if session is None or session.closed or channel != 0:
            return []
        was_established = session.established
        n_answers = len(session.messages)
        try:
            frames = session.receive(frame)
            if len(session.messages) > n_answers:
                self._take_answer(session.messages[-1])
        except e2e.SessionError as err:
            session.closed = True
            self.failed = str(err)
            self._event("rejected", reason=self.failed)
            return [e2e.ABORT_FRAME]
        if session.established and not was_established:
            self.failed = None
            self._event("established")
        if session.established and not self._in_flight:
            frames += self._next(session)
        return frames

    def closed(self) -> None:
        """The link is gone. It asks again if requests are unanswered."""
        self.session = None
        self.asks = bool(self._requests)
        self._event("closed", unanswered=len(self._requests))

    def _take_answer(self, answer: bytes) -> None:
        if not self._in_flight:
            raise e2e.FormatError("an answer to no request")
        self._in_flight = False
        del self._requests[0]
        self.answers.append(answer)
        self._event("answer", answer=answer)

    def _next(self, session: e2e.DeviceSession) -> list[bytes]:
        if not self._requests:
            self.finished = True
            return session.bye()
        self._in_flight = True
        self._event("request_sent", request=self._requests[0])
        return session.send(self._requests[0])


class EchoDevice(_Advertised):
    """A device that sends frames of the given sizes when opened, and records what comes back.

    With echo it sends back each frame that comes, on the channel it came on. sent_on and
    received_on have the frames by channel; sent and answers are those of channel 0.
    """

    def __init__(self, sizes: Iterable[int] = (), echo: bool = False, tx_power: int = 4,
                 device_id: uuid.UUID | None = None) -> None:
        super().__init__(device_id or uuid.uuid4(), tx_power)
        self.echo = echo
        self.sent: list[bytes] = []
        self.sent_on = {0: self.sent, 1: []}
        self.received_on = {0: self.answers, 1: []}
        self._frames: dict[int, list[bytes]] = {0: [], 1: []}
        for number, size in enumerate(sizes):
            self.ask(bytes((number + i) & 0xFF for i in range(size)))

    @property
    def finished(self) -> bool:
        """All that it had to send went out, and as much came back."""
        return not any(self._frames.values()) and all(
            len(self.received_on[n]) >= len(self.sent_on[n]) for n in self.sent_on)

    def ask(self, request: bytes, channel: int = 0) -> None:
        """Queue a frame for the next time that channel is opened."""
        self._frames[channel].append(request)
        self.asks = True

    def opened(self, max_frame: int, channel: int = 0) -> list[bytes]:
        """A channel is open. The frames to send, of the sizes given whatever max_frame is."""
        self._open(max_frame, channel)
        frames, self._frames[channel] = self._frames[channel], []
        self.sent_on[channel] += frames
        return frames

    def received(self, frame: bytes, channel: int = 0) -> list[bytes]:
        """A frame came. The frames to send on its channel."""
        self.received_on[channel].append(frame)
        self._event("answer", answer=frame, channel=channel)
        return [frame] if self.echo else []

    def closed(self) -> None:
        """The link is gone."""
        self._event("closed", unanswered=0)


def _identity(path: Path | None, device_id: uuid.UUID | None) -> e2e.Identity:
    if path is None or not path.exists():
        identity = e2e.Identity(device_id or uuid.uuid4())
        if path:
            _save(path, identity)
        return identity
    try:
        state = json.loads(path.read_text())
        identity = e2e.Identity(
            uuid.UUID(state["device_id"]),
            X25519PrivateKey.from_private_bytes(bytes.fromhex(state["private_key"])))
    except (ValueError, TypeError, KeyError) as err:
        raise ValueError(f"{path}: not a device's state: {err}") from err
    if device_id not in (None, identity.device_id):
        raise ValueError(f"{path}: of device {identity.device_id}")
    return identity


def _save(path: Path, identity: e2e.Identity) -> None:
    """Write the state file, readable by the owner only, so that it is there whole or not at all."""
    state = {"device_id": str(identity.device_id),
             "private_key": e2e.private_bytes(identity.key).hex()}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
