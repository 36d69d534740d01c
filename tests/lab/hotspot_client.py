# SPDX-License-Identifier: Apache-2.0
"""A hotspot for tests of the lab's cloud, written by the protocol's text."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import cbor2
import websockets
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import tls
from cloud import Cloud, hotspot_id_of

SIGHTING: list[Any] = [uuid.UUID(int=7).bytes, b"\x3a\x04", 900, 100, 5, -60, -70, -50, 0, 0]
NO_NEWS: list[Any] = [bytes(16), b"\x3a\x04", 900, 900, 0, 127, 127, 127, 2, 0]     # counts nothing


# What websockets before 14 calls otherwise.
OLD = int(websockets.__version__.split(".")[0]) < 14
HEADERS = "extra_headers" if OLD else "additional_headers"      # an option of connect()


def status_of(refusal: InvalidHandshake) -> int:
    """The HTTP status that came instead of an upgrade."""
    return refusal.status_code if OLD else refusal.response.status_code     # type: ignore


def run(test: Awaitable[None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(test)   # type: ignore[arg-type]


def trusting(ca: tls.Ca) -> ssl.SSLContext:
    """A client's settings."""
    return ssl.create_default_context(cafile=str(ca.cert))


class Client:
    """A hotspot in a few lines, by the protocol's text."""

    def __init__(self, cloud: Cloud, ca: tls.Ca, key: ec.EllipticCurvePrivateKey | None = None
                 ) -> None:
        self.cloud = cloud
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.public = self.key.public_key().public_bytes(Encoding.X962,
                                                         PublicFormat.UncompressedPoint)
        self.hotspot_id = hotspot_id_of(self.public)
        self.run = b"run-0001"
        self.seq: dict[int, int] = {}
        self._ca = ca
        self._batch = 0
        self._ws: Any = None

    async def connect(self, url: str | None = None, **options: Any) -> Client:
        """Connect, without a HELLO."""
        options = {"subprotocols": ["hotspot-relay.v1"], "max_size": None,
                   "ssl": trusting(self._ca), **options}
        self._ws = await websockets.connect(url or self.cloud.url, **options)
        return self

    async def hello(self, authority: str | None = None, **changed: Any) -> list[Any]:
        """Answer the CHALLENGE; the message that follows."""
        challenge = await self.receive()
        assert challenge[0] == 1 and len(challenge[1]) == 32 and challenge[2] > 1.6e12
        authority = authority or f"127.0.0.1:{self.cloud.port}"
        covered = (b"hotspot-relay.v1\0" + challenge[1] + self.hotspot_id.bytes
                   + authority.encode())
        r, s = decode_dss_signature(self.key.sign(covered, ec.ECDSA(SHA256())))
        fields = {"version": 1, "id": self.hotspot_id.bytes, "key": self.public,
                  "signature": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
                  "info": {"run": self.run, "agent": "test 1"}, "resume": [], **changed}
        await self.send(2, *fields.values())
        return await self.receive()

    async def send(self, *message: Any) -> None:
        """Send a message."""
        await self._ws.send(cbor2.dumps(message))

    async def send_raw(self, message: bytes | str) -> None:
        """Send anything."""
        await self._ws.send(message)

    async def open(self, session: int, channels: int = 1, max_frame: int = 244,
                   device_id: uuid.UUID | None = None) -> None:
        """Open a session and see it accepted."""
        await self.send(20, session, (device_id or uuid.uuid4()).bytes, b"", 1, max_frame, -60,
                        channels)
        assert await self.receive() == [21, session]

    async def data(self, session: int, payload: bytes, channel: int = 0) -> None:
        """Send a frame."""
        seq = self.seq[session] = self.seq.get(session, -1) + 1
        await self.send(22, session, channel, seq, payload)

    async def receive(self) -> list[Any]:
        """The next message, 2 s at most."""
        return cbor2.loads(await asyncio.wait_for(self._ws.recv(), 2))

    async def receive_all(self, count: int) -> list[list[Any]]:
        """The next messages."""
        return [await self.receive() for _ in range(count)]

    async def nothing_came(self) -> None:
        """All that the cloud has sent so far was received: the next message answers a batch."""
        self._batch += 1
        await self.send(10, self._batch, [NO_NEWS])
        assert await self.receive() == [11, self._batch]

    async def again(self, resume: list[list[int]], cloud: Cloud | None = None
                    ) -> tuple[Client, list[Any]]:
        """Another connection of the same run, and its WELCOME."""
        newer = Client(cloud or self.cloud, self._ca, self.key)
        newer.run, newer.seq, newer._batch = self.run, self.seq, self._batch
        await newer.connect()
        welcome = await newer.hello(resume=resume)
        assert welcome[0] == 3
        return newer, welcome

    async def closed(self) -> tuple[int, str]:
        """The code and reason the cloud closes with; what comes before is ignored."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed:
            return self._ws.close_code, self._ws.close_reason

    async def close(self) -> None:
        """Close the connection."""
        await self._ws.close()

    def vanish(self) -> None:
        """End it without a word, as a power cut does; the cloud sees the end of the connection."""
        self._ws.transport.abort()

    @property
    def failure(self) -> BaseException | None:
        """What ended the connection underneath."""
        return self._ws.transfer_data_exc if OLD else self._ws.recv_exc


def with_client(ca: tls.Ca, test: Callable[[Cloud, Client], Awaitable[None]],
                **options: Any) -> None:
    """Run a test with a cloud and a connected client, HELLO still to be said."""
    directory = ca.cert.parent

    async def whole() -> None:
        cloud = Cloud(directory / "server.pem", directory / "server.key", **options)
        await cloud.start()
        client = await Client(cloud, ca).connect()
        try:
            await test(cloud, client)
        finally:
            await client.close()
            await cloud.stop()
    run(whole())
