# SPDX-License-Identifier: Apache-2.0
"""Both sides in Node.js, and what PROTOCOL.md gives as examples."""

import re
from pathlib import Path

import pytest

import tls
from node import running
from test_lab_cloud import FRAMES, echoed, open_session, send, sighting

PROTOCOL = Path(__file__).resolve().parents[2] / "uplink/PROTOCOL.md"
EXAMPLE = re.compile(r"^    ([A-Z_]+)\b.*\n((?:        [0-9a-f]+\n)+)", re.MULTILINE)
EXAMPLES = [(name, re.sub(r"\s", "", digits))
            for name, digits in EXAMPLE.findall(PROTOCOL.read_text())]


async def test_examples(directory):
    """Each is understood, and written as it stands there."""
    assert len(EXAMPLES) == 13
    async with running("recode.js") as node:
        for name, message in EXAMPLES:
            for sender in ("hotspot", "cloud"):
                node.tell("recode", **{"from": sender}, hex=message)
        await node.wait_for("recoded", count=2 * len(EXAMPLES))
        understood = [(e["type"], e["hex"]) for e in node.find("recoded") if "type" in e]
    both = ("DATA", "CREDIT", "CLOSE")
    assert understood == [e for e in EXAMPLES for _ in range(1 + (e[0] in both))]


@pytest.mark.parametrize("message", [
    "8318190a", "98021501", "9b0000000000000002", "80", "15", "8120", "82623231", "f6",
    "8303a1010280", "8303a1c161610280", "82187bd81700",
])
async def test_strict(directory, message):
    """What must not be is not taken."""
    async with running("recode.js") as node:
        node.tell("recode", **{"from": "cloud"}, hex=message)
        await node.wait_for("bad")


@pytest.mark.parametrize("message", [
    "84187bf90000fa00000000fb0000000000000000", "82187ba3010280f5c10af6",
    "82187b" + "81" * 15 + "00", "82187b" + "c1" * 15 + "00",
])
async def test_ignored(directory, message):
    """What a later version may say is."""
    async with running("recode.js") as node:
        node.tell("recode", **{"from": "cloud"}, hex=message)
        assert "type" not in await node.wait_for("recoded")


async def test_both(directory):
    """Sightings, and a session with frames both ways while connections break on either side."""
    ca = tls.make_ca(directory)
    pair = tls.make_server_cert(directory, ca=ca)
    settings = {"credits": 4, "resume_ms": 30000}
    async with running("cloud.js", cert=pair.cert, key=pair.key, settings=settings,
                       drop_each=70) as cloud:
        port = (await cloud.wait_for("listening"))["port"]
        async with running("hotspot.js", url=f"wss://127.0.0.1:{port}/", ca=ca.cert,
                           drop_each=90) as hotspot:
            await hotspot.wait_for("welcome")
            device = open_session(hotspot, channels=2)
            hotspot.tell("sightings", sightings=[sighting(device, 3)])
            await hotspot.wait_for("acknowledged", batch=1)
            send(hotspot, device, FRAMES)
            send(hotspot, device, FRAMES, 1)
            for channel in (0, 1):
                await echoed(hotspot, device, FRAMES, channel)
            for program in (cloud, hotspot):
                assert program.find("disconnected", by="cloud")
                assert program.find("disconnected", by="hotspot")
            session = hotspot.find("opened")[-1]["session"]
            cloud.tell("close_session", session=session, code=0)
            close = await hotspot.wait_for("close", device_id=device.hex)
            assert (close["code"], close["by"]) == (0, "cloud")
