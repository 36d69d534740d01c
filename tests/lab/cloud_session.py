# SPDX-License-Identifier: Apache-2.0
"""The sessions of the lab's cloud: frames, credits, and how they outlive a connection."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import e2e
from cloud_protocol import (
    ACCEPT, CLOSE, CREDIT, DATA, DONE, MAX_FRAME_IN, PROTOCOL_ERROR, REFUSED, WINDOW_PASSED)

if TYPE_CHECKING:
    from cloud_hotspot import Hotspot


class RelaySession:
    """One device's session, through whichever connection its hotspot has, or none for a while.

    Channel 0 has the end-to-end session, but where the session is raw: then it is left to
    raw_handler and to the test, as channel 1 is. received has what came on each channel, and frames
    the same in order, as (channel, payload), both without what the end-to-end session took.

    hotspot is the connection, None while suspended; cloud the one it was last connected to.
    """

    def __init__(self, hotspot: Hotspot, number: int, device_id: uuid.UUID, max_frame: int,
                 channels: int = 1) -> None:
        cloud = hotspot.cloud
        self.cloud = cloud
        self.hotspot: Hotspot | None = hotspot
        self.hotspot_id = hotspot.hotspot_id
        self.number = number
        self.device_id = device_id
        self.max_frame = max_frame
        self.channels = channels
        self.received: dict[int, list[bytes]] = {channel: [] for channel in range(channels)}
        self.frames: list[tuple[int, bytes]] = []
        # Each frame counts once, however often it was sent.
        self.frames_in = self.frames_out = self.bytes_in = self.bytes_out = 0
        self.resent = 0                         # frames that were sent again
        self.next_in = self.next_out = 0        # seq; next_out goes back where frames go again
        self.window = cloud.credits             # initial credits
        self.credits_in = self.credits_out = self.window
        self.acknowledged = 0                   # of what went out, the last next_seq
        self.held = False
        self.ended = False
        raw = cloud.raw_handler or device_id in cloud.raw_devices
        self.e2e = None if raw else e2e.CloudSession(cloud.device_key, cloud.known_key, max_frame,
                                                     device_id)
        self._known = hotspot.known
        self._accepted = False
        self._accept_sent = False
        self._consumed = 0                      # frames whose credit was not given back
        # From seq `acknowledged` on: what may have to be sent again, then what was not sent yet.
        self._out: deque[tuple[int, bytes]] = deque()
        self._window_end: asyncio.TimerHandle | None = None

    @property
    def suspended(self) -> bool:
        """It waits for its hotspot to connect again."""
        return self.hotspot is None and not self.ended

    # --- From the hotspot ---

    def on_data(self, channel: int, seq: int, payload: bytes) -> None:
        """One frame from the device."""
        if channel >= self.channels:
            return self.close(PROTOCOL_ERROR, f"channel {channel}")
        if len(payload) > MAX_FRAME_IN:
            return self.close(PROTOCOL_ERROR, f"frame of {len(payload)} bytes")
        if seq != self.next_in:
            return self.close(PROTOCOL_ERROR, f"seq {seq} where {self.next_in} was due")
        if self.credits_in == 0:
            return self.close(PROTOCOL_ERROR, "frame without credit")
        self.credits_in -= 1
        self.next_in += 1
        self._deliver(channel, seq, payload)
        self._consumed += 1
        self.grant()

    def on_credit(self, credits: int, next_seq: int) -> None:
        """The hotspot takes more frames."""
        if not self.acknowledged <= next_seq <= self.next_out:
            return self.close(PROTOCOL_ERROR, f"next_seq {next_seq} of {self.next_out}")
        if self.credits_out + credits > 2**32 - 1:
            return self.close(PROTOCOL_ERROR, "too many credits")
        self._acknowledge(next_seq)
        self.credits_out += credits
        self._pump()

    def _acknowledge(self, next_seq: int) -> None:
        for _ in range(next_seq - self.acknowledged):
            self._out.popleft()
        self.acknowledged = next_seq

    def _deliver(self, channel: int, seq: int, payload: bytes) -> None:
        assert seq == self.frames_in, f"seq {seq} delivered after {self.frames_in} frames"
        self.frames_in += 1
        self.bytes_in += len(payload)
        if self.e2e and channel == 0:
            return self._take(self.e2e, payload)
        self.frames.append((channel, payload))
        self.received[channel].append(payload)
        if self.e2e:
            # The lab's convention, to the protocol all frames are alike: channel 1 is an echo, cut
            # to what the device can take.
            # An empty one a device may send, and not get.
            self.send_frames([payload[:self.max_frame]] if payload else [], channel)
        elif self.cloud.raw_handler:
            self.send_frames(self.cloud.raw_handler(self, channel, payload), channel)

    def _take(self, session: e2e.CloudSession, payload: bytes) -> None:
        """One frame for the end-to-end session."""
        cloud = self.cloud
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

    # --- To the hotspot ---

    def accept(self) -> None:
        """Send ACCEPT and what waited for it."""
        if not self.ended:
            self._accepted = True
            self._send_accept()
            self.grant()
            self._pump()

    def _send_accept(self) -> None:
        if self.hotspot and self._accepted and not self._accept_sent:
            self._accept_sent = True
            self.hotspot.send(ACCEPT, self.number)

    def send_frames(self, frames: Iterable[bytes], channel: int = 0) -> None:
        """Queue frames for the device; they go as credits allow."""
        if not self.ended:
            self._out.extend((channel, frame) for frame in frames)
            self._pump()

    def _pump(self) -> None:
        while self.hotspot and self._accepted and not self.ended and self.credits_out \
                and self.next_out - self.acknowledged < len(self._out):
            channel, payload = self._out[self.next_out - self.acknowledged]
            self.hotspot.send(DATA, self.number, channel, self.next_out, payload)
            if self.next_out == self.frames_out:
                self.frames_out += 1
                self.bytes_out += len(payload)
            else:
                self.resent += 1
            self.credits_out -= 1
            self.next_out += 1

    def hold(self, held: bool = True) -> None:
        """Give no credits back; hold(False) gives those that are due by then."""
        self.held = held
        self.grant()

    def grant(self) -> None:
        """Give back the credits of consumed frames, by halves of the window."""
        if self._consumed < max(1, self.window // 2) or not self._accepted or self.ended \
                or self.held or self.cloud.withhold_credits:
            return
        credits, self._consumed = self._consumed, 0
        self.credits_in += credits
        if self.hotspot:            # without one, the next WELCOME says it
            self.hotspot.send(CREDIT, self.number, credits, self.next_in)

    # --- Connections that come and go ---

    def suspend(self) -> None:
        """The connection is gone. Wait for the next, for as long as the cloud keeps sessions."""
        self.hotspot = None
        window_ms = self.cloud.resume_ms
        if not window_ms:
            return self.end(None, "connection lost", "connection")
        self._window_end = asyncio.get_running_loop().call_later(
            window_ms / 1000, self.end, WINDOW_PASSED, "the resume window has passed", "cloud")
        self.cloud.emit("suspended", session=self.number, device_id=self.device_id,
                        hotspot_id=self.hotspot_id)

    @property
    def resume_entry(self) -> list[int]:
        """What WELCOME says of it."""
        return [self.number, self.next_in, self.credits_in]

    def resume(self, hotspot: Hotspot, next_seq: int, credits: int) -> None:
        """Both sides have it: go on, after WELCOME, with what the hotspot's list asks for."""
        assert self.suspended
        self._cancel_window()
        self.cloud, self.hotspot = hotspot.cloud, hotspot
        if not self.acknowledged <= next_seq <= self.frames_out:
            return self.close(PROTOCOL_ERROR, f"resumed at {next_seq} of {self.frames_out}, "
                                              f"after {self.acknowledged}")
        self._acknowledge(next_seq)
        self.next_out = next_seq
        self.credits_out = credits
        self.cloud.emit("resumed", session=self.number, device_id=self.device_id,
                        hotspot_id=self.hotspot_id, resent=self.frames_out - next_seq)
        # If ACCEPT was lost, being listed says as much; it comes only where it was not sent at all.
        self._send_accept()
        self._pump()

    def close(self, code: int, reason: str) -> None:
        """End the session with CLOSE; while suspended, without: the next WELCOME lacks it."""
        if self.hotspot and not self.ended:
            self.hotspot.send(CLOSE, self.number, code, reason)
        self.end(code, reason, "cloud")

    def end(self, code: int | None, reason: str, by: str) -> None:
        """The session is over: by "cloud", "hotspot", or "connection". code: None without CLOSE."""
        if self.ended:
            return
        self.ended = True
        self.hotspot = None
        self._cancel_window()
        self._out.clear()
        self._known.sessions.pop(self.number, None)
        self.cloud.emit(
            "close", session=self.number, device_id=self.device_id, code=code, reason=reason,
            by=by, frames_in=self.frames_in, frames_out=self.frames_out,
            bytes_in=self.bytes_in, bytes_out=self.bytes_out)

    def _cancel_window(self) -> None:
        if self._window_end:
            self._window_end.cancel()
            self._window_end = None


class KnownRun:
    """What the cloud knows of one run of a hotspot's program."""

    def __init__(self, run: bytes) -> None:
        self.run = run
        self.connection: Hotspot | None = None
        self.sessions: dict[int, RelaySession] = {}     # that are not over
        self.numbers: set[int] = set()                  # used by any session, refused ones too

    def detach(self) -> None:
        """The connection is gone, or given up for a newer one."""
        self.connection = None
        for session in list(self.sessions.values()):
            session.suspend()


class SessionTable:
    """The sessions, by hotspot. Clouds that share a table take over each other's."""

    def __init__(self) -> None:
        self._known: dict[uuid.UUID, KnownRun] = {}

    @property
    def sessions(self) -> list[RelaySession]:
        """All that are not over."""
        return [s for known in self._known.values() for s in known.sessions.values()]

    def attach(self, hotspot: Hotspot) -> Hotspot | None:
        """A hotspot has shown who it is. The older connection it had, from now on without sessions.

        Of the sessions those stay, suspended, that the hotspot lists as well.
        """
        assert hotspot.hotspot_id
        known, older = self._known.get(hotspot.hotspot_id), None
        if known and known.connection:
            older = known.connection
            known.detach()
        if known is None or known.run != hotspot.run:
            for session in list(known.sessions.values()) if known else ():
                session.end(None, "the hotspot has started again", "hotspot")
            known = self._known[hotspot.hotspot_id] = KnownRun(hotspot.run)
        for session in list(known.sessions.values()):
            if session.number not in hotspot.resume:
                session.end(None, "not listed by the hotspot", "hotspot")
        known.connection, hotspot.known = hotspot, known
        return older

    def end_all(self, reason: str) -> None:
        """Forget everything: a cloud that is gone."""
        for session in self.sessions:
            session.end(None, reason, "cloud")
        self._known.clear()
