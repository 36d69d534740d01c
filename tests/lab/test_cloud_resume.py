# SPDX-License-Identifier: Apache-2.0
"""Sessions of the lab's cloud that outlive their connection, and connections that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tls
from cloud import Cloud, Hotspot, RelaySession
from device import VirtualDevice
from hotspot_client import SIGHTING, Client, with_client

NO_ANSWER: dict[str, Any] = {"raw_handler": lambda *_: []}
ENDINGS: dict[str, Callable[[Client, Hotspot], Awaitable[Any] | None]] = {
    "hotspot closes": lambda client, _: client.close(),
    "hotspot is reset": lambda client, _: client.vanish(),
    "cloud resets": lambda _, hotspot: hotspot.abort(),
    "cloud closes": lambda _, hotspot: hotspot.close(1001, "bye"),
    "bad message": lambda client, _: client.send_raw(b""),
}


async def opened(cloud: Cloud, client: Client, number: int = 1, channels: int = 1) -> RelaySession:
    """A session that was accepted."""
    await client.open(number, channels)
    return next(s for s in cloud.sessions if s.number == number)


async def dropped(cloud: Cloud, client: Client) -> None:
    """The connection of the hotspot is gone, and its sessions wait."""
    client.vanish()
    await cloud.wait_for("disconnected", hotspot_id=client.hotspot_id,
                         count=len(cloud.find("disconnected", hotspot_id=client.hotspot_id)) + 1)
    assert all(session.suspended for session in cloud.sessions)


@pytest.mark.parametrize("ending", ENDINGS)
def test_sessions_outlive_any_ending(ca: tls.Ca, ending: str) -> None:
    """However the connection ends, the session goes on over the next."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client, channels=2)
        await client.data(1, b"first", channel=1)
        await client.nothing_came()
        wait = ENDINGS[ending](client, cloud.hotspots[client.hotspot_id])
        if wait:
            await wait
        event = await cloud.wait_for("suspended", session=1, device_id=session.device_id)
        assert event["hotspot_id"] == client.hotspot_id
        await cloud.wait_for("disconnected")
        assert session.suspended and cloud.sessions == [session] and not cloud.hotspots
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == [[1, 1, 15]]
        event = await cloud.wait_for("resumed", session=1, device_id=session.device_id)
        assert event["resent"] == 0 and not session.suspended
        await newer.data(1, b"second", channel=1)
        await newer.nothing_came()
        assert session.received == {0: [], 1: [b"first", b"second"]}
        await newer.send(24, 1, 1, "")
        await cloud.wait_for("close", session=1, by="hotspot", code=1)
        await newer.close()
        await cloud.wait_for("disconnected", count=2)
        assert len(cloud.find("close")) == len(cloud.find("suspended")) == 1
    with_client(ca, test, **NO_ANSWER)


@pytest.mark.parametrize("next_seq", [2, 3, 6])
def test_sent_again(ca: tls.Ca, next_seq: int) -> None:
    """Unchanged, from the hotspot's next_seq on, within its credits; then what is new."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client, channels=2)
        for n in range(6):
            session.send_frames([bytes([n])], channel=n % 2)
        sent = await client.receive_all(6)
        await client.send(23, 1, 2, 2)
        await client.nothing_came()
        await dropped(cloud, client)
        session.send_frames([b"new"])
        sent.append([22, 1, 0, 6, b"new"])
        newer, welcome = await client.again([[1, next_seq, 1]])
        assert welcome[2] == [[1, 0, 16]]
        assert cloud.find("resumed", session=1, resent=6 - next_seq)
        assert await newer.receive() == sent[next_seq]
        await newer.nothing_came()      # 1 credit is all
        if next_seq < 6:                # what it said is missing, it cannot have
            await newer.send(23, 1, 6 - next_seq, next_seq + 1)
            assert await newer.receive_all(6 - next_seq) == sent[next_seq + 1:]
        await newer.nothing_came()
        assert (session.frames_out, session.bytes_out) == (7, 9)
        assert session.resent == 6 - next_seq and session.credits_out == 0
    with_client(ca, test, **NO_ANSWER)


def test_twice_in_a_row(ca: tls.Ca) -> None:
    """A second drop while frames are still being sent again."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        session.send_frames([b"0", b"1", b"2", b"3"])
        assert [m[4] for m in await client.receive_all(4)] == [b"0", b"1", b"2", b"3"]
        await dropped(cloud, client)
        second, _ = await client.again([[1, 1, 1]])
        assert await second.receive() == [22, 1, 0, 1, b"1"]
        await dropped(cloud, second)
        third, _ = await second.again([[1, 3, 8]])      # as if all had come before the first drop
        assert await third.receive() == [22, 1, 0, 3, b"3"]
        session.send_frames([b"4"])
        assert await third.receive() == [22, 1, 0, 4, b"4"]
        assert [e["resent"] for e in cloud.find("resumed")] == [3, 1]
        assert len(cloud.find("suspended")) == 2
        await third.close()
    with_client(ca, test, **NO_ANSWER)


def test_what_the_hotspot_sends_again(ca: tls.Ca) -> None:
    """From the seq the cloud wants; anything else ends the session, and is delivered to nobody."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        good, bad = await opened(cloud, client, 1), await opened(cloud, client, 2)
        for session in (1, 2):
            await client.data(session, b"0")
            await client.data(session, b"1")
        await client.nothing_came()
        await dropped(cloud, client)
        newer, welcome = await client.again([[2, 0, 16], [1, 0, 16]])
        assert sorted(welcome[2]) == [[1, 2, 14], [2, 2, 14]]
        await newer.send(22, 1, 0, 2, b"2")
        await newer.send(22, 2, 0, 1, b"1")
        assert (await newer.receive())[:3] == [24, 2, 8]
        assert good.received[0] == [b"0", b"1", b"2"] and bad.received[0] == [b"0", b"1"]
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_acknowledged_before_it_came_again(ca: tls.Ca) -> None:
    """What the hotspot listed as missing it cannot have before it was sent again."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        session.send_frames([b"0", b"1"])
        await dropped(cloud, client)
        newer, _ = await client.again([[1, 0, 1]])
        assert await newer.receive() == [22, 1, 0, 0, b"0"]
        await newer.send(23, 1, 1, 2)
        assert (await newer.receive())[:3] == [24, 1, 8]
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


@pytest.mark.parametrize("next_seq", [0, 1, 4, 2**64 - 1])
def test_impossible_next_seq(ca: tls.Ca, next_seq: int) -> None:
    """Below one given before, or never sent: listed, and closed with 8; others go on."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session, other = await opened(cloud, client), await opened(cloud, client, 2)
        session.send_frames([b"0", b"1", b"2"])
        await client.receive_all(3)
        await client.send(23, 1, 1, 2)
        await client.nothing_came()
        await dropped(cloud, client)
        newer, welcome = await client.again([[1, next_seq, 16], [2, 0, 16]])
        assert len(welcome[2]) == 2
        assert (await newer.receive())[:3] == [24, 1, 8]
        await newer.nothing_came()
        assert cloud.find("close") == cloud.find("close", session=1, code=8, by="cloud") != []
        assert cloud.sessions == [other] and not other.suspended
        assert not cloud.find("resumed", session=1)
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_listed_by_one_side(ca: tls.Ca) -> None:
    """It is over on that side: no CLOSE, no entry in WELCOME."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        await opened(cloud, client)
        kept = await opened(cloud, client, 2)
        await dropped(cloud, client)
        newer, welcome = await client.again([[2, 0, 16], [9, 0, 16]])
        assert welcome[2] == [[2, 0, 16]]
        await cloud.wait_for("close", session=1, code=None, by="hotspot")
        await newer.nothing_came()
        await newer.data(1, b"late")
        await newer.open(10)        # what it had as 9, under a new number
        assert [s.number for s in cloud.sessions] == [2, 10] and kept in cloud.sessions
        assert len(cloud.find("close")) == 1
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


@pytest.mark.parametrize("connected", [True, False])
def test_new_run(ca: tls.Ca, connected: bool) -> None:
    """The program was started again: it has nothing of before, whatever it lists."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        if not connected:
            await dropped(cloud, client)
        client.run = b"run-0002"
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == []
        await cloud.wait_for("close", session=1, code=None, by="hotspot")
        assert session.ended and not cloud.sessions
        await newer.open(1)         # numbers begin anew
        await newer.close()
        await cloud.wait_for("suspended", count=2)
        assert len(cloud.find("close")) == 1 and not cloud.find("resumed")
    with_client(ca, test, **NO_ANSWER)


def test_taken_over_from_a_live_connection(ca: tls.Ca) -> None:
    """The older one gets 4409, and what it still says changes nothing."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        session.send_frames([b"lost"])
        older = cloud.hotspots[client.hotspot_id]
        older.stall()
        await client.send(22, 1, 0, 0, b"unread")
        await client.send(24, 1, 1, "unread too")
        await client.send(10, 1, [SIGHTING])
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == [[1, 0, 16]]
        assert await newer.receive() == [22, 1, 0, 0, b"lost"]
        assert await client.closed() == (4409, "replaced by a newer connection")
        await cloud.wait_for("disconnected", code=4409)
        assert cloud.find("replaced", hotspot_id=client.hotspot_id)
        assert not session.suspended and not session.frames and not cloud.totals()
        assert cloud.hotspots[client.hotspot_id] is session.hotspot is not older
        await newer.send(22, 1, 0, 0, b"unread")
        await newer.nothing_came()
        assert session.received[0] == [b"unread"] and not cloud.find("close")
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_window_passes(ca: tls.Ca) -> None:
    """Sessions that nobody resumes end with 6; what came back in time does not."""
    async def test(cloud: Cloud, client: Client) -> None:
        assert (await client.hello())[1]["resume_ms"] == 30000
        cloud.resume_ms = 50
        session = await opened(cloud, client)
        await dropped(cloud, client)
        second, _ = await client.again([[1, 0, 16]])
        cloud.resume_ms = 100
        await dropped(cloud, second)
        suspended = cloud.find("suspended")[1]["time"]
        event = await cloud.wait_for("close", session=1, device_id=session.device_id)
        assert (event["code"], event["by"]) == (6, "cloud")
        assert event["time"] - suspended >= 0.09
        third, welcome = await second.again([[1, 0, 16]])
        assert welcome[2] == [] and len(cloud.find("close")) == 1
        await third.close()
    with_client(ca, test, **NO_ANSWER)


def test_none_kept(ca: tls.Ca) -> None:
    """Without resume_ms a session ends with its connection, also when that is replaced."""
    async def test(cloud: Cloud, client: Client) -> None:
        assert (await client.hello())[1] == {"credits": 16}
        await opened(cloud, client)
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == []
        await cloud.wait_for("close", session=1, by="connection", code=None)
        await opened(cloud, newer, 2)
        await newer.close()
        await cloud.wait_for("close", session=2, by="connection", code=None)
        assert not cloud.find("suspended") and len(cloud.find("close")) == 2
    with_client(ca, test, resume_ms=0, **NO_ANSWER)


def test_credits_while_away(ca: tls.Ca) -> None:
    """A CREDIT that was lost is in the list, and so is one that became due meanwhile."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        session.hold()
        for n in range(3):
            await client.data(1, bytes([n]))
        await client.nothing_came()
        await dropped(cloud, client)
        second, welcome = await client.again([[1, 0, 4]])
        assert welcome[2] == [[1, 3, 1]]
        await dropped(cloud, second)
        session.hold(False)
        third, welcome = await second.again([[1, 0, 4]])
        assert welcome[2] == [[1, 3, 4]]
        for n in range(2):
            await third.data(1, bytes([n]))
        assert await third.receive() == [23, 1, 2, 5]
        await third.close()
    with_client(ca, test, settings={"credits": 4}, **NO_ANSWER)


@pytest.mark.parametrize("late", [True, False])
def test_dropped_around_accept(ca: tls.Ca, late: bool) -> None:
    """ACCEPT is sent once: on the next connection where it was not due yet."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        cloud.accept_delay_s = 10.0 if late else 0.0
        await client.send(20, 1, bytes(16), b"", 0, 20, -60, 1)
        await client.nothing_came() if late else await client.receive()
        [session] = cloud.sessions
        await dropped(cloud, client)
        session.send_frames([b"x"])
        if late:
            session.accept()            # as if the delay had passed
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == [[1, 0, 16]]
        if late:
            assert await newer.receive() == [21, 1]
        assert await newer.receive() == [22, 1, 0, 0, b"x"]
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_end_to_end_over_many_drops(ca: tls.Ca) -> None:
    """A request and its answer, to the byte, with a drop after every few messages."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        device = VirtualDevice(cloud.device_public_key)
        request = bytes(range(256)) * 8
        device.ask(request)
        await client.open(1, device_id=device.device_id)
        sent, arrived, credits, drops = device.opened(244), 0, 16, 0
        going = 0                       # seq that goes next
        while not cloud.find("close"):
            while going < len(sent) and credits:
                await client.send(22, 1, 0, going, sent[going])
                going, credits = going + 1, credits - 1
            message = await client.receive()
            if message[0] == 22:
                assert message[3] == arrived
                arrived += 1
                sent += device.received(message[4])
            elif message[0] == 23:
                credits += message[2]
            if arrived % 3 == 0 and message[0] == 22:
                drops += 1
                await dropped(cloud, client)
                client, welcome = await client.again([[1, arrived, 3]])
                [[_, going, credits]] = welcome[2]
        assert device.answers == [request[::-1]] and drops >= 3
        assert cloud.find("close", code=0, by="cloud") and len(cloud.find("request")) == 1
        await client.close()
    with_client(ca, test)


def test_stall(ca: tls.Ca) -> None:
    """A stalled connection answers neither messages nor pings, and then all of them."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        hotspot = cloud.hotspots[client.hotspot_id]
        hotspot.stall()
        await client.data(1, b"x")
        await client.send(10, 1, [SIGHTING])
        pong = await client._ws.ping()
        other = await Client(cloud, ca).connect()       # meanwhile others are served
        await other.hello()
        await other.nothing_came()
        assert not session.frames and not pong.done()
        assert not cloud.find("batch", hotspot_id=client.hotspot_id)
        hotspot.unstall()
        assert await client.receive() == [11, 1]
        await asyncio.wait_for(pong, 2)
        assert session.received[0] == [b"x"]
        hotspot.stall()
        await cloud.stop()                              # stopping does not hang
        assert (await client.closed())[0] == 1001
        await cloud.wait_for("disconnected", hotspot_id=client.hotspot_id, code=1001)
        await other.close()
    with_client(ca, test, **NO_ANSWER)


def test_stall_keeps_back_what_was_read(ca: tls.Ca) -> None:
    """A message that the cloud has read is not handled either."""
    to_stall: list[Hotspot] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "stats" and to_stall:
            to_stall.pop().stall()

    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        hotspot = cloud.hotspots[client.hotspot_id]
        to_stall.append(hotspot)
        for n in range(20):             # one segment or two, the first stalls
            await client.send(30, {"n": n})
        await cloud.wait_for("stats")
        other = await Client(cloud, ca).connect()
        await other.hello()
        await other.nothing_came()
        assert len(cloud.find("stats")) == 1
        hotspot.unstall()
        await cloud.wait_for("stats", counters={"n": 19})
        await other.close()
    with_client(ca, test, on_event=on_event)


def test_ends_once(ca: tls.Ca) -> None:
    """One event, with or without a connection, whoever else ends the session afterwards."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session, other = await opened(cloud, client), await opened(cloud, client, 2)
        session.close(0, "")
        session.close(3, "")
        assert await client.receive() == [24, 1, 0, ""]
        await client.send(24, 1, 1, "")
        await client.nothing_came()
        await dropped(cloud, client)
        other.close(0, "while away")
        other.end(6, "", "cloud")
        newer, welcome = await client.again([[1, 0, 16], [2, 0, 16]])
        assert welcome[2] == []
        await newer.nothing_came()
        assert [(e["session"], e["code"]) for e in cloud.find("close")] == [(1, 0), (2, 0)]
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_abort_is_a_reset(ca: tls.Ca) -> None:
    """RST, which the other side can tell from an end."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        await client.nothing_came()
        cloud.hotspots[client.hotspot_id].abort()
        assert (await client.closed())[0] == 1006
        assert isinstance(client.failure, ConnectionResetError)
        await cloud.wait_for("disconnected", by="cloud")
    with_client(ca, test)


@pytest.mark.parametrize("keep", [True, False])
def test_restart(ca: tls.Ca, keep: bool) -> None:
    """A cloud that is killed forgets its sessions, if they are not to be kept."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        await cloud.kill(keep_sessions=keep)
        assert session.suspended == keep != session.ended
        await cloud.start()
        newer, welcome = await client.again([[1, 0, 16]])
        assert welcome[2] == ([[1, 0, 16]] if keep else [])
        assert bool(cloud.find("close", code=None, by="cloud")) != keep
        await newer.close()
    with_client(ca, test, **NO_ANSWER)


def test_broken_invariant_fails_the_test(ca: tls.Ca) -> None:
    """A frame delivered twice is a fault of the cloud, and stop() says so."""
    async def test(cloud: Cloud, client: Client) -> None:
        await client.hello()
        session = await opened(cloud, client)
        await client.data(1, b"x")
        await client.nothing_came()
        session.next_in = 0
        await client.send(22, 1, 0, 0, b"x")
        await client.closed()
        with pytest.raises(AssertionError, match="delivered"):
            await cloud.stop()
        assert session.received[0] == [b"x"]
    with_client(ca, test, **NO_ANSWER)
