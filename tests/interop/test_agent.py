# SPDX-License-Identifier: Apache-2.0
"""The agent, with a simulated radio, and the cloud in Node.js."""

from contextlib import asynccontextmanager

import pytest

from bluez_sim import Beacon
from device import EchoDevice
from harness import running_lab, until
from node import running
from test_relay import SteadyDevice

SIZES = [*range(1, 245), *range(1, 57)]
FRAMES = 400


@asynccontextmanager
async def node_lab(directory, agent=None, **cloud):
    """A lab whose cloud is the one in Node.js."""
    async with running_lab(directory, agent, start_cloud=False, start_agent=False) as lab, \
            running("cloud.js", cert=lab.pair.cert, key=lab.pair.key, port=lab.cloud.port,
                    **cloud) as node:
        await node.wait_for("listening")
        await lab.agent.start()
        yield lab, node


@asynccontextmanager
async def working_lab(directory, agent=None, **cloud):
    async with node_lab(directory, agent, **cloud) as (lab, node):
        await lab.working()
        yield lab, node


def counted(node):
    """Adverts by device, each batch once, as all_told() in harness.py has them."""
    totals = {}
    for event in node.find("sightings", is_new=True):
        for sighting in event["sightings"]:
            totals[sighting["device_id"]] = totals.get(sighting["device_id"], 0) + sighting["count"]
    return totals


async def all_told(lab, node):
    """Silence the radio, and see that each advert counted once."""
    for peer in lab.sim.peers:
        lab.sim.set_interval(peer, None)
    await lab.agent.wait_for_status(
        lambda s: s["sightings"]["adverts"] == lab.sim.delivered.total())
    await lab.agent.wait_for_status(
        lambda s: s["sightings"]["pending"] == 0 and "unacknowledged_s" not in s["sightings"])
    delivered = {d.bytes.hex(): n for d, n in lab.sim.delivered.items()}
    await until(lambda: sum(counted(node).values()) >= sum(delivered.values()))
    assert counted(node) == delivered


def frames(node, channel=0):
    """Those the cloud has got, in order."""
    return [bytes.fromhex(e["payload"]) for e in node.find("data", channel=channel)]


async def served(lab, node, session):
    """The cloud closes the session as done, and the agent takes it for that."""
    node.tell("close_session", session=session, code=0)
    status = await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
    assert status["relay"]["sessions"] == []
    return status["relay"]


async def test_sightings(directory):
    """Each advert counts once, though the first acknowledgement is lost and the batch comes again.
    """
    async with working_lab(directory, lose_ack=True) as (lab, node):
        beacons = [Beacon() for _ in range(130)]    # more than one batch takes
        for beacon in beacons:
            lab.sim.add_device(beacon, interval_s=0.2)
        await node.wait_for("sightings", is_new=False)
        await until(lambda: len(counted(node)) == len(beacons))
        await until(lambda: lab.sim.delivered.total() > 1000)
        await all_told(lab, node)
        batches = [e["batch"] for e in node.find("sightings", is_new=True)]
        assert batches == list(range(1, len(batches) + 1))
        assert len(node.find("sightings", is_new=False)) == 1
        assert node.find("hello")[0]["hotspot_id"] == (
            await lab.agent.status())["hotspot_id"].replace("-", "")


@pytest.mark.parametrize("credits", [1, 16])
async def test_frames_both_ways(directory, credits):
    """300 frames of 1 to 244 bytes come back, within the credits that either side has."""
    async with working_lab(directory, settings={"credits": credits}) as (lab, node):
        device = SteadyDevice(SIZES)
        lab.sim.add_device(device, interval_s=0.05)
        await node.wait_for("data", count=len(SIZES))
        await until(lambda: len(device.answers) == len(SIZES))
        assert device.answers == device.sent == frames(node)
        [opened] = node.find("open")
        assert (opened["bearer"], opened["max_frame"]) == (0, 244)
        assert bytes.fromhex(opened["device_id"]) == device.device_id.bytes
        assert bytes.fromhex(opened["service_data"])[0] & 1
        assert node.find("close") == []
        relay = await served(lab, node, opened["session"])
        assert relay["frames_up"] == relay["frames_down"] == len(SIZES)


class TwoChannels(EchoDevice):
    """Sends frames on both channels, over L2CAP."""

    def __init__(self):
        super().__init__()
        self.l2cap = True
        for number in range(FRAMES):
            for channel in (0, 1):
                self.ask(bytes([channel]) + bytes([number & 0xff]) * (number % 245), channel)


@pytest.mark.parametrize("credits", [1, 16])
async def test_two_channels(directory, credits):
    """400 frames on each channel of L2CAP come back, in order."""
    async with working_lab(directory, settings={"credits": credits}) as (lab, node):
        device = TwoChannels()
        lab.sim.add_device(device, interval_s=0.05)
        for channel in (0, 1):
            await node.wait_for("data", count=FRAMES, channel=channel)
            await until(lambda: len(device.received_on[channel]) == FRAMES)
        assert device.received_on == device.sent_on == {n: frames(node, n) for n in (0, 1)}
        [opened] = node.find("open")
        assert (opened["bearer"], opened["max_frame"], opened["channels"]) == (1, 245, 2)
        await served(lab, node, opened["session"])


@pytest.mark.parametrize("credits", [1, 16])
async def test_held_back(directory, credits):
    """A cloud that grants nothing gets as many frames as it gave credits, and later the others."""
    async with working_lab(directory, settings={"credits": credits}) as (lab, node):
        node.tell("withhold", on=True)
        device = EchoDevice([100] * 64)
        lab.sim.add_device(device, interval_s=0.05)
        await node.wait_for("data", count=credits)
        await until(lambda: len([f for f in lab.sim.frames[device.device_id]
                                 if f.direction == "from_device"]) == 64)
        node.tell("ping")
        await node.wait_for("pong")
        assert len(frames(node)) == credits
        node.tell("withhold", on=False)
        await node.wait_for("data", count=64)
        await until(lambda: len(device.answers) == 64)
        assert frames(node) == device.sent == device.answers


@pytest.mark.parametrize("credits", [1, 16])
@pytest.mark.parametrize("l2cap", [False, True])
async def test_dropped(directory, l2cap, credits):
    """The connection breaks at each 100th frame, which is lost: nothing is, and nothing is twice.
    """
    settings = {"credits": credits, "resume_ms": 30000}
    async with working_lab(directory, settings=settings, drop_each=100) as (lab, node):
        device = SteadyDevice(SIZES)
        device.l2cap = l2cap
        lab.sim.add_device(device, interval_s=0.05)
        await node.wait_for("data", 30, len(SIZES))
        await until(lambda: len(device.answers) == len(SIZES))
        assert device.answers == device.sent == frames(node)
        [opened] = node.find("open")
        n_dropped = len(node.find("disconnected", by="cloud"))
        assert n_dropped >= 3
        # The first DATA may come in the same packet as OPEN, and both be lost.
        assert len(node.find("resumed")) in (n_dropped, n_dropped - 1)
        relay = await served(lab, node, opened["session"])
        assert relay["frames_up"] == relay["frames_down"] == len(SIZES)
        assert device.sessions == 1
        await all_told(lab, node)


async def test_goaway(directory):
    """The session that is open goes on over the next connection, and no other was opened before."""
    async with working_lab(directory, settings={"resume_ms": 30000}) as (lab, node):
        device, late = EchoDevice([20]), EchoDevice([20])
        lab.sim.add_device(device, interval_s=0.05)
        opened = await node.wait_for("open")
        await until(lambda: device.answers)
        node.tell("goaway", after_ms=1000)
        await lab.agent.wait_for_log("the server asks to reconnect")
        lab.sim.add_device(late, interval_s=0.05)
        end = await node.wait_for("disconnected")
        assert (end["by"], end["code"]) == ("hotspot", 1001)
        await node.wait_for("resumed", session=opened["session"])
        node.tell("send", session=opened["session"], channel=0, payload=b"still there")
        await until(lambda: device.answers[-1] == b"still there")
        await node.wait_for("open", count=2)
        events = [e["event"] for e in node.events]
        assert events.index("resumed") < len(events) - events[::-1].index("open") - 1
        assert device.sessions == 1


async def test_replaced(directory):
    """Two agents with one key: the later one gets the connection, the other says why it lost it."""
    async with working_lab(directory) as (lab, node):
        identity = lab.agent.key.read_bytes()
        (directory / "second").mkdir()
        async with running_lab(directory / "second", start_cloud=False, start_agent=False) as other:
            other.agent.options["uplink"] |= {"url": lab.cloud.url, "ca_file": str(lab.ca.cert)}
            other.agent.key.parent.mkdir(mode=0o700)
            other.agent.key.touch(0o600)
            other.agent.key.write_bytes(identity)
            await other.agent.start()
            await other.up()
            await node.wait_for("disconnected", code=4409)
            await lab.agent.wait_for_log("4409")


@pytest.mark.parametrize("options,code", [
    ({"authorities": ["hub.example.com:443"]}, 4401), ({"refuse": 4403}, 4403),
])
async def test_refused(directory, options, code):
    """A cloud that goes by another name, or does not want this hotspot: the agent says so."""
    async with node_lab(directory, **options) as (lab, node):
        await node.wait_for("disconnected", by="cloud", code=code)
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert str(code) in status["uplink"]["error"]
        assert node.find("hello") == []


BAD = {
    "not CBOR": "ff",
    "cut off": "8415",
    "bytes after the item": "82150100",
    "indefinite length": "9f1501ff",
    "indefinite text": "84181801007f6161ff",
    "not the shortest integer": "82151801",
    "not the shortest length": "98021501",
    "not UTF-8": "841818010061ff",
    "missing field": "8115",
    "another type": "821541aa",
    "float": "8215f93c00",
    "tag": "8215c101",
    "out of range": "82151b0000000100000000",
    "not the shortest tag": "82187bd81700",
    "not an array": "a0",
    "not an item of many": "15",
    "empty array": "80",
    "type below 0": "8120",
    "type is text": "82623231",
    "type is a float": "82f94d4001",
    "second CHALLENGE": "83015820" + "aa" * 32 + "00",
    "second WELCOME": "8303a080",
    "too long": "8318185a00010000" + "00" * 65536,
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
async def test_bad_message(directory, message):
    """The agent closes the connection with 4400, and comes back."""
    async with working_lab(directory) as (lab, node):
        node.tell("raw", hex=message)
        end = await node.wait_for("disconnected", by="hotspot")
        assert end["code"] == 4400
        await node.wait_for("hello", count=2)


async def test_text_message(directory):
    """It is not binary, so it is bad."""
    async with working_lab(directory) as (lab, node):
        node.tell("text", text="hello")
        assert (await node.wait_for("disconnected", by="hotspot"))["code"] == 4400


IGNORED = {
    "unknown type": "83187b01f93c00",
    "type of its own side": "820a01",
    "element after those known": "831501d81d80",
    "floats of any length": "84187bf90000fa00000000fb0000000000000000",
    "keys of any type": "82187ba3010280f5c10af6",
    "arrays of 16 levels": "82187b" + "81" * 15 + "00",
    "tags of 16 levels": "82187b" + "c1" * 15 + "00",
    "unknown session": "82151a00ffffff",
    "batch not outstanding": "820b1903e8",
}


async def test_ignored(directory):
    """What a later version of the protocol may say does no harm."""
    async with working_lab(directory) as (lab, node):
        for message in IGNORED.values():
            node.tell("raw", hex=message)
        node.tell("ping")
        await node.wait_for("pong")
        assert node.find("disconnected") == []
        assert (await lab.agent.status())["uplink"]["state"] == "up"
