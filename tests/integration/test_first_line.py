# SPDX-License-Identifier: Apache-2.0
"""The first line of `blecon-hotspotctl status`: what is wrong, and what to do next."""

import asyncio
import json
import re
import socket
import struct
from datetime import datetime, timedelta, timezone

import pytest
import websockets
from cryptography.x509 import load_pem_x509_certificate

import tls
from bluez_sim import Beacon
from device import EchoDevice
from harness import CTL, free_port, no_cloud, run, running_lab
from test_auth import by_certificate, does_not_start, request
from test_proxy import http, proxied_lab
from test_reload import reload
from test_tls import instead_of_cloud, server_tls, silent, unset_clock

COMMON_MAX = 320    # four lines of 80 columns


async def first_line(lab, code=3):
    page = await run(CTL, "-s", lab.agent.socket, "status")
    assert (page.code, page.err) == (code, "")
    return page.out.splitlines()[0]


async def is_told(lab, failed_at, cause, step):
    """It scans and has no cloud: where it fails is in the JSON, why and what to do in the line."""
    status = await lab.agent.wait_for_status(
        lambda s: s["bluetooth"]["state"] == "scanning" and "error" in s["uplink"], 15)
    assert status["uplink"]["failed_at"] == failed_at
    assert status["uplink"]["urls"][0]["failed_at"] == failed_at
    assert status["summary"] == no_cloud(status) and not status["working"]
    line = await first_line(lab)
    error, advice = status["uplink"]["error"], status["uplink"]["advice"]
    assert re.search(cause, error), error
    assert re.search(step, advice), advice
    assert line.startswith("Not working: no cloud: ") and line.endswith(advice)
    assert len(line) <= COMMON_MAX, line
    return line


async def is_told_of(directory, serve, *told, **uplink):
    """The same, of another server where the cloud should be; serve(port, ssl) returns it."""
    async with running_lab(directory, {"uplink": uplink}, start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: serve(port, server_tls(lab))):
            await lab.agent.start()
            await is_told(lab, *told)


def each(handle):
    """A server that gives each connection to handle(reader, writer)."""
    return lambda port, _: asyncio.start_server(handle, "127.0.0.1", port)


CERTIFICATES = {
    "expired": (tls.make_expired_cert, "certificate has expired.*the hub's clock says",
                "Renew it on the server"),
    "not yet valid": (tls.make_future_cert, "certificate is not valid yet", "Set the hub's clock"),
    "wrong host": (tls.make_wrong_host_cert, "certificate is for another host: .*wrong.example",
                   "host in uplink.url must be one that the certificate is for"),
    "other CA": (lambda directory, ca: tls.make_other_ca_cert(directory), "unknown CA",
                 "uplink.ca_file"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificate(directory, name):
    """The server's is not good."""
    make, cause, step = CERTIFICATES[name]
    async with running_lab(directory, pair=make) as lab:
        await is_told(lab, "tls", cause, step)


async def test_clock_of_1970(directory):
    """What is wrong is the hub's clock; the status says so in a field of its own as well."""
    async with running_lab(directory, start_agent=False) as lab:
        clock = unset_clock(lab)
        await lab.agent.start()
        line = await is_told(lab, "tls", "clock says 1970-01-01 00:1. UTC, is it set",
                             "^Set the hub's clock, with NTP or date")
        assert "is it set? Set" in line
        status = await lab.agent.status()
        assert status["clock"]["set"] is False
        assert status["clock"]["time"].startswith("1970-01-01T00:1")
        clock.write_text("0")
        status = await lab.up()
        assert status["clock"]["set"] is True and "advice" not in status["uplink"]


async def test_wrong_pin(directory):
    """A key that nobody has pinned."""
    async with running_lab(directory, start_agent=False) as lab:
        other = tls.make_server_cert(directory, ca=lab.ca, name="other")
        lab.agent.options["uplink"]["pins"] = [tls.pin_of(other)]
        await lab.agent.start()
        await is_told(lab, "tls", "none of uplink.pins", "new key, add it to uplink.pins")


async def test_client_certificate_wanted(directory):
    """Nothing but its key, where the cloud wants a certificate."""
    clients = tls.make_ca(directory, "clients")
    async with running_lab(directory, cloud={"client_ca": clients.cert}) as lab:
        await is_told(lab, "tls", "TLS|certificate", "certificate")


async def test_plain_tcp(directory):
    """Another port than that of TLS."""
    async def answer(_, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    await is_told_of(directory, each(answer), "tls", "TLS", "port in uplink.url")


async def test_hangs_up(directory):
    """Somebody takes the connection and drops it, before or after the first byte of TLS."""
    async def drop(_, writer):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    await is_told_of(directory, each(drop), "tls", "reset by peer in the TLS handshake",
                     "server's log")


async def test_name_does_not_resolve(directory):
    """Whether there is no such name or nobody to ask: both are named."""
    async with running_lab(directory, {"uplink": {"url": "wss://no-such-host.invalid/"}}) as lab:
        line = await is_told(lab, "resolve", "cannot resolve no-such-host.invalid",
                             "name in uplink.url right")
        assert "/etc/resolv.conf" in line


async def test_port_refused(directory):
    """Nobody listens."""
    async with running_lab(directory, start_cloud=False) as lab:
        await is_told(lab, "tcp", "cannot connect to 127.0.0.1, port .*refused",
                      "Is the server up, and the port in uplink.url right")


async def test_no_answer(directory):
    """Somebody takes the connection, and says nothing."""
    async def listen(reader, writer):
        await reader.read()
        writer.close()

    await is_told_of(directory, each(listen), "tls",
                     "no TLS in 1 s", "TLS server at that port.*firewall", connect_timeout_s=1)


PROXIES = {
    "403": (http("403 Forbidden"), "HTTP 403", "Have the proxy allow CONNECT"),
    "407": (http("407 Proxy Authentication Required"), "HTTP 407", "user and password"),
    "502": (http("502 Bad Gateway"), "HTTP 502", "proxy cannot reach the server"),
    "garbage": (b"220 mail.example\r\n\r\n", "does not speak HTTP", "an HTTP proxy"),
}


@pytest.mark.parametrize("name", PROXIES)
async def test_proxy_refuses(directory, name):
    """A proxy that gives no tunnel."""
    answer, cause, step = PROXIES[name]
    async with proxied_lab(directory, "http://127.0.0.1:{port}") as (lab, proxy):
        proxy.answer = answer
        await lab.agent.start()
        await is_told(lab, "proxy", f"the proxy .*{cause}", step)


async def test_proxy_down(directory):
    """Nobody listens where the proxy should."""
    async with proxied_lab(directory, f"http://127.0.0.1:{free_port()}") as (lab, _):
        await lab.agent.start()
        await is_told(lab, "proxy", "the proxy 127.0.0.1.*refused", "Is the proxy up")


UPGRADES = {
    400: "proxy_http_version",
    401: "auth.token_file",
    403: "allowed in the cloud",
    404: "path in uplink.url",
    426: "proxy_http_version",
    429: "by itself",
    502: "cloud is down",
    503: "cloud is down",
}


@pytest.mark.parametrize("status", UPGRADES)
async def test_no_upgrade(directory, status):
    """A web server, or a proxy in front of the cloud, that does not upgrade."""
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(f"{status} So"))
        writer.close()

    await is_told_of(
        directory, lambda port, ssl: asyncio.start_server(refuse, "127.0.0.1", port, ssl=ssl),
        "upgrade", f"HTTP {status}", UPGRADES[status])


async def test_no_subprotocol(directory):
    """A WebSocket server that is not a relay cloud."""
    await is_told_of(
        directory, lambda port, ssl: websockets.serve(silent, "127.0.0.1", port, ssl=ssl),
        "upgrade", "does not speak the subprotocol", "path included")


HELLOS = {
    4401: "Register the hotspot in the cloud .blecon-hotspotctl identity.",
    4403: "Have this hotspot allowed in the cloud",
    4409: "same key: .*hotspot.key",
    4426: "update the older one",
}


@pytest.mark.parametrize("code", HELLOS)
async def test_hello_refused(directory, code):
    """The cloud does not want this hotspot."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.cloud.refuse_hello = code
        await lab.agent.start()
        await is_told(lab, "hello", f"closed by the server .{code}.", HELLOS[code])


async def test_other_authority(directory):
    """A cloud that is called something else than what the hub calls it."""
    async with running_lab(directory, cloud={"authorities": {"other.example:443"}}) as lab:
        await is_told(lab, "hello", "4401.*this is not 127.0.0.1", "\"this is not\", a proxy.*Host")


async def test_connection_lost(directory):
    """It was up: what breaks it again and again is named, until it is up again."""
    async with running_lab(directory, {"uplink": {"backoff_min_ms": 60000,
                                                 "backoff_max_s": 300}}) as lab:
        await lab.working()
        [hotspot] = lab.cloud.hotspots.values()
        hotspot.abort()
        await is_told(lab, "up", "connection lost|reset", "idle time .*uplink.ping_interval_s")
        # With another configuration nothing has failed yet.
        await reload(lab.agent, uplink={"backoff_min_ms": 100})
        status = await lab.up()
        assert not {"failed_at", "advice", "error"} & status["uplink"].keys()


async def test_unconfigured(directory):
    """The file is named where the URL belongs."""
    async with running_lab(directory, {"uplink": {"url": ""}}) as lab:
        await lab.scanning()
        assert await first_line(lab) == (
            f"Not working: no cloud is configured. Set uplink.url in {lab.agent.config}, "
            "and reload (SIGHUP).")
        assert "failed_at" not in (await lab.agent.status())["uplink"]


async def test_not_acknowledged(directory):
    """Up, and nothing of what is reported arrives for good: that is no working hotspot."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        status = await lab.agent.wait_for_status(lambda s: "acknowledged_s" in s["sightings"])
        assert status["working"] and status["sightings"]["acknowledged_s"] < 10
        lab.cloud.ack_sightings = False
        await lab.sim.advertise(beacon)
        status = await lab.agent.wait_for_status(lambda s: not s["working"], 60)
        assert status["uplink"]["state"] == "up"
        assert 30 <= status["sightings"]["unacknowledged_s"] < 40
        assert status["sightings"]["acknowledged_s"] > 30
        line = await first_line(lab)
        assert re.fullmatch(
            r"Not working: the cloud does not acknowledge what is reported, for 3\d s\. "
            r"See to the cloud, which takes nothing in; the hub keeps what it hears\.", line), line
        # A new connection, and it is all told again.
        lab.cloud.ack_sightings = True
        lab.cloud.goaway(0)
        await lab.agent.wait_for_status(lambda s: s["working"])
        await lab.all_told()


async def test_nothing_heard(directory):
    """Working, and after a minute of silence it says what may be missing."""
    async with running_lab(directory) as lab:
        await lab.working()
        assert await first_line(lab, 0) == "Working, but no device heard yet"
        await lab.agent.wait_for_status(lambda s: s["uptime_s"] > 60, 80)
        assert re.fullmatch(r"Working, but no Blecon device heard in 6\d s: is one switched on, "
                            r"within some 10 m\?", await first_line(lab, 0))


async def test_own_certificate_ends(directory):
    """Working still, and what to do before it ends."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    async with running_lab(directory, by_certificate(directory), start_agent=False,
                           cloud={"client_ca": clients.cert}) as lab:
        await does_not_start(lab.agent, "No such file or directory")
        csr = (await request(lab.agent)).encode()
        now = datetime.now(timezone.utc)
        tls.sign_request(path, csr, clients, now - timedelta(days=1), now + timedelta(days=9.5))
        await lab.agent.start()
        await lab.working()
        status = await lab.agent.status()
        end = load_pem_x509_certificate(path.read_bytes()).not_valid_after
        assert status["uplink"]["own_certificate_until"] == f"{end.isoformat()}Z"
        assert status["working"]
        assert await first_line(lab, 0) == (
            "Working, but no device heard yet. The hotspot's own certificate ends in 9 days: get a "
            "new one with blecon-hotspotctl identity --csr, and reload.")
        # It is read again with the configuration.
        tls.sign_request(path, csr, clients, now - timedelta(days=1), now + timedelta(days=90))
        await reload(lab.agent)
        await lab.cloud.wait_for("hello", count=2)
        status = await lab.up()
        assert status["summary"] == "Working, but no device heard yet"
        assert "advice" not in status["uplink"]


async def test_of_the_process(directory):
    """What the whole agent runs with: its memory, its clock, its log."""
    async with running_lab(directory) as lab:
        await lab.working()
        status = await lab.agent.status()
        assert status["log_level"] == "debug"
        told = datetime.fromisoformat(status["clock"]["time"])
        assert abs(datetime.now(timezone.utc) - told) < timedelta(seconds=20)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", status["clock"]["time"])
        assert status["process"]["peak_rss_kb"] >= status["process"]["rss_kb"] > 1000
        page = json.loads((await run(CTL, "--json", "-s", lab.agent.socket, "status")).out)
        assert page["process"].keys() == status["process"].keys()


async def test_asking_in_vain(directory):
    """Devices that ask and are never connected, for a setting: it works, but says so."""
    async with running_lab(directory, {"relay": {"rssi_floor_dbm": -50}}) as lab:
        await lab.working()
        asker = EchoDevice()
        asker.ask(b"hello")
        lab.sim.add_device(asker, rssi=-70, interval_s=0.1)
        await lab.agent.wait_for_status(
            lambda s: [a["wait"] for a in s["relay"]["queue"]] == ["weak"])
        assert (await first_line(lab, 0)).endswith(
            "; but 1 device asks and is heard too weakly (relay.rssi_floor_dbm is -50): see sessions")
        await reload(lab.agent, relay={"max_links": 0})
        assert (await first_line(lab, 0)).endswith(
            "; no device is connected, as relay.max_links is 0")
