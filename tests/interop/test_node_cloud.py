# SPDX-License-Identifier: Apache-2.0
"""The cloud in Node.js, and the hotspot of the lab's own tests: it is as strict as the lab's."""

import uuid
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import tls
from hotspot_client import SIGHTING, Client
from node import running
from test_cloud import MALFORMED

# It minds neither, and need not.
ALLOWED = {"too deep", "tags too deep", "key stands twice"}
OPEN = (uuid.UUID(int=7).bytes, b"", 0, 20, -60, 1)


@asynccontextmanager
async def node_cloud(directory, **options):
    """A cloud, and what makes a client of it."""
    ca = tls.make_ca(directory)
    pair = tls.make_server_cert(directory, ca=ca)
    async with running("cloud.js", cert=pair.cert, key=pair.key, **options) as node:
        port = (await node.wait_for("listening"))["port"]
        where = SimpleNamespace(port=port, url=f"wss://127.0.0.1:{port}/")
        yield node, lambda key=None: Client(where, ca, key).connect()


async def test_malformed(directory):
    """What the lab's cloud closes with 4400, it does."""
    async with node_cloud(directory) as (node, connect):
        for name, message in MALFORMED.items():
            client = await connect()
            assert (await client.hello())[0] == 3
            await client.send_raw(message)
            if name in ALLOWED:
                await client.send(10, 1, [SIGHTING])
                assert await client.receive() == [11, 1], name
                await client.close()
            else:
                assert (await client.closed())[0] == 4400, name
        assert len(node.find("sightings")) == len(ALLOWED)


async def test_version_counts_first(directory):
    """Of the first HELLO, whatever else is in it."""
    async with node_cloud(directory) as (_, connect):
        for changed, code in (({"version": 2, "id": ""}, 4426), ({"id": ""}, 4400),
                              ({"version": "2"}, 4400)):
            client = await connect()
            with pytest.raises(ConnectionClosed):
                await client.hello(**changed)
            assert (await client.closed())[0] == code


async def test_no_subprotocol(directory):
    """The upgrade is refused."""
    async with node_cloud(directory) as (_, connect):
        with pytest.raises(InvalidHandshake, match="400"):
            await (await connect()).connect(subprotocols=None)


async def test_batches(directory):
    """A number not above the last is one it has; any above is new."""
    async with node_cloud(directory) as (node, connect):
        client = await connect()
        await client.hello()
        for batch in (3, 3, 2, 7, 5):
            await client.send(10, batch, [SIGHTING])
            assert await client.receive() == [11, batch]
        assert [e["is_new"] for e in node.find("sightings")] == [True, False, False, True, False]


async def test_opened_twice(directory):
    """The session ends with code 8, and there is no other."""
    async with node_cloud(directory) as (node, connect):
        client = await connect()
        await client.hello()
        await client.send(20, 1, *OPEN)
        assert await client.receive() == [21, 1]
        await client.send(20, 1, *OPEN)
        assert (await client.receive())[:3] == [24, 1, 8]
        await client.send(22, 1, 0, 0, b"late")
        await client.send(10, 1, [SIGHTING])
        assert await client.receive() == [11, 1]
        assert len(node.find("close")) == 1 and not node.find("data")


async def test_resumed_where_it_cannot(directory):
    """The session is in WELCOME, and CLOSE comes after that; others go on."""
    async with node_cloud(directory, settings={"resume_ms": 30000}) as (node, connect):
        client = await connect()
        await client.hello()
        for session in (1, 2):
            await client.send(20, session, *OPEN)
            assert await client.receive() == [21, session]
        client.vanish()
        await node.wait_for("disconnected")
        newer = await connect(client.key)
        welcome = await newer.hello(resume=[[1, 1, 16], [2, 0, 16]])
        assert sorted(welcome[2]) == [[1, 0, 16], [2, 0, 16]]
        assert (await newer.receive())[:3] == [24, 1, 8]
        await newer.data(2, b"goes on")
        assert await newer.receive() == [22, 2, 0, 0, b"goes on"]
