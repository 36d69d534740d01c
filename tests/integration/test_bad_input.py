# SPDX-License-Identifier: Apache-2.0
"""Whatever cloud and radio send: a clear end where the protocol says so, and the agent goes on."""

import asyncio
import os
import random
import ssl

import cbor2
import pytest
import websockets

from bluez_sim import Beacon
from device import EchoDevice
from harness import QUICK, Agent, merge, running_lab, until

CHALLENGE, WELCOME, ACK, ACCEPT, DATA, CREDIT, CLOSE, GOAWAY = 1, 3, 11, 21, 22, 23, 24, 31
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
UNKNOWN = 4000      # a session that there is not


def d(*fields):
    return cbor2.dumps(fields)


# What a welcomed hotspot gets, and the words that have to be in log and status.
BAD = {
    "text": ("[21, 1]", "a text message"),
    "empty": (b"", "no CBOR array that starts with a type"),
    "no CBOR": (b"\xff\xff\xff", "no CBOR array that starts with a type"),
    "a map": (cbor2.dumps({1: 2}), "no CBOR array that starts with a type"),
    "an empty array": (d(), "no CBOR array that starts with a type"),
    "a type that is text": (d("DATA", 1), "no CBOR array that starts with a type"),
    "cut off": (d(DATA, UNKNOWN, 0, 0, b"x" * 50)[:-1], "DATA with a missing or wrong field"),
    "cut off in the head": (d(CREDIT, UNKNOWN, 70000, 0)[:-4], "CREDIT with a missing"),
    "field missing": (d(CREDIT, UNKNOWN, 1), "CREDIT with a missing or wrong field"),
    "text for a number": (d(ACK, "1"), "SIGHTINGS_ACK with a missing or wrong field"),
    "text for bytes": (d(DATA, UNKNOWN, 0, 0, "abc"), "DATA with a missing or wrong field"),
    "settings with a number for a key": (d(WELCOME, {1: 2}, []), "WELCOME with a missing"),
    "not the shortest tag": (b"\x82\x19\x03\xe7\xd8\x17\x00", "broken CBOR"),
    "negative": (d(ACCEPT, -1), "ACCEPT with a missing or wrong field"),
    "session over 32 bits": (d(CLOSE, 1 << 32, 0, ""), "CLOSE with a missing or wrong field"),
    "no UTF-8": (b"\x84\x18\x18\x19\x0f\xa0\x00\x62\xc3\x28", "CLOSE with a missing"),
    "bytes after it": (d(ACCEPT, UNKNOWN) + b"\x00", "bytes after the message"),
    "over the limit": (d(DATA, UNKNOWN, 0, 0, bytes(65536)), "over the size limit"),
    "far over the limit": (d(DATA, UNKNOWN, 0, 0, bytes(1 << 20)), "over the size limit"),
    "indefinite array": (b"\x9f\x15\x19\x0f\xa0\xff", "no CBOR array"),
    "indefinite bytes": (b"\x85\x16\x19\x0f\xa0\x00\x00\x5f\x41x\xff", "DATA with a missing"),
    "not the shortest form": (b"\x82\x15\x1a\x00\x00\x0f\xa0", "ACCEPT with a missing"),
    "not the shortest type": (b"\x82\x18\x15\x19\x0f\xa0", "no CBOR array"),
    "WELCOME twice": (d(WELCOME, {}, []), "a WELCOME that answers no HELLO"),
    "CHALLENGE twice": (d(CHALLENGE, bytes(32), 0), "a second CHALLENGE"),
    "cut off deep inside": (b"\x82\x19\x03\xe7" + b"\x81" * 60000, "broken CBOR"),
    "array of 2^63": (b"\x9b\x80\x00\x00\x00\x00\x00\x00\x00", "no CBOR array"),
}

async def goes_on(lab):
    """A device that is new on the air is reported."""
    beacon = Beacon()
    lab.sim.add_device(beacon)
    await lab.sim.advertise(beacon)
    await lab.cloud.wait_for("sighting", device_id=beacon.device_id)
    assert lab.cloud.totals() == dict(lab.sim.delivered)


@pytest.mark.parametrize("name", BAD)
async def test_bad_message(directory, name):
    """Closed with 4400, the reason in close frame, log and status; then a new connection."""
    message, words = BAD[name]
    async with running_lab(directory) as lab:
        await lab.working()
        lab.cloud.send_raw(message)
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["by"]) == (4400, "hotspot")
        assert words in end["reason"]
        line = await lab.agent.wait_for_log(" warning uplink: ")
        assert words in line and "closed (4400)" in line
        await lab.up()
        error = (await lab.agent.status())["uplink"]["error"]
        assert error.startswith("bad message from the server, closed (4400): ") and words in error
        await lab.cloud.wait_for("hello", count=2)
        await goes_on(lab)


# What is well-formed and means nothing, or is for a session that is over.
IGNORED = {
    "unknown type": d(99, "anything", {1: [2.5, None, True]}),
    "unknown large type": d(1 << 40),
    "hotspot's own type": d(10, 1, []),
    "fields to come": d(ACCEPT, UNKNOWN, "new", {"x": 1}),
    "ACCEPT for no session": d(ACCEPT, UNKNOWN),
    "DATA for no session": d(DATA, UNKNOWN, 0, 7, b"x" * 600),
    "CREDIT for no session": d(CREDIT, UNKNOWN, 2**32 - 1, 2**64 - 1),
    "CLOSE for no session": d(CLOSE, UNKNOWN, 77, "x" * 1000),
    "ACK of what is not out": d(ACK, 2**64 - 1),
    "floats of any length": b"\x83\x19\x03\xe7\xfa\0\0\0\0\xfb\0\0\0\0\0\0\0\0",
    "nested deeply": b"\x82\x19\x03\xe7" + b"\x81" * 60000 + b"\x00",
    "largest there is": d(99, bytes(65536 - 6)),
}


async def test_ignored(directory):
    """What is unknown, and what crossed the end of a session, is no mistake."""
    async with running_lab(directory) as lab:
        await lab.working()
        assert len(IGNORED["largest there is"]) == 65536
        before = (await lab.agent.status())["uplink"]["messages_in"]
        for message in IGNORED.values():
            lab.cloud.send_raw(message)
        await lab.agent.wait_for_status(
            lambda s: s["uplink"]["messages_in"] == before + len(IGNORED))
        await goes_on(lab)
        assert len(lab.cloud.find("hello")) == 1
        assert " warning " not in lab.agent.log


@pytest.mark.parametrize("early", [d(DATA, 1, 0, 0, b"x"), d(WELCOME, {}, []), d(GOAWAY, 0, "")],
                         ids=["DATA", "WELCOME", "GOAWAY"])
async def test_before_welcome(directory, early):
    """A message out of turn, once; then a cloud that behaves."""
    async with running_lab(directory, start_agent=False) as lab:
        welcome = lab.cloud.welcome
        authenticate = []

        def too_early(hotspot):
            if not authenticate:
                authenticate.append(1)
                hotspot.send_raw(early)
                if early[1] == WELCOME:
                    hotspot.send_raw(early)
            welcome(hotspot)
        lab.cloud.welcome = too_early
        await lab.agent.start()
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["by"]) == (4400, "hotspot")
        await lab.cloud.wait_for("hello", count=2)
        await lab.working()
        await goes_on(lab)


@pytest.mark.parametrize("settings", [{"credits": 65}, {"credits": 0}, {"report_ms": -1},
                                      {"hotspot_name": 7}, {"credits": "16"}], ids=str)
async def test_bad_settings(directory, settings):
    """A WELCOME with settings that cannot be: closed with 4400."""
    async with running_lab(directory, start_agent=False) as lab:
        good, lab.cloud.settings = lab.cloud.settings, settings
        await lab.agent.start()
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["reason"]) == (4400, "WELCOME with a missing or wrong field")
        lab.cloud.settings = good
        await lab.working()
        await goes_on(lab)


async def test_settings_to_come(directory):
    """Settings this version does not know, and a name too long for it, are no mistake."""
    async with running_lab(directory, cloud={"settings": {
            "hotspot_name": "ü" * 500, "colour": {"sky": ["blue", 1.5]}, "report_ms": 2**64 - 1,
            "resume_ms": 1}}) as lab:
        await lab.working()
        assert (await lab.agent.status())["uplink"]["hotspot_name"] == "ü" * 32
        await goes_on(lab)


SESSION = {
    "over max_frame": lambda n: [d(DATA, n, 0, 0, bytes(245))],
    "no byte": lambda n: [d(DATA, n, 0, 0, b"")],
    "wrong seq": lambda n: [d(DATA, n, 0, 1, b"x")],
    "seq again": lambda n: [d(DATA, n, 0, 0, b"x"), d(DATA, n, 0, 0, b"x")],
    "seq of 64 bits": lambda n: [d(DATA, n, 0, 2**64 - 1, b"x")],
    "channel that is not open": lambda n: [d(DATA, n, 2, 0, b"x")],
    "channel of 32 bits": lambda n: [d(DATA, n, 2**32 - 1, 0, b"x")],
    "credit for what was not sent": lambda n: [d(CREDIT, n, 1, 1000)],
}


@pytest.mark.parametrize("name", SESSION)
async def test_bad_session_message(directory, name):
    """A mistake in a session ends that session with code 8, nothing else."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device, other = EchoDevice([20]), EchoDevice([20])
        lab.sim.add_device(other, interval_s=0.05)
        await until(lambda: len(lab.cloud.sessions) == 1 and lab.cloud.sessions[0].frames_in)
        peer = lab.sim.add_device(device, interval_s=0.05)
        opened = await lab.cloud.wait_for("open", device_id=device.device_id)
        for message in SESSION[name](opened["session"]):
            lab.cloud.send_raw(message)
        close = await lab.cloud.wait_for("close")
        assert (close["session"], close["code"], close["by"]) == (opened["session"], 8, "hotspot")
        await until(lambda: peer.link is None)
        [session] = lab.cloud.sessions
        session.send_frames([b"still here"])
        await until(lambda: other.answers == [b"still here"])
        assert len(lab.cloud.find("hello")) == 1


async def test_data_beyond_credit(directory):
    """More frames than the hotspot granted: code 8, what was granted arrives."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        [session] = lab.cloud.sessions
        peer.radio_stalls = True
        # The kernel's socket takes some; then the agent grants nothing more.
        session.send_frames([bytes(240)] * 3000)

        async def is_held():
            before = session.next_out
            await lab.agent.status()
            return session.credits_out == 0 and session.next_out == before
        await until(is_held)
        lab.cloud.send_raw(d(DATA, session.number, 0, session.next_out, b"one too many"))
        close = await lab.cloud.wait_for("close")
        assert (close["code"], close["by"]) == (8, "hotspot")
        assert "credit" in close["reason"]
        await until(lambda: peer.link is None)


async def test_close_with_anything(directory):
    """Codes and reasons of a CLOSE are taken as they come, and logged in one line."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = EchoDevice([20])
        peer = lab.sim.add_device(device, interval_s=0.05)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        lab.cloud.send_raw(d(CLOSE, lab.cloud.sessions[0].number, 2**32 - 1,
                             "\x1b[2J\nfake line\n" + "ü" * 3000))
        await until(lambda: peer.link is None)
        line = await lab.agent.wait_for_log("closed by the cloud (4294967295)")
        assert "?[2J?fake line?" in line
        assert "\x1b" not in lab.agent.log


ADVERTS = [b"", b"\x01", bytes(19), os.urandom(19), bytes(20),
           b"\x3a\x04" + bytes(16) + b"\x03\x00"]


async def test_bad_service_data(directory):
    """Service data that is too short, or has no Device ID, is dropped and counted."""
    async with running_lab(directory) as lab:
        await lab.working()
        bad = [Beacon() for _ in ADVERTS]
        for beacon, data in zip(bad, ADVERTS):
            beacon.service_data = data
            lab.sim.add_device(beacon)
            assert await lab.sim.advertise(beacon) == 1
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"][0]["dropped"] == len(ADVERTS))
        assert status["sightings"]["devices"] == 0
        assert status["sightings"]["adverts"] == 0
        # One that was good, and is good again: only what was bad does not count.
        beacon = Beacon()
        good = beacon.service_data
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=2)
        beacon.service_data = good[:19]
        await lab.sim.advertise(beacon)
        beacon.service_data = good + b"\x00more to come"
        await lab.sim.advertise(beacon, count=2)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 4)
        assert lab.cloud.totals() == {beacon.device_id: 4}


async def test_random_service_data(directory):
    """500 random ones: each is dropped, or a device like any other."""
    async with running_lab(directory) as lab:
        await lab.working()
        chance = random.Random(7)
        beacon = Beacon()
        lab.sim.add_device(beacon)
        for _ in range(500):
            beacon.service_data = chance.randbytes(chance.randrange(32))
            lab.sim.rotate_address(beacon)
            await lab.sim.advertise(beacon)
        status = await lab.agent.wait_for_status(
            lambda s: s["bluetooth"]["adapters"][0]["dropped"] + s["sightings"]["adverts"] == 500)
        assert status["sightings"]["adverts"] > 100
        assert status["bluetooth"]["adapters"][0]["dropped"] > 200
        await lab.agent.wait_for_status(
            lambda s: s["sightings"]["reported"] == s["sightings"]["adverts"])
        assert sum(lab.cloud.totals().values()) == status["sightings"]["adverts"]


# --- Mutations ---

N_MUTATIONS = 2000
N_AGENTS = 12


def valid_messages():
    return [[ACK, 1], [ACCEPT, 1], [DATA, 1, 0, 0, b"frame" * 20], [CREDIT, 1, 8, 3],
            [CLOSE, 1, 3, "refused"], [GOAWAY, 3600000, "later"], [99, "unknown"]]


def mutated(chance):
    """A valid message with other values, or, one time in ten, with other bytes."""
    fields = chance.choice(valid_messages())
    for index in range(1, len(fields)):
        if chance.random() < 0.5:
            continue
        if isinstance(fields[index], int):
            fields[index] = chance.getrandbits(chance.choice([3, 8, 16, 31]))
        elif isinstance(fields[index], bytes):
            fields[index] = chance.randbytes(chance.randrange(1000))
        else:
            fields[index] = "".join(chr(chance.randrange(1, 0xD800))
                                    for _ in range(chance.randrange(60)))
    if fields[0] == GOAWAY:
        fields[1] = 3600000
    if chance.random() < 0.3:
        fields.append(chance.choice([None, 1.5, {"x": [1, 2]}, -7, b"y" * 100]))
    data = bytearray(cbor2.dumps(fields))
    if chance.random() < 1 / 10:
        at = chance.randrange(len(data))
        how = chance.randrange(4)
        if how == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            del data[at:at + chance.randrange(1, 9)]
    return bytes(data)


class Mutator:
    """A server that welcomes every hotspot and then sends it mutations, one after the other."""

    def __init__(self, lab):
        chance = random.Random(2024)
        self.left = [mutated(chance) for _ in range(N_MUTATIONS)]
        self.sent = self.survived = self.closed = 0
        self.codes = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*lab.pair)

    async def listen(self, port):
        return await websockets.serve(self._serve, "127.0.0.1", port, ssl=self._tls,
                                      subprotocols=["hotspot-relay.v1"], compression=None)

    async def _serve(self, ws, *_):
        await ws.send(d(CHALLENGE, os.urandom(32), 1))
        assert cbor2.loads(await ws.recv())[0] == 2
        await ws.send(d(WELCOME, {}, []))
        while self.left:
            message = self.left.pop()
            self.sent += 1
            try:
                await ws.send(message)
                # Its answer comes after it has dealt with the message.
                await asyncio.wait_for(await ws.ping(), 10)
                self.survived += 1
            except websockets.ConnectionClosed as err:
                self.closed += 1
                self.codes.add(err.rcvd.code if err.rcvd else None)
                return
        await ws.wait_closed()


@pytest.mark.long
async def test_mutations(directory):
    """2,000 mutations of valid messages: taken, or answered with 4400; nothing else, no leak."""
    async with running_lab(directory, start_agent=False, start_cloud=False) as lab:
        mutator = Mutator(lab)
        server = await mutator.listen(lab.cloud.port)
        agents = []
        try:
            for number in range(N_AGENTS):
                home = directory / str(number)
                home.mkdir()
                agents.append(Agent(home, f"unix:path={directory}/no-bus", merge(QUICK, {
                    "uplink": lab.agent.options["uplink"]})))
                # What is freed is not to be kept, so that memory says something.
                agents[-1].environment["ASAN_OPTIONS"] = "quarantine_size_mb=0"
                await agents[-1].start()
            before = []
            for agent in agents:
                await agent.wait_for_status(lambda s: s["uplink"]["connects"] >= 2, 30)
                before.append(agent.rss_kb)
            await until(lambda: mutator.survived + mutator.closed == N_MUTATIONS, 60)
            for agent, kb in zip(agents, before):
                status = await agent.wait_for_status(lambda s: s["uplink"]["state"] == "up")
                assert agent.rss_kb < kb + 2048
                assert status["uplink"]["connects"] > 1
                assert "closed (4400)" in status["uplink"]["error"]
        finally:
            codes = [await agent.stop() for agent in agents]
            server.close()
            await server.wait_closed()
        assert codes == [0] * N_AGENTS
        assert mutator.codes == {4400}
        assert mutator.survived > N_MUTATIONS / 2 and mutator.closed > 50
