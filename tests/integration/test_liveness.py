# SPDX-License-Identifier: Apache-2.0
"""Deadlines: of each step of a connection, of a dead one, of the next attempt."""

import asyncio
import re
import time
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

import tls
from harness import free_port, running_lab, show, until
from network import CLOUD_ADDRESS, Network, Switch
from scripted import Script, scripted
from test_resume import switched_lab

SLACK_S = 1.5       # of a busy machine


@asynccontextmanager
async def scripted_lab(directory, script, **uplink):
    """A lab with a scripted cloud, and an agent that runs."""
    async with running_lab(directory, {"uplink": uplink}, start_cloud=False,
                           start_agent=False) as lab:
        async with scripted(lab, script):
            await lab.agent.start()
            yield lab


async def error_of(lab, timeout_s=10.0):
    """The uplink's status as soon as there is an error, which is in the log too."""
    status = (await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"),
                                              timeout_s))["uplink"]
    await lab.agent.wait_for_log(status["error"])
    return status


# --- Each step has a deadline of its own ---

def at(lab):
    return f"cannot connect to 127.0.0.1:{lab.cloud.port} (127.0.0.1): "


STEPS = {
    "tls": (True, "no TLS"),
    "upgrade": (True, "no answer to the upgrade"),
    "hello": (False, "no CHALLENGE and WELCOME"),
    "welcome": (False, "no CHALLENGE and WELCOME"),
}
# libwebsockets 4.1 by itself would wait for 5 s.
TIMEOUTS = [1, pytest.param(7, marks=pytest.mark.long)]


@pytest.mark.parametrize("timeout_s", TIMEOUTS)
@pytest.mark.parametrize("step", STEPS)
async def test_step(directory, step, timeout_s):
    """The server goes as far as that, and then says nothing."""
    connecting, words = STEPS[step]
    async with scripted_lab(directory, Script(stop_at=step), connect_timeout_s=timeout_s) as lab, \
            asyncio.timeout(60):
        status = await error_of(lab, 15)
        assert status["error"] == f"{at(lab) if connecting else ''}{words} in {timeout_s} s"


@pytest.mark.parametrize("timeout_s", TIMEOUTS)
async def test_step_is_given_that_long(directory, timeout_s):
    """The connection is neither given up before nor kept after, at each step."""
    taken = []
    for step in STEPS:
        script = Script(stop_at=step)
        async with scripted_lab(directory / step, script, connect_timeout_s=timeout_s):
            await until(lambda: script.ended, timeout_s + 10)
            taken.append(script.ended[0] - script.connected[0])
            # What is measured begins when this process gets to accept.
            assert timeout_s - 0.5 < taken[-1] < timeout_s + SLACK_S
    show(f"connect_timeout_s = {timeout_s}, silent at {', '.join(STEPS)}: given up after "
         f"{', '.join(f'{s:.2f}' for s in taken)} s")


@asynccontextmanager
async def network_lab(directory, network, sock, **uplink):
    """In networks of their own the agent, and a scripted cloud at sock; the agent is not started.
    """
    port = sock.getsockname()[1]
    async with running_lab(
            directory, {"uplink": {"url": f"wss://{CLOUD_ADDRESS}:{port}/", **uplink}},
            start_cloud=False, start_agent=False) as lab:
        lab.pair = tls.make_server_cert(directory, [CLOUD_ADDRESS], ca=lab.ca, name="there")
        lab.agent.prepare = network.enter_hub(lab.agent.prepare)
        yield lab


@pytest.mark.parametrize("timeout_s", TIMEOUTS)
async def test_no_answer_to_tcp(directory, timeout_s):
    """Every packet is dropped."""
    async with Network() as network:
        sock = await network.listen()
        async with network_lab(directory, network, sock, connect_timeout_s=timeout_s) as lab, \
                scripted(lab, Script(), sock=sock) as script:
            await network.drop()
            await lab.agent.start()
            began = time.monotonic()
            await lab.agent.wait_for_log("uplink: connecting to ")
            status = await error_of(lab, 15)
            taken_s = time.monotonic() - began
            assert timeout_s - 0.5 < taken_s < timeout_s + SLACK_S
            port = sock.getsockname()[1]
            assert status["error"] == (f"cannot connect to {CLOUD_ADDRESS}, port {port}: "
                                       f"no answer to TCP in {timeout_s} s")
            assert not script.connected
            await network.restore()
            await lab.up()


@pytest.mark.long
async def test_slow_at_each_step(directory):
    """Each takes most of the deadline, TCP too, and all together three times as much."""
    slow = dict.fromkeys(("tls", "upgrade", "hello"), 3.2)
    async with Network() as network:
        sock = await network.listen()
        async with network_lab(directory, network, sock, connect_timeout_s=4) as lab, \
                scripted(lab, Script(delay_s=slow), sock=sock) as script:
            await network.drop()
            began = time.monotonic()
            await lab.agent.start()
            await lab.agent.wait_for_log("uplink: connecting to ")
            # SYN goes again after 3 s, whatever it does before (RFC 6298).
            await asyncio.sleep(2.4)
            await network.restore()
            status = (await lab.up(25))["uplink"]
            assert time.monotonic() - began > 3 * 4
            assert status["attempts"] == 1 == len(script.connected), status


@pytest.mark.long
async def test_slow_for_longer_than_libwebsockets_waits(directory):
    """More than its 5 s at each step."""
    script = Script(delay_s=dict.fromkeys(("tls", "upgrade", "hello"), 5.6))
    async with scripted_lab(directory, script, connect_timeout_s=7) as lab:
        status = (await lab.up(30))["uplink"]
        assert status["attempts"] == 1 == len(script.connected), status
        assert status["since_s"] < 10


# --- A line that is dead ---

@pytest.mark.long
async def test_half_open(directory):
    """Packets are dropped: that is noticed after ping_interval_s and ping_timeout_s at the most."""
    options = {"ping_interval_s": 2, "ping_timeout_s": 1}
    taken = []
    async with Network() as network, Switch(await network.listen()) as switch, \
            switched_lab(directory, switch, CLOUD_ADDRESS, options, network.enter_hub) as lab:
        for number in range(3):
            # At other points of the interval.
            await lab.agent.wait_for_status(
                lambda s: s["uplink"]["since_s"] > 2.3 + 0.6 * number
                and s["uplink"]["state"] == "up")
            began = time.monotonic()
            await network.drop()
            status = await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
            taken.append(time.monotonic() - began)
            assert status["uplink"]["error"] == "no answer to a ping"
            await network.restore()
            connects = (await lab.up())["uplink"]["connects"]
        # Not before the ping was due for as long as it may take.
        assert 1 - 0.1 < min(taken) and max(taken) < 2 + 1 + SLACK_S
        assert connects == 1 + 3
    show("packets dropped, ping_interval_s = 2, ping_timeout_s = 1: noticed after "
         f"{', '.join(f'{s:.2f}' for s in taken)} s")


@pytest.mark.long
async def test_any_frame_counts(directory):
    """A cloud that answers no ping, but sends something now and then, is not dead; then it is."""
    script = Script()
    async with scripted_lab(directory, script, ping_interval_s=1, ping_timeout_s=3) as lab:
        await lab.up()
        for number in range(1, 6):
            await until(lambda: script.pings == number, what="a ping")
            await asyncio.sleep(1)
            script.send_frame()
        status = (await lab.agent.status())["uplink"]
        assert status["state"] == "up" and status["attempts"] == 1
        assert status["since_s"] > 2 * (1 + 3) - 0.5    # twice as long as without a frame
        assert "rtt_us" not in status                   # nothing was an answer
        silent = time.monotonic()
        assert (await error_of(lab))["error"] == "no answer to a ping"
        assert 3 < time.monotonic() - silent < 1 + 3 + SLACK_S
        assert len(script.ended) == 1


@pytest.mark.long
async def test_frames_without_pings(directory):
    """Where frames come often enough there is but the first ping."""
    script = Script()
    async with scripted_lab(directory, script, ping_interval_s=2, ping_timeout_s=1) as lab:
        await lab.up()
        began = time.monotonic()
        while time.monotonic() < began + 5:
            script.send_frame()
            await asyncio.sleep(0.1)
        assert script.pings == 1
        assert (await error_of(lab))["error"] == "no answer to a ping"
        assert script.pings == 2


@pytest.mark.long
async def test_pings_off(directory):
    """ping_interval_s = 0: silence is not looked at."""
    script = Script()
    async with scripted_lab(directory, script, ping_interval_s=0, ping_timeout_s=1) as lab:
        status = await lab.agent.wait_for_status(
            lambda s: s["uplink"]["state"] == "up" and s["uplink"]["since_s"] > 5, 15)
        assert status["uplink"]["attempts"] == 1
        assert script.pings == 0 and not script.ended


# --- What HTTP says instead ---

def http(status, *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""])


WORDS = {
    "200 OK": ": is the path in uplink.url right?",
    "401 Unauthorized": ": is the token right? See auth.mode",
    "403 Forbidden": ": it does not let this hotspot in",
    "404 Not Found": ": is the path in uplink.url right?",
    "500 Internal Server Error": "",
}
HOPELESS = ("401", "403")


@pytest.mark.parametrize("status", WORDS)
async def test_http(directory, status):
    """The status is named, with what to look at; 401 and 403 wait long, all else does not."""
    async with scripted_lab(directory, Script(response=http(status)), backoff_max_s=3600) as lab:
        uplink = await error_of(lab)
        code = status[:3]
        assert uplink["error"] == \
            f"{at(lab)}the server does not upgrade to WebSocket: HTTP {code}{WORDS[status]}"
        hopeless = code in HOPELESS
        await lab.agent.wait_for_log(" error   uplink: " if hopeless else " warning uplink: ")
        if hopeless:
            assert 1800 <= uplink["retry_in_s"] + uplink["error_s"] <= 3600
        else:
            await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 3)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
async def test_redirect(directory, status):
    """Wherever a server, or somebody's login page, wants to lead the hotspot: it does not go."""
    elsewhere, port = Script(), free_port()
    script = Script(response=http(status, f"Location: https://127.0.0.1:{port}/"))
    async with scripted_lab(directory, script) as lab, scripted(lab, elsewhere, port):
        uplink = await error_of(lab)
        assert uplink["error"] == (f"{at(lab)}the server does not upgrade to WebSocket: HTTP "
                                   f"{status[:3]}: it redirects, perhaps to a login page")
        await until(lambda: len(script.requests) >= 3)
        assert not elsewhere.connected


def date(past_s):
    """As HTTP has it; a server's clock may be wrong."""
    return format_datetime(datetime(2001, 2, 3, tzinfo=timezone.utc) + timedelta(seconds=past_s),
                           usegmt=True)


# Headers, and for how many seconds they ask.
RETRY_AFTER = {
    "seconds": (["Retry-After: 100"], 100),
    "date": ([f"Date: {date(0)}", f"Retry-After: {date(200)}"], 200),
    "years": (["Retry-After: 99999999"], 3600),
}


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
@pytest.mark.parametrize("name", RETRY_AFTER)
async def test_retry_after(directory, name, status):
    """For so long, and a quarter of it at random, as many hubs hear the same."""
    headers, asked_s = RETRY_AFTER[name]
    async with scripted_lab(directory, Script(response=http(status, *headers))) as lab:
        uplink = await error_of(lab)
        assert f"HTTP {status[:3]}" in uplink["error"]
        assert asked_s <= uplink["retry_in_s"] + uplink["error_s"] <= 1.25 * asked_s + 0.01


NO_RETRY_AFTER = {
    "date without Date": [f"Retry-After: {date(200)}"],
    "date that is over": [f"Date: {date(0)}", f"Retry-After: {date(-200)}"],
    "no number": ["Retry-After: soon"],
    "negative": ["Retry-After: -100"],
}


@pytest.mark.parametrize("name", NO_RETRY_AFTER)
async def test_no_retry_after(directory, name):
    """What cannot be told is not waited for."""
    script = Script(response=http("503 Service Unavailable", *NO_RETRY_AFTER[name]))
    async with scripted_lab(directory, script):
        await until(lambda: len(script.requests) >= 3)


async def test_waits_that_long(directory):
    """It does not come back before, and then it does."""
    script = Script(response=http("503 Service Unavailable", "Retry-After: 3"))
    async with scripted_lab(directory, script) as lab:
        await error_of(lab)
        script.response = ""
        await lab.up()
        first, second = script.connected[:2]    # the other is the attempt that succeeded
        assert 3 <= second - first < 3.75 + SLACK_S


# --- Back-off ---

@pytest.mark.long
async def test_backoff(directory):
    """Random up to a limit that doubles from failure to failure, of each URL by itself."""
    urls = [f"wss://127.0.0.1:{free_port()}/" for _ in range(8)]
    async with running_lab(directory, {"uplink": {"url": urls, "backoff_min_ms": 100,
                                                  "backoff_max_s": 3600}}) as lab:
        waits = {}      # of (URL, failures)

        def look(status):
            for url in status["uplink"]["urls"]:
                if "retry_in_s" in url and "error_s" in url:
                    waits[url["url"], url["failures"]] = url["retry_in_s"] + url["error_s"]
            return all(url["failures"] >= 6 for url in status["uplink"]["urls"])
        await lab.agent.wait_for_status(look, 30)
    parts = []
    for (_, failures), wait_s in waits.items():
        limit_s = 0.1 * 2 ** (failures - 1)
        assert wait_s <= limit_s + 0.002, waits
        parts.append(wait_s / limit_s)
    # Of at least 16 waits, none of them missed for being short, all in one half: 1 of 30,000.
    assert len(parts) >= 16 and min(parts) < 0.5 < max(parts), parts
    longest = [max([w for (_, f), w in waits.items() if f == n], default=0) for n in range(1, 7)]
    assert longest[5] > 4 * 0.1 > longest[0]        # of 8: fails once in 10 million times
    show("back-off from 100 ms, longest wait after each failure: "
         + ", ".join(f"{wait:.2f}" for wait in longest) + " s")


async def test_backoff_has_an_end(directory):
    """backoff_max_s is the longest."""
    async with running_lab(directory, {"uplink": {"backoff_min_ms": 100, "backoff_max_s": 1}},
                           start_cloud=False) as lab:
        waits = []

        def look(status):
            if "retry_in_s" in status["uplink"]["urls"][0]:
                [url] = status["uplink"]["urls"]
                waits.append(url["retry_in_s"] + url["error_s"])
            return status["uplink"]["urls"][0]["failures"] >= 12
        await lab.agent.wait_for_status(look, 25)
        assert 0.2 < max(waits) <= 1.002
        assert not re.search(r"next attempt in ([2-9]|\d\d)", lab.agent.log)
