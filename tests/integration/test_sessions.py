# SPDX-License-Identifier: Apache-2.0
"""What the status socket says of sessions: how long each step took, and of those that are over."""

import asyncio
import time
import uuid
from collections import Counter

import pytest

from bluez_sim import Beacon
from device import URL_PREFIX, EchoDevice
from harness import running_lab, show, until
from test_bearers import device_over, session_of
from test_relay import KEEPS_OPEN

STEPS = ["connect_ms", "discover_ms", "first_frame_ms", "first_answer_ms", "total_ms"]
ENDED = {"session", "device_url", "adapter", "bearer", "rssi_dbm", "result", "reason", "ended_s",
         "resumed", "frames_up", "frames_down", "bytes_up", "bytes_down"}
KEPT = 32       # ended sessions the agent remembers
NO_ID = {"error": "expected a Device ID, 4 or more of its first letters, or a Device URL"}


def timings(session):
    return {name: session[name] for name in STEPS if name in session}


async def ended(lab, number=1):
    """The sessions that are over, newest first, once there are as many."""
    async def enough():
        told = await lab.agent.ask("sessions")
        return told["last"] if len(told["last"]) >= number else None
    return await until(enough, what=f"{number} ended sessions")


async def live(lab):
    """The only session there is, which `status` and `sessions` tell alike."""
    [told] = (await lab.agent.ask("sessions"))["sessions"]
    [also] = (await lab.agent.status())["relay"]["sessions"]
    assert told.keys() == also.keys() and timings(told) == timings(also)
    return told


def does_as_told(session, channel, payload):
    """A cloud that is told by the device what to do: "close" with some code, or nothing."""
    if payload.startswith(b"close "):
        asyncio.get_running_loop().call_soon(session.close, int(payload[6:]), "as told")
    return []


def asker(frame, bearer="gatt"):
    """A device that asks, to send this."""
    device = device_over(bearer)
    device.ask(frame)
    return device


# --- Timings ---

@pytest.mark.parametrize("bearer", ["gatt", "l2cap"])
async def test_timings(directory, bearer):
    """Each step shows as soon as it is over, as long as it took, and stays with the session."""
    def answers_late(session, channel, payload):
        asyncio.get_running_loop().call_later(0.4, session.send_frames, [payload], channel)
        return []

    async with running_lab(directory, cloud={"raw_handler": answers_late}) as lab:
        await lab.working()
        device = device_over(bearer)
        device.asks = True
        peer = lab.sim.add_device(device)
        peer.connect_delay_s, peer.resolve_delay_s = 0.3, 0.2
        began = time.monotonic()
        lab.sim.set_interval(device, 0.05)
        session, opened, _ = await session_of(lab, device)
        assert list(timings(await live(lab))) == STEPS[:2]      # for all that ACCEPT has come

        await asyncio.sleep(0.1)        # the device takes its time
        lab.sim.send(device, b"hello")
        await until(lambda: device.answers)
        told = await live(lab)
        assert list(timings(told)) == STEPS[:4]
        session.close(0, "bye")
        [last] = await ended(lab)
        over_ms = (time.monotonic() - began) * 1000

        assert timings(told).items() <= last.items()
        connect, discover, frame, answer, total = (last[name] for name in STEPS)
        [connection] = lab.sim.connections
        assert connect >= max(300, int((connection.up_at - connection.tried_at) * 1000))
        assert discover >= (200 if bearer == "gatt" else 0)
        assert frame >= connect + discover + 100
        assert answer >= frame + 400
        assert answer <= total <= over_ms
        assert last["ended_s"] * 1000 <= over_ms - total + 2        # for what was rounded
        assert last.keys() == ENDED | set(STEPS)
        assert (last["device_url"], last["adapter"], last["bearer"], last["rssi_dbm"]) == (
            device.device_url, "hci0", bearer, opened["rssi"])
        assert (last["result"], last["reason"]) == ("served", "closed by the cloud (0): bye")
        assert (last["session"], last["resumed"]) == (told["session"], 0)
        assert [last[f"{what}_{way}"] for what in ("frames", "bytes") for way in ("up", "down")] \
            == [1, 1, 5, 5]
        show(f"a session over {bearer}: connected in {connect} ms where the lab took 300, open "
             f"{discover} ms later, answered after {answer - frame} ms where the cloud took 400")


FAILURES = [
    # outcome, bearer, whether it was connected, reason
    ("connect-error", "auto", False, "le-connection-abort-by-local"),
    ("no-link", "auto", False, "connect: "),
    pytest.param("connect-hangs", "auto", False, "timeout: Connect", marks=pytest.mark.long),
    ("l2cap-refused", "l2cap", True, "Connection refused"),
    pytest.param("l2cap-never-answers", "l2cap", True, "no answer", marks=pytest.mark.long),
    pytest.param("services-never-resolve", "gatt", True, "timeout: ", marks=pytest.mark.long),
    pytest.param("notify-never-answers", "gatt", True, "timeout: ", marks=pytest.mark.long),
]


@pytest.mark.parametrize("outcome,bearer,connected,reason", FAILURES)
async def test_failed_attempt(directory, outcome, bearer, connected, reason):
    """An attempt that fails says why, and nothing of steps it never came to."""
    async with running_lab(directory, {"relay": {"bearer": bearer}}, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = asker(b"hello", "gatt" if bearer == "auto" else bearer)
        lab.sim.add_device(device)
        lab.sim.script(device, outcome)
        lab.sim.set_interval(device, 0.05)
        await until(lambda: lab.sim.connections)
        began = time.monotonic()
        status = await lab.agent.wait_for_status(lambda s: s["relay"]["failed"], 20)
        over_ms = (time.monotonic() - began) * 1000
        last = (await lab.agent.ask("sessions"))["last"][-1]
        steps = ["connect_ms", "total_ms"] if connected else ["total_ms"]
        assert last.keys() == ENDED - {"bearer"} | set(steps)
        assert last["result"] == "failed" and reason in last["reason"]
        assert status["relay"]["served"] == last["frames_up"] == last["frames_down"] == 0
        assert last["total_ms"] >= last.get("connect_ms", 0)
        show(f"{outcome}: failed after {last['total_ms']} ms, {over_ms:.0f} ms to the lab")


async def test_results(directory):
    """What became of each session is what relay's counters add up."""
    options = {"relay": {"max_duration_s": 1, "resume_max_s": 0}}
    async with running_lab(directory, options, cloud={"raw_handler": does_as_told}) as lab:
        await lab.working()
        results = {}

        async def one(device, result, number):
            lab.sim.add_device(device, interval_s=0.05)
            results[device.device_url] = result
            return await ended(lab, number)
        await one(asker(b"close 0"), "served", 1)
        await one(asker(b"close 3"), "failed", 2)
        [long, *_] = await one(asker(b"stay"), "broken", 3)
        assert long["total_ms"] >= 1000
        vanishing = asker(b"stay")
        lab.sim.add_device(vanishing, interval_s=0.05)
        await session_of(lab, vanishing)
        lab.sim.drop_link(vanishing)
        await one(asker(b"close 2"), "served", 5)
        results[vanishing.device_url] = "served"        # that is how a device ends it
        cut = asker(b"stay")
        lab.sim.add_device(cut, interval_s=0.05)
        await session_of(lab, cut)
        results[cut.device_url] = "broken"
        await lab.cloud.stop()
        last = await ended(lab, 6)
        assert {session["device_url"]: session["result"] for session in last} == results
        relay = (await lab.agent.status())["relay"]
        assert Counter(session["result"] for session in last) == {
            name: relay[name] for name in ("served", "broken", "failed")}
        assert relay["started"] == 6
        for what in ("frames_up", "bytes_up", "frames_down"):
            assert sum(session[what] for session in last) == relay[what]
        for session in last:
            assert session["reason"] and list(timings(session)) == [*STEPS[:3], "total_ms"]


async def test_the_last_are_kept(directory):
    """Of 40 sessions the last 32 can be asked for, newest first; some of them failed."""
    async with running_lab(directory, {"relay": {"max_links": 1}},
                           cloud={"raw_handler": does_as_told}) as lab:
        await lab.working()
        assert await lab.agent.ask("sessions") == {"sessions": [], "last": []}
        devices = [asker(b"close 0") for _ in range(37)]
        for number, device in enumerate(devices):
            peer = lab.sim.add_device(device)
            peer.connect_delay_s = peer.resolve_delay_s = peer.disconnect_delay_s = 0.01
            if number % 12 == 11:
                lab.sim.script(device, "connect-error")
            lab.sim.set_interval(device, 0.1)
        status = await lab.agent.wait_for_status(
            lambda s: s["relay"]["served"] == 37 and not s["relay"]["sessions"], 30)
        assert (status["relay"]["started"], status["relay"]["failed"]) == (40, 3)
        told = await lab.agent.ask("sessions")
        last = told["last"]
        assert not told["sessions"] and len(last) == KEPT
        # With one link each begins when the one before is over, if not for its failure.
        assert [session["session"] for session in last] == list(range(40, 40 - KEPT, -1))
        ages = [session["ended_s"] for session in last]
        assert ages == sorted(ages)
        urls = {device.device_url for device in devices}
        for session in last:
            assert session["device_url"] in urls
            assert ("bearer" in session) == (session["result"] == "served")


# --- Without an uplink ---

async def test_suspended_and_resumed(directory):
    """The timings stay as they are while the uplink is down, and an answer after it still counts.
    """
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        device = asker(b"hello")
        lab.sim.add_device(device, interval_s=0.05)
        session, _, _ = await session_of(lab, device)
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["frames_up"])
        before = timings(await live(lab))
        assert list(before) == STEPS[:3]
        cut = time.monotonic()
        await lab.cloud.kill(True)
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
        told = await live(lab)
        assert told["suspended"] and timings(told) == before
        await lab.cloud.start()
        await lab.cloud.wait_for("resumed")
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["resumed"] == 1)
        told = await live(lab)
        assert told["accepted"] and not told["suspended"] and timings(told) == before
        down_ms = (time.monotonic() - cut) * 1000
        session.send_frames([b"at last"])
        await until(lambda: device.answers)
        assert timings(await live(lab)).keys() == set(STEPS[:4])
        session.close(0, "")
        [last] = await ended(lab)
        assert before.items() <= last.items() and last["resumed"] == 1
        assert last["first_answer_ms"] >= before["first_frame_ms"] + down_ms


async def test_opened_again(directory):
    """A session that the cloud never heard of has another number then, and the timings it had."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        lab.cloud.accept_delay_s = 0.5
        device = asker(b"hello")
        lab.sim.add_device(device, interval_s=0.05)
        await lab.cloud.wait_for("open")
        await lab.agent.wait_for_status(lambda s: s["relay"]["sessions"][0]["frames_up"])
        first = await live(lab)
        await lab.cloud.kill(False)
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
        await lab.cloud.start()
        await lab.cloud.wait_for("open", count=2)
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames_in)
        lab.cloud.sessions[0].close(0, "")
        [last] = await ended(lab)
        assert last["session"] == first["session"] + 1 == lab.cloud.find("open")[1]["session"]
        assert timings(first).items() <= last.items()


# --- One device ---

async def test_device(directory):
    """`device` has all there is of one: its entry, its place in the queue, its sessions."""
    async with running_lab(directory, {"relay": {"max_links": 1}},
                           cloud={"raw_handler": does_as_told}) as lab:
        await lab.working()
        other, device = asker(b"stay"), asker(b"close 0")
        lab.sim.add_device(other, interval_s=0.05)
        session, _, _ = await session_of(lab, other)
        lab.sim.add_device(device, interval_s=0.05)

        async def ask():
            return await lab.agent.ask(f"device {device.device_id}")
        await lab.agent.wait_for_status(
            lambda s: [q["wait"] for q in s["relay"]["queue"]] == ["no-slot"])
        told = await ask()
        [queued] = (await lab.agent.status())["relay"]["queue"]
        assert told["queue"].keys() == queued.keys()
        assert (told["queue"]["wait"], told["queue"]["adapter"]) == ("no-slot", "hci0")
        assert told["queue"]["device_url"] == told["device"]["device_url"] == device.device_url
        listed = (await lab.agent.devices())[device.device_url]
        assert told["device"].keys() == listed.keys()
        assert "session" not in told and told["last"] == []

        told = await lab.agent.ask(f"device {other.device_id}")
        assert told["session"]["session"] == session.number and "queue" not in told
        assert told["device"]["connected"] and told["last"] == []
        assert timings(told["session"]) == timings(await live(lab))

        session.close(0, "")
        told = await until(lambda: asked(ask, "last"))
        assert "session" not in told and "queue" not in told
        [last] = told["last"]
        assert (last["device_url"], last["result"]) == (device.device_url, "served")
        newest, oldest = await ended(lab, 2)
        assert newest["session"] == last["session"]
        assert oldest["device_url"] == other.device_url


async def asked(ask, name):
    """The answer, once it has that."""
    told = await ask()
    return told if told.get(name) else None


async def test_device_is_named(directory):
    """By its ID in any case or by a URL; what is neither, and who was never heard, is an error."""
    async with running_lab(directory) as lab:
        await lab.working()
        device, unknown = EchoDevice(), EchoDevice()
        lab.sim.add_device(device)
        await lab.sim.advertise(device)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 1)
        name = str(device.device_id)
        for text in (name, name.upper(), device.device_url, f"{device.device_url}/",
                     URL_PREFIX + name.upper(), f"http://hub.example:8080/a/b/{name}"):
            told = await lab.agent.ask(f"device {text}")
            assert told.keys() == {"device", "last"}, text
            assert told["device"]["device_url"] == device.device_url
        for text in ("", " ", "nonsense", name[:3], f" {name}", f"{name} x", f"{{{name}}}", URL_PREFIX, f"{device.device_url}//",
                     f"{device.device_url}?x", f"{URL_PREFIX}x{name}", f"https://{name}",
                     f"https:///{name}", f"/{name}", "://", "https://"):
            assert await lab.agent.ask(f"device {text}") == NO_ID, text
        assert await lab.agent.ask("device") == NO_ID
        for text in (f"{name}0", name.replace("-", "")):
            assert await lab.agent.ask(f"device {text}") == {
                "error": f"no device {text} was heard"}, text
        assert await lab.agent.ask(f"device {unknown.device_url}") == {
            "error": f"no device {unknown.device_id} was heard"}
        assert "error" in await lab.agent.ask("sessions x")


async def test_begin_of_a_device_id(directory):
    """Four letters and more stand for it, as long as there is one with them."""
    names = ["12345678-0000-4000-8000-000000000001", "12345abc-0000-4000-8000-000000000002"]
    async with running_lab(directory) as lab:
        await lab.working()
        for name in names:
            beacon = Beacon(uuid.UUID(name))
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["devices"] == 2)
        for text, name in (("123456", names[0]), ("12345A", names[1]), (names[1][:-1], names[1])):
            told = await lab.agent.ask(f"device {text}")
            assert told["device"]["device_url"] == URL_PREFIX + name
        assert await lab.agent.ask("device 1234") == {"error": "2 devices begin with 1234"}
        assert await lab.agent.ask("device 4321") == {"error": "no device 4321 was heard"}


async def test_device_let_go_by_the_table(directory):
    """A device for which the table has no room any more still has its sessions."""
    async with running_lab(directory, {"devices": {"max": 16}},
                           cloud={"raw_handler": does_as_told}) as lab:
        await lab.working()
        device = asker(b"close 0")
        lab.sim.add_device(device, interval_s=0.05)
        await ended(lab)
        lab.sim.set_interval(device, None)
        while device.device_url in await lab.agent.devices():
            beacon = Beacon()
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
        told = await lab.agent.ask(f"device {device.device_id}")
        assert told.keys() == {"last"} and len(told["last"]) == 1
