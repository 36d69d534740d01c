# SPDX-License-Identifier: Apache-2.0
"""One connection of a hotspot to the lab's cloud: HELLO, and what each message does."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any

import cbor2
from websockets.exceptions import ConnectionClosed

from cloud_protocol import (
    CHALLENGE, CLOSE, CREDIT, DATA, FIELDS, GOAWAY, HELLO, MAX_REASON, NOT_ALLOWED,
    NOT_AUTHENTICATED, OPEN, PROTOCOL_ERROR, SIGHTINGS, SIGHTINGS_ACK, STATS, SUBPROTOCOL,
    WRONG_VERSION, Refused, Sighting, decode, hotspot_id_of, signature_is_good,
    signed_bytes)
from cloud_session import KnownRun, RelaySession

if TYPE_CHECKING:
    from cloud import Cloud


class Hotspot:
    """One connection of a hotspot. hotspot_id and run are None and empty until its HELLO.

    resume: next_seq and credits of the sessions that its HELLO lists. known: the sessions it has,
    and those that it had in this run.
    """

    def __init__(self, cloud: Cloud, ws: Any) -> None:
        self.cloud = cloud
        self.ws = ws
        self.hotspot_id: uuid.UUID | None = None
        self.run = b""
        self.resume: dict[int, tuple[int, int]] = {}
        self.known = KnownRun(b"")
        self._outbox: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._closing = False

    @property
    def sessions(self) -> dict[int, RelaySession]:
        """Those it carries; none once a newer connection has taken over."""
        return self.known.sessions if self.known.connection is self else {}

    async def serve(self) -> None:
        """From the upgrade to the end of the connection."""
        writer = asyncio.create_task(self._write())
        try:
            self.cloud.emit("connected", address=self.ws.remote_address[0])
            await self._authenticate()
            while True:
                message = await self._receive()
                # What comes after it was given up is the newer connection's to say again.
                if not self._closing:
                    self._handle(*decode(message, greeted=True))
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
        """Close the connection; its sessions are kept for the next, or end."""
        self._closing = True
        self.unstall()
        await self.ws.close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))

    def abort(self) -> None:
        """Reset the TCP connection: the hotspot gets RST, and not what is still on its way."""
        self._closing = True
        sock = self.ws.transport.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.transport.abort()
        self.unstall()

    def stall(self) -> None:
        """Read nothing, pings included, and handle nothing that was read, until unstall().

        Nor is it noticed meanwhile that the hotspot has gone.
        """
        self._flowing.clear()
        self.ws.transport.pause_reading()

    def unstall(self) -> None:
        """The end of stall()."""
        if not self._flowing.is_set():
            self._flowing.set()
            self.ws.transport.resume_reading()

    def goaway(self, after_ms: int, reason: str = "") -> None:
        """Send this hotspot away."""
        self.send(GOAWAY, after_ms, reason)

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
        await self._flowing.wait()
        self.cloud.record("in", message)
        return message

    async def _authenticate(self) -> None:
        if self.ws.subprotocol != SUBPROTOCOL:
            raise Refused(WRONG_VERSION, f"subprotocol {SUBPROTOCOL} not offered")
        nonce = os.urandom(32)
        self.send(CHALLENGE, nonce, int(time.time() * 1000))
        try:
            async with asyncio.timeout(self.cloud.hello_timeout_s):
                hello = await self._hello()
        except TimeoutError:
            raise Refused(NOT_AUTHENTICATED, "no HELLO") from None
        _, id_bytes, public_key, signature, info, self.resume = hello
        hotspot_id, authority = uuid.UUID(bytes=id_bytes), self._authority()
        if hotspot_id != hotspot_id_of(public_key):
            raise Refused(NOT_AUTHENTICATED, "hotspot_id is not of this key")
        if not signature_is_good(public_key, signature,
                                 signed_bytes(nonce, id_bytes, authority)):
            raise Refused(NOT_AUTHENTICATED, f"signature is not good at {authority}")
        if self.cloud.client_ca and self._common_name() != str(hotspot_id):
            raise Refused(NOT_AUTHENTICATED, f"the TLS certificate is for {self._common_name()}")
        if self.cloud.allow is not None and hotspot_id not in self.cloud.allow:
            raise Refused(NOT_ALLOWED, f"hotspot {hotspot_id} is not allowed")
        if self.cloud.refuse_hello:
            raise Refused(self.cloud.refuse_hello, "refused as configured")
        self.hotspot_id, self.run = hotspot_id, info["run"]
        self.cloud.emit("hello", hotspot_id=hotspot_id, run=self.run,
                        agent=info.get("agent"), location=info.get("location"),
                        authority=authority)
        self.cloud.welcome(self)

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

    def _common_name(self) -> str:
        """Whom the TLS certificate of the other side is for; cloud.client_ca has it verified."""
        subject = self.ws.transport.get_extra_info("peercert")["subject"]
        return dict(part for parts in subject for part in parts)["commonName"]

    def _handle(self, kind: int, fields: list[Any]) -> None:
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
                 max_frame: int, rssi: int, channels: int) -> None:
        cloud = self.cloud
        cloud.emit("open", hotspot_id=self.hotspot_id, session=number, device_id=device_id,
                   service_data=service_data, bearer=bearer, max_frame=max_frame, rssi=rssi,
                   channels=channels)
        if number in self.sessions:
            return self.sessions[number].close(PROTOCOL_ERROR, "opened twice")
        refusal = cloud.refusal(device_id)
        if number in self.known.numbers:
            refusal = PROTOCOL_ERROR, "number used before"
        self.known.numbers.add(number)
        if refusal:
            self.send(CLOSE, number, *refusal)
            cloud.emit("close", session=number, device_id=device_id, code=refusal[0],
                       reason=refusal[1], by="cloud", frames_in=0, frames_out=0, bytes_in=0,
                       bytes_out=0)
            return
        session = self.sessions[number] = RelaySession(
            self, number, device_id, max_frame, channels)
        if cloud.accept_delay_s:
            asyncio.get_running_loop().call_later(cloud.accept_delay_s, session.accept)
        else:
            session.accept()

    def _on_session_message(self, kind: int, number: int, *fields: Any) -> None:
        session = self.sessions.get(number)
        if session is None:
            # On its way when the session ended; one that never was is ignored too, but told.
            if number not in self.known.numbers:
                self.cloud.emit("stray", hotspot_id=self.hotspot_id, session=number, message=kind)
        elif kind == DATA:
            session.on_data(*fields)
        elif kind == CREDIT:
            session.on_credit(*fields)
        else:
            code, reason = fields
            session.end(code, reason, "hotspot")

    def _gone(self) -> None:
        if self.known.connection is self:
            self.known.detach()
        if self.hotspot_id and self.cloud.hotspots.get(self.hotspot_id) is self:
            del self.cloud.hotspots[self.hotspot_id]
        if self._closing or self.cloud.stopping:
            by = "cloud"
        else:
            by = "connection" if self.ws.close_code == 1006 else "hotspot"
        self.cloud.emit("disconnected", hotspot_id=self.hotspot_id, code=self.ws.close_code,
                        reason=self.ws.close_reason, by=by)
