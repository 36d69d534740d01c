#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lab's cloud: the other side of uplink/PROTOCOL.md, written from that text alone.

Here are the sessions, the connection of a hotspot, the cloud itself and the program; the messages
are in cloud_protocol.py, what lasts in cloud_store.py, the events in cloud_events.py.

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
import os
import signal
import ssl
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cbor2
import websockets
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.exceptions import ConnectionClosed

import e2e
from cloud_events import Event, EventLog, describe, print_event, print_json
from cloud_protocol import (
    ACCEPT, CHALLENGE, CLOSE, CREDIT, DATA, DONE, FIELDS, GOAWAY, HELLO, MAX_REASON,
    NOT_ALLOWED, NOT_AUTHENTICATED, NOT_SERVED, OPEN, PROTOCOL_ERROR, REFUSED, REPLACED, SIGHTINGS,
    SIGHTINGS_ACK, STATES, STATS, SUBPROTOCOL, WELCOME, WRONG_VERSION, BadMessage, Refused,
    Sighting, decode, hotspot_id_of, signature_is_good, signed_bytes)
from cloud_store import Spotted, Store, load_device_key

# With what the lab and the tests take from here that is defined in the other files.
__all__ = [
    "ACCEPT", "CHALLENGE", "CREDIT", "DATA", "HELLO", "HELLO_TIMEOUT_S", "OPEN", "SIGHTINGS",
    "SIGHTINGS_ACK", "STATES", "SUBPROTOCOL", "WELCOME", "Cloud", "Hotspot", "RelaySession",
    "describe", "heard", "hotspot_id_of", "reversed_request"]

CREDITS = 16
HELLO_TIMEOUT_S = 10.0


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
        if not signature_is_good(public_key, signature,
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


class Cloud(EventLog):
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
        super().__init__(on_event, keep_events)
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
        self.device_key = device_key or load_device_key(state and state / "device.key")
        self.device_public_key = e2e.public_bytes(self.device_key)
        self.store = Store(None)
        self.hotspots: dict[uuid.UUID, Hotspot] = {}
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
        self._record_raw = record_raw
        self._connections: set[Hotspot] = set()
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


# --- The program ---

def heard(request: bytes) -> bytes:
    """An answer for people."""
    return b"cloud heard: " + request


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
        device_key=load_device_key(args.device_key) if args.device_key else None, settings=settings,
        allow=set(args.allow) if args.allow else None,
        authorities=set(args.authority) if args.authority else None,
        handler=heard if args.heard else reversed_request,
        on_event=print_json if args.json else print_event, keep_events=False)
    cloud.refuse_devices = set(args.refuse)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await cloud.start()
    if args.json:
        print_json({"event": "listening", "time": time.time(), "url": cloud.url,
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
