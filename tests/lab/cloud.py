#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The lab's cloud: the other side of uplink/PROTOCOL.md, written from that text alone.

Here are the cloud itself and the program; the messages are in cloud_protocol.py, the connection of
a hotspot in cloud_hotspot.py, the sessions in cloud_session.py, what lasts in cloud_store.py, the
events in cloud_events.py.

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
import signal
import ssl
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import websockets
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e
from cloud_events import Event, EventLog, describe, print_event, print_json
from cloud_hotspot import Hotspot
from cloud_protocol import (
    ACCEPT, CHALLENGE, CREDIT, DATA, HELLO, NOT_SERVED, OPEN, REFUSED, REPLACED, SIGHTINGS,
    SIGHTINGS_ACK, STATES, SUBPROTOCOL, WELCOME, hotspot_id_of)
from cloud_session import RelaySession, SessionTable
from cloud_store import Spotted, Store, load_device_key

# With what the lab and the tests take from here that is defined in the other files.
__all__ = [
    "ACCEPT", "CHALLENGE", "CREDIT", "DATA", "HELLO", "OPEN", "SIGHTINGS", "SIGHTINGS_ACK",
    "STATES", "SUBPROTOCOL", "WELCOME", "Cloud", "Hotspot", "RelaySession", "describe", "heard",
    "hotspot_id_of", "reversed_request"]

CREDITS = 16
RESUME_MS = 30_000
HELLO_TIMEOUT_S = 10.0


# --- The cloud ---

@dataclass
class _Shared:
    """What the clouds of a cluster have in common."""

    device_key: X25519PrivateKey
    state: Path | None
    provisioned: dict[uuid.UUID, bytes]
    store: Store = field(default_factory=lambda: Store(None))
    table: SessionTable = field(default_factory=SessionTable)
    running: int = 0            # clouds


def reversed_request(request: bytes) -> bytes:
    """The default answer."""
    return request[::-1]


class Cloud(EventLog):
    """A server for hotspots, and all it has seen.

    cert and key: PEM files; None for no TLS, behind a proxy that ends it. state: a directory to
    keep sightings, device keys and its own X25519 key in; none keeps them as long as the object.
    settings: for WELCOME. allow: the hotspots that may connect, None for all. device_keys: public
    keys of devices known beforehand; others are trusted on first use. authorities: the names
    ("host:port") it answers to. None takes what the Host header says, which only a lab may: a
    server between hotspot and cloud could send any. resume_ms: how long sessions are kept for a
    hotspot whose connection ended, 0 for not at all. client_ca: a PEM file; a hotspot needs a TLS
    certificate that is signed by one in there, for its hotspot_id as common name. token: what a
    hotspot has to have in its Authorization header, else it gets HTTP status 401. cluster: another cloud, with which it shares
    what is stored, its key and the sessions, so that a hotspot can go from one to the other; then
    without state, device_key and device_keys.
    handler makes the answer to a request. raw_handler (session, channel, payload) takes the frames
    of all sessions instead of an end-to-end session, and returns the frames to send back.

    events are dicts with "event", "time" (Unix seconds) and the fields of the event, which on_event
    gets as well: connected, hello, refused, bad_message, replaced, batch, sighting, open,
    suspended, resumed, established, request, answer, close, stray, stats, disconnected. Each
    session that was opened has one "close", at the cloud it was last connected to. raw: the
    WebSocket messages as ("in" or "out", message), if record_raw.

    To be set at any time:
      raw_devices       sessions opened by these are raw: no end-to-end session, nothing is answered
                        or closed, frames are kept in session.received for a test to see
      resume_ms         as above, but not what the hotspot is told, which is in settings
      token             as above
      hello_timeout_s   how long it waits for HELLO

    Faults, to be set at any time:
      ack_sightings     False: batches are stored, not acknowledged
      drop_before_ack   the next batch is stored, and the connection reset
      refuse_hello      a WebSocket code that every HELLO gets
      refuse_devices    closed with code 3
      unserved_devices  closed with code 5
      accept_delay_s    between OPEN and ACCEPT
      withhold_credits  True: none are given back until release_credits()
    """

    def __init__(self, cert: Path | None, key: Path | None, *, host: str = "127.0.0.1",
                 port: int = 0, state: Path | None = None,
                 device_key: X25519PrivateKey | None = None,
                 settings: dict[str, Any] | None = None, resume_ms: int = RESUME_MS,
                 cluster: Cloud | None = None, allow: set[uuid.UUID] | None = None,
                 device_keys: dict[uuid.UUID, bytes] | None = None,
                 authorities: set[str] | None = None, client_ca: Path | None = None,
                 token: str | None = None,
                 handler: Callable[[bytes], bytes] = reversed_request,
                 raw_handler: Callable[[RelaySession, int, bytes], list[bytes]] | None = None,
                 on_event: Callable[[Event], None] | None = None, keep_events: bool = True,
                 record_raw: bool = False) -> None:
        super().__init__(on_event, keep_events)
        self.host = host
        self.port = port                    # the one in use after start()
        self.settings = {"credits": CREDITS, **({"resume_ms": resume_ms} if resume_ms else {}),
                         **(settings or {})}
        self.resume_ms: int = self.settings.get("resume_ms", 0)
        self.credits: int = self.settings["credits"]
        if self.credits < 1:
            raise ValueError("a session needs a credit")
        self.allow = allow
        self.authorities = authorities
        self.token = token
        self.handler = handler
        self.raw_handler = raw_handler
        if cluster and (state or device_key or device_keys):
            raise ValueError("in a cluster, state and keys are those of the first cloud")
        self._shared = cluster._shared if cluster else _Shared(
            device_key or load_device_key(state and state / "device.key"), state,
            dict(device_keys or {}))
        self.device_key = self._shared.device_key
        self.device_public_key = e2e.public_bytes(self.device_key)
        self.hotspots: dict[uuid.UUID, Hotspot] = {}
        self.raw: list[tuple[str, bytes | str]] = []
        self.stopping = False

        self.ack_sightings = True
        self.drop_before_ack = False
        self.hello_timeout_s = HELLO_TIMEOUT_S
        self.raw_devices: set[uuid.UUID] = set()
        self.refuse_hello: int | None = None
        self.refuse_devices: set[uuid.UUID] = set()
        self.unserved_devices: set[uuid.UUID] = set()
        self.accept_delay_s = 0.0
        self.withhold_credits = False

        self._broken: list[AssertionError] = []
        self._record_raw = record_raw
        self._connections: set[Hotspot] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Any = None
        self._tls: ssl.SSLContext | None = None
        if cert and key:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls.load_cert_chain(cert, key)
        self.client_ca = client_ca
        if client_ca:
            self._tls.verify_mode = ssl.CERT_REQUIRED
            self._tls.load_verify_locations(client_ca)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{'wss' if self._tls else 'ws'}://{self.host}:{self.port}/"

    async def start(self) -> None:
        """Listen; after stop() or kill() again, on the same port. OSError if that is taken."""
        shared = self._shared
        if shared.state and not shared.running:
            shared.store = Store(shared.state)
        self.stopping = False
        self._server = await websockets.serve(
            self._serve, self.host, self.port, ssl=self._tls, subprotocols=[SUBPROTOCOL],
            max_size=1 << 24, compression=None, close_timeout=2,
            process_request=self._process_request)
        shared.running += 1
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self, keep_sessions: bool = False) -> None:
        """Close all connections with 1001 and stop listening; nothing if it does not.

        The last cloud of a cluster, or the only one, ends all sessions, if they are not to be kept
        for the next start(), as by a cloud that has them elsewhere. AssertionError if the cloud
        itself has broken a rule.
        """
        server, self._server = self._server, None
        if server:
            self.stopping = True
            for connection in self._connections:
                connection.unstall()
            server.close()
            await server.wait_closed()
            self._shared.running -= 1
            if not self._shared.running:
                if not keep_sessions:
                    self._shared.table.end_all("the cloud has stopped")
                self.store.close()
        if self._broken:
            raise self._broken.pop()

    async def kill(self, keep_sessions: bool = False) -> None:
        """Reset all connections and stop listening: what kill -9 looks like from outside."""
        self.stopping = True
        for connection in self._connections:
            connection.abort()
        await self.stop(keep_sessions)

    async def _process_request(self, first: Any, second: Any) -> Any:
        """Refuse an upgrade without the token; websockets before 14 takes other things."""
        old = isinstance(first, str)
        headers = second if old else second.headers
        if self.token is None or headers.get("Authorization") == f"Bearer {self.token}":
            return None
        self.emit("refused", hotspot_id=None, code=401, reason="not the token")
        body = "not the token\n"
        return (HTTPStatus.UNAUTHORIZED, [], body.encode()) if old else \
            first.respond(HTTPStatus.UNAUTHORIZED, body)

    async def _serve(self, ws: Any) -> None:
        connection = Hotspot(self, ws)
        self._connections.add(connection)
        try:
            await connection.serve()
        except AssertionError as err:
            self._broken.append(err)
            raise
        finally:
            self._connections.discard(connection)

    def welcome(self, hotspot: Hotspot) -> None:
        """A hotspot has shown who it is; an older connection of it goes, its sessions go on."""
        assert hotspot.hotspot_id
        older = self._shared.table.attach(hotspot)
        if older:
            older.cloud.let_go(older)
        self.hotspots[hotspot.hotspot_id] = hotspot
        going_on = list(hotspot.sessions.values())
        hotspot.send(WELCOME, self.settings, [session.resume_entry for session in going_on])
        for session in going_on:
            session.resume(hotspot, *hotspot.resume[session.number])

    def let_go(self, older: Hotspot) -> None:
        """Close a connection that a newer one has replaced, here or at another cloud."""
        if self.hotspots.get(older.hotspot_id) is older:
            del self.hotspots[older.hotspot_id]
        self.emit("replaced", hotspot_id=older.hotspot_id)
        task = asyncio.create_task(older.close(REPLACED, "replaced by a newer connection"))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def known_key(self, device_id: uuid.UUID) -> bytes | None:
        """The public key that this device must have."""
        return self._shared.provisioned.get(device_id) or self.store.device_keys.get(device_id)

    def refusal(self, device_id: uuid.UUID) -> tuple[int, str] | None:
        """Code and reason of the CLOSE a device gets instead of a session."""
        if device_id in self.refuse_devices:
            return REFUSED, "refused as configured"
        if device_id in self.unserved_devices:
            return NOT_SERVED, "not served here"
        return None

    @property
    def sessions(self) -> list[RelaySession]:
        """All that are open here, and those that wait for their hotspot and were here last."""
        return [session for session in self._shared.table.sessions if session.cloud is self]

    @property
    def store(self) -> Store:
        """What lasts."""
        return self._shared.store

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
            hotspot.goaway(after_ms, reason)

    def drain(self, after_ms: int, reason: str = "") -> None:
        """Stop listening and send every hotspot away: to the rest of the cluster, before stop().

        While it listened a proxy could lead a hotspot back here.
        """
        self._server.server.close()
        self.goaway(after_ms, reason)

    def release_credits(self) -> None:
        """The end of withhold_credits: those that are due are given."""
        self.withhold_credits = False
        for session in self.sessions:
            session.grant()

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
    parser.add_argument("--client-ca", type=Path, metavar="FILE",
                        help="admit hotspots with a TLS certificate of this CA only (PEM)")
    parser.add_argument("--token-file", type=Path, metavar="FILE",
                        help="admit hotspots with the bearer token in there only")
    parser.add_argument("--refuse", action="append", type=uuid.UUID, default=[],
                        metavar="DEVICE-ID", help="open no session for this device (repeatable)")
    parser.add_argument("--heard", action="store_true",
                        help='answer "cloud heard: ..." instead of the request reversed')
    parser.add_argument("--hotspot-name", metavar="NAME")
    parser.add_argument("--report-ms", type=int, metavar="MS")
    parser.add_argument("--resume-ms", type=int, default=RESUME_MS, metavar="MS")
    parser.add_argument("--credits", type=int, default=CREDITS)
    return parser.parse_args()


async def _main(args: argparse.Namespace) -> None:
    host, _, port = args.listen.rpartition(":")
    settings = {name: getattr(args, name)
                for name in ("hotspot_name", "report_ms", "credits")
                if getattr(args, name) is not None}
    cloud = Cloud(
        args.cert, args.key, host=host.strip("[]"), port=int(port), state=args.state,
        device_key=load_device_key(args.device_key) if args.device_key else None, settings=settings,
        resume_ms=args.resume_ms, allow=set(args.allow) if args.allow else None,
        authorities=set(args.authority) if args.authority else None, client_ca=args.client_ca,
        token=args.token_file.read_text().strip() if args.token_file else None,
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
