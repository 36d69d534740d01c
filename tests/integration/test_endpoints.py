# SPDX-License-Identifier: Apache-2.0
"""Several URLs, several addresses of a name, and a name server that is silent."""

import asyncio
import contextlib
import re
import time
from contextlib import asynccontextmanager

import pytest

import tls
from cloud import Cloud
from device import EchoDevice
from harness import free_port, running_lab, show, until
from network import CLOUD_ADDRESS, NOWHERE6, NameServer, Network, Switch
from scripted import Script, scripted
from test_relay import KEEPS_OPEN

NAME = "cloud.test"


# --- URLs ---

def url_of(port):
    return f"wss://127.0.0.1:{port}/"


@asynccontextmanager
async def lab_with_urls(directory, ports, **uplink):
    """An agent that is not started, with these ports in its list; "cloud" is the lab's cloud's."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.agent.options["uplink"] |= uplink
        lab.agent.options["uplink"]["url"] = [
            url_of(lab.cloud.port if port == "cloud" else port) for port in ports]
        yield lab


def tried(lab):
    """The ports it has connected to, in order."""
    return [int(port) for port in
            re.findall(r"uplink: connecting to 127\.0\.0\.1, port (\d+)", lab.agent.log)]


def refused(port):
    return f"cannot connect to 127.0.0.1, port {port}: Connection refused"


async def test_order(directory):
    """All are tried at once in their order at the start, whatever the back-off, then it waits."""
    ports = [free_port() for _ in range(4)]
    async with lab_with_urls(directory, ports, backoff_min_ms=60_000, backoff_max_s=600) as lab:
        await lab.agent.start()
        status = await lab.agent.wait_for_status(
            lambda s: all(u["failures"] for u in s["uplink"]["urls"]))
        assert tried(lab)[:4] == ports
        assert [u["url"] for u in status["uplink"]["urls"]] == [url_of(port) for port in ports]
        assert [u["error"] for u in status["uplink"]["urls"]] == [refused(port) for port in ports]
        lines = [line for line in lab.agent.log.splitlines() if ": next attempt in " in line]
        assert [line.endswith(": next attempt in 0.0 s") for line in lines[:3]] == [True] * 3
        # Jittered, and each its own; that of the uplink is the first of them.
        waits = [u["retry_in_s"] + u["error_s"] for u in status["uplink"]["urls"]
                 if u["failures"] == 1]
        assert all(wait <= 60 for wait in waits)
        assert len(set(waits)) == len(waits) >= 3


async def test_first_is_dead(directory):
    """The second is reached at once, and status has both."""
    dead = free_port()
    async with lab_with_urls(directory, [dead, "cloud"], backoff_min_ms=60_000,
                             backoff_max_s=600) as lab:
        await lab.agent.start()
        await lab.working()
        status = (await lab.agent.status())["uplink"]
        assert status["url"] == url_of(lab.cloud.port)
        assert status["attempts"] == 2 and tried(lab) == [dead, lab.cloud.port]
        first, second = status["urls"]
        assert first["failures"] == 1 and first["error"] == refused(dead)
        assert second == {"url": url_of(lab.cloud.port), "failures": 0}
        assert (await lab.agent.status())["working"]


async def test_back_to_the_first(directory):
    """A connection that is up stays; when it drops, the first that works again comes first."""
    first_port = free_port()
    async with lab_with_urls(directory, [first_port, "cloud"]) as lab:
        second = lab.cloud
        first = Cloud(*lab.pair, port=first_port, cluster=second)
        await lab.agent.start()
        await lab.up()
        await first.start()
        try:
            await lab.agent.wait_for_status(lambda s: "retry_in_s" not in s["uplink"]["urls"][0])
            assert (await lab.agent.status())["uplink"]["url"] == second.url
            second.goaway(0)
            await first.wait_for("hello")
            await lab.up()
            # Likewise after a connection that broke, though the second would still be there.
            for number in range(2, 8):
                await first.kill(keep_sessions=True)
                await second.wait_for("hello", count=number)
                await lab.up()
                await first.start()
                await lab.agent.wait_for_status(
                    lambda s: "retry_in_s" not in s["uplink"]["urls"][0])
                for hotspot in second.hotspots.values():
                    hotspot.abort()
                await first.wait_for("hello", count=number)
                assert (await lab.up())["uplink"]["url"] == first.url
        finally:
            await first.stop()


async def test_hopeless_first(directory):
    """One that says 403 is left alone for long; the second drops, and is tried again soon."""
    first = free_port()
    async with lab_with_urls(directory, [first, "cloud"], backoff_max_s=3600) as lab:
        script = Script(response="HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        async with scripted(lab, script, first):
            await lab.agent.start()
            await lab.up()
            for number in (2, 3):
                await lab.cloud.kill()
                await lab.cloud.start()
                await lab.cloud.wait_for("hello", 15, number)
            await lab.up()
            status = (await lab.agent.status())["uplink"]
            assert "HTTP 403" in status["urls"][0]["error"]
            assert status["urls"][0]["retry_in_s"] > 1700 and status["urls"][0]["failures"] == 1
            assert len(script.requests) == 1


# --- Addresses ---

@asynccontextmanager
async def named_lab(directory, network, switch, files, **uplink):
    """In a network of its own the agent finds its cloud by name; it is not started."""
    async with running_lab(
            directory, {"uplink": {"url": f"wss://{NAME}:{switch.port}/", **uplink}},
            start_agent=False, cloud={"record_raw": False, **KEEPS_OPEN},
            pair=lambda path, ca: tls.make_server_cert(path, [NAME], ca=ca)) as lab:
        switch.target = lab.cloud.port
        paths = {}
        for place, text in files.items():
            paths[place] = directory / place.rpartition("/")[2]
            paths[place].write_text(text)
        lab.agent.prepare = network.enter_hub(lab.agent.prepare, paths)
        yield lab


async def test_address_that_does_not_answer(directory):
    """The first of a name's two addresses is dead: it costs its deadline once, then never again."""
    hosts = {"/etc/hosts": f"{NOWHERE6} {NAME}\n{CLOUD_ADDRESS} {NAME}\n",
             "/etc/nsswitch.conf": "hosts: files\n"}
    async with Network() as network, Switch(await network.listen()) as switch, \
            named_lab(directory, network, switch, hosts, connect_timeout_s=1) as lab:
        began = time.monotonic()
        await lab.agent.start()
        await lab.up()
        assert time.monotonic() - began > 1
        status = (await lab.agent.status())["uplink"]
        assert (status["address"], status["attempts"]) == (CLOUD_ADDRESS, 1)
        line = await lab.agent.wait_for_log(f"cannot connect to {NOWHERE6}, port {switch.port}: ")
        assert line.endswith(": no answer to TCP in 1 s; trying the next address")
        for number in (2, 3):
            switch.reset()
            await lab.cloud.wait_for("hello", count=number)
        await lab.up()
        connecting = re.findall(r"uplink: connecting to (\S+),", lab.agent.log)
        assert connecting == [NOWHERE6] + 3 * [CLOUD_ADDRESS]


async def test_address_that_refuses(directory):
    """Nobody listens at the first: the second is tried at once, in the same attempt."""
    hosts = {"/etc/hosts": f"::1 {NAME}\n{CLOUD_ADDRESS} {NAME}\n",
             "/etc/nsswitch.conf": "hosts: files\n"}
    async with Network() as network, Switch(await network.listen()) as switch, \
            named_lab(directory, network, switch, hosts, backoff_min_ms=60_000,
                      backoff_max_s=600) as lab:
        await lab.agent.start()
        status = await lab.up()
        assert (status["uplink"]["address"], status["uplink"]["attempts"]) == (CLOUD_ADDRESS, 1)
        assert "Connection refused; trying the next address" in lab.agent.log


# --- A name server that says nothing ---

async def latencies_ms(agent, condition):
    """How long each answer of the status socket takes, as long as the status says so."""
    taken, statuses = [], []
    while True:
        began = time.monotonic()
        status = await agent.status()
        taken.append((time.monotonic() - began) * 1000)
        if not condition(status):
            return taken, statuses
        statuses.append(status)
        await asyncio.sleep(0.005)


def percentiles(taken):
    ordered = sorted(taken)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1)]
    return "p50 {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms".format(*at) + f" of {len(ordered)}"


@asynccontextmanager
async def sending(lab, device, every_s=0.02):
    """Meanwhile the device sends a frame now and then; yields those it has sent."""
    sent = []

    async def send():
        while True:
            sent.append(b"frame %06d" % len(sent))
            lab.sim.send(device, sent[-1])
            await asyncio.sleep(every_s)
    task = asyncio.create_task(send())
    try:
        yield sent
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.long
async def test_dead_name_server(directory):
    """While names are not resolved frames come in from the radio, and status answers; then all is
    sent."""
    files = {"/etc/resolv.conf": f"nameserver {CLOUD_ADDRESS}\n",
             "/etc/hosts": "127.0.0.1 localhost\n", "/etc/nsswitch.conf": "hosts: files dns\n"}
    async with Network() as network, Switch(await network.listen()) as switch, named_lab(
            directory, network, switch, files, connect_timeout_s=2, ping_interval_s=1,
            ping_timeout_s=1) as lab:
        names = await NameServer.at(await network.bind(53), {NAME: [CLOUD_ADDRESS]})
        await lab.agent.start()
        await lab.working()
        assert names.queries
        device = EchoDevice()
        lab.sim.add_device(device, interval_s=0.05)
        device.ask(b"hold")
        await until(lambda: lab.cloud.sessions and lab.cloud.sessions[0].frames)
        async with sending(lab, device) as sent:
            began = time.monotonic()
            before, _ = await latencies_ms(lab.agent, lambda s: time.monotonic() < began + 2)
            await network.drop()
            error = f"cannot resolve {NAME}: no answer in 2 s"
            await lab.agent.wait_for_status(lambda s: error in s["uplink"].get("error", ""), 15)
            during, grown = [], []      # grown: bytes of the device's that wait for the uplink
            for _ in range(3):
                await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] == "resolving")
                taken, statuses = await latencies_ms(
                    lab.agent, lambda s: s["uplink"]["state"] == "resolving")
                during += taken
                frames = [s["relay"]["sessions"][0]["waiting_up"] for s in statuses]
                grown.append(frames[-1] - frames[0])
            assert sum(grown) > 200, grown
            # It would be the name server's 5 s, if the loop waited for it.
            assert max(during) < 2000
            queries = names.queries
            status = await lab.agent.status()
            assert status["relay"]["sessions"][0]["suspended"]
            await network.restore()
            await lab.up()
            assert names.queries > queries
        [session] = lab.cloud.sessions
        await until(lambda: len(session.frames) == len(sent) + 1, what="all frames to arrive")
        assert [frame for _, frame in session.frames] == [b"hold", *sent]
        names.close()
        show(f"status socket: {percentiles(before)} with the uplink up; {percentiles(during)} "
             f"while the name server is silent, {sum(grown)} bytes from the radio in three "
             "attempts of 2 s")
