# SPDX-License-Identifier: Apache-2.0
"""Clouds of the lab that hand over their hotspots to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import tls
from cloud import Cloud
from device import VirtualDevice
from hotspot_client import SIGHTING, Client, run


def with_cluster(ca: tls.Ca, test: Callable[[Cloud, Cloud, Client], Awaitable[None]],
                 **options: Any) -> None:
    """Run a test with two clouds, and a client that is welcome at the first."""
    pair = ca.cert.parent / "server.pem", ca.cert.parent / "server.key"

    async def whole() -> None:
        first = Cloud(*pair, **options)
        second = Cloud(*pair, cluster=first, raw_handler=first.raw_handler)
        await first.start()
        await second.start()
        client = await Client(first, ca).connect()
        try:
            await client.hello()
            await test(first, second, client)
        finally:
            await client.close()
            await first.stop()
            await second.stop()
    run(whole())


def test_drained_to_another_cloud(ca: tls.Ca, tmp_path: Path) -> None:
    """GOAWAY from one, resumed at the other, which knows what the first has stored."""
    async def test(first: Cloud, second: Cloud, client: Client) -> None:
        await client.open(1, channels=2)
        [session] = first.sessions
        await client.data(1, b"here", channel=1)
        await client.send(10, 1, [SIGHTING])
        assert await client.receive() == [11, 1]
        session.send_frames([b"down"])
        first.goaway(0, "drained")
        assert await client.receive_all(2) == [[22, 1, 0, 0, b"down"], [31, 0, "drained"]]
        await client.close()
        await first.wait_for("suspended", session=1)
        await first.stop()
        assert session.suspended and not first.find("close")
        newer, welcome = await client.again([[1, 0, 16]], second)
        assert welcome[2] == [[1, 1, 15]]
        assert await newer.receive() == [22, 1, 0, 0, b"down"]
        assert second.find("resumed", session=1, resent=1) and not first.find("resumed")
        assert first.sessions == [] and second.sessions == [session]
        await newer.data(1, b"there", channel=1)
        await newer.send(10, 1, [SIGHTING])
        assert await newer.receive() == [11, 1]
        assert second.find("batch", duplicate=True) and second.totals() == first.totals() != {}
        assert session.received[1] == [b"here", b"there"]
        await newer.close()
        await second.wait_for("suspended", session=1)
        await second.stop()
        assert second.find("close", session=1, by="cloud", code=None) and not first.find("close")
    with_cluster(ca, test, state=tmp_path, raw_handler=lambda *_: [])


def test_taken_over_by_another_cloud(ca: tls.Ca) -> None:
    """4409 at the one, and the other carries the session, end-to-end session and all."""
    async def test(first: Cloud, second: Cloud, client: Client) -> None:
        assert first.device_public_key == second.device_public_key
        device = VirtualDevice(first.device_public_key)
        device.ask(b"request")
        await client.open(1, device_id=device.device_id)
        for frame in device.opened(244):
            await client.data(1, frame)
        reply = await client.receive()
        newer, welcome = await client.again([[1, 1, 16]], second)
        assert welcome[2][0][:2] == [1, client.seq[1] + 1]
        assert (await client.closed())[0] == 4409
        await first.wait_for("disconnected", code=4409)
        assert first.find("replaced") and not first.hotspots and not second.find("replaced")
        waiting = device.received(reply[4])
        while not device.answers:
            for frame in waiting:
                await newer.data(1, frame)
            message = await newer.receive()
            waiting = device.received(message[4]) if message[0] == 22 else []
        assert device.answers == [b"tseuqer"]
        assert second.find("request") and not first.find("request")
        assert second.known_key(device.device_id) == first.known_key(device.device_id) is not None
        await newer.close()
    with_cluster(ca, test)


def test_what_a_cluster_shares(ca: tls.Ca, tmp_path: Path) -> None:
    """State of its own for a second cloud is a mistake."""
    pair = ca.cert.parent / "server.pem", ca.cert.parent / "server.key"
    with pytest.raises(ValueError):
        Cloud(*pair, cluster=Cloud(*pair), state=tmp_path)
