# SPDX-License-Identifier: Apache-2.0
"""Devices without cryptography, for tests that look at frames."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence

SERVICE_DATA = bytes.fromhex("3a04f2ea6ed6c0794602980dfce59cf19da20300")  # a real sample, idle
ASKS = 0x01
MAX_FRAME = 245


def frames_of_all_sizes(count: int) -> list[bytes]:
    """Random frames, from 1 to 245 bytes and then from 1 again."""
    return [os.urandom(1 + i % MAX_FRAME) for i in range(count)]


class FrameDevice:
    """Stands in for a VirtualDevice: sends its frames when a channel opens, keeps what comes in.

    frames are those to send, by channel. With `echo` it returns each frame. It asks for a
    connection until it was opened once.
    """

    def __init__(self, *frames: Sequence[bytes], l2cap: bool = False, echo: bool = False) -> None:
        self.l2cap = l2cap
        self.channels = len(frames)
        self.device_id = uuid.UUID(bytes=SERVICE_DATA[2:18])
        self.asks = True
        self.max_frame = 0  # of channel 0
        self.received_on: list[list[bytes]] = [[] for _ in frames]  # by channel, of all sessions
        self.closings = 0
        self.frames = frames
        self._echo = echo

    @property
    def service_data(self) -> bytes:
        return bytes([SERVICE_DATA[0] | ASKS * self.asks]) + SERVICE_DATA[1:]

    def opened(self, max_frame: int, channel: int = 0) -> Sequence[bytes]:
        self.asks = False
        if channel == 0:
            self.max_frame = max_frame
        return self.frames[channel]

    def received(self, frame: bytes, channel: int = 0) -> list[bytes]:
        self.received_on[channel].append(frame)
        return [frame] if self._echo else []

    def closed(self) -> None:
        self.closings += 1
