# SPDX-License-Identifier: Apache-2.0
"""What happens in the lab's cloud: the events, waiting for them, and how they are printed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from cloud_protocol import BEARERS, STATES
from device import ANNOUNCES, ASKS, URL_PREFIX

Event = dict[str, Any]


class EventLog:
    """The events so far, where they are kept, and those who wait for more."""

    def __init__(self, on_event: Callable[[Event], None] | None, keep_events: bool) -> None:
        self.events: list[Event] = []
        self._on_event = on_event
        self._keep_events = keep_events
        self._waiting: set[tuple[Callable[[Event], bool], asyncio.Future[Event]]] = set()

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


def describe(event: Event) -> str | None:
    """An event as a line for people; None for those that are of no interest to them."""
    name = event["event"]
    url = f"{URL_PREFIX}{event['device_id']}" if "device_id" in event else ""
    if name == "sighting":
        return f"spotted {url} rssi {event['rssi_last']} dBm {_flags(event['service_data'])} " \
               f"state {STATES[event['state']]}"
    if name == "open":
        return f"opened {url} session {event['session']} over {BEARERS[event['bearer']]}, " \
               f"frames of {event['max_frame']} bytes" + ", 2 channels" * (event["channels"] == 2)
    if name == "suspended":
        return f"suspended {url} session {event['session']}, its hotspot is not connected"
    if name == "resumed":
        return f"resumed {url} session {event['session']}, {event['resent']} frames to send again"
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


def print_event(event: Event) -> None:
    """Its line, if it has one."""
    line = describe(event)
    if line:
        print(line, flush=True)


def print_json(event: Event) -> None:
    """The event as a line of JSON."""
    if "device_id" in event:
        event = {**event, "device_url": f"{URL_PREFIX}{event['device_id']}"}
    print(json.dumps(event, default=_json_value), flush=True)
