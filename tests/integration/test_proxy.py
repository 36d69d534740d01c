# SPDX-License-Identifier: Apache-2.0
"""Through an HTTP proxy: configured or from the environment, and what one can say instead."""

import asyncio
import base64
import os
import re
import signal
import subprocess
from contextlib import asynccontextmanager, suppress

import pytest

import tls
from bluez_sim import Beacon
from connect_proxy import ConnectProxy
from device import EchoDevice
from harness import free_port, no_cloud, running_lab, until
from private_bus import die_with
from test_auth import nothing_tells
from test_relay import ECHOES

NAME = "cloud.only-the-proxy.test"
USER, PASSWORD = "hub 7", "p:w@1/%?é"
QUOTED = "hub%207:p%3Aw%401%2F%25%3F%C3%A9"


def cloud_by_name(directory, ca):
    return tls.make_server_cert(directory, [NAME], ca=ca)


@asynccontextmanager
async def proxied_lab(directory, proxy=None, environment=None, **uplink):
    """An agent that does not run yet, a cloud with a name that the proxy alone can resolve."""
    async with running_lab(directory, {"uplink": uplink}, start_agent=False, pair=cloud_by_name,
                           cloud=ECHOES) as lab, ConnectProxy() as through:
        through.names[f"{NAME}:443"] = ("127.0.0.1", lab.cloud.port)
        lab.agent.options["uplink"]["url"] = f"wss://{NAME}/"
        if proxy:
            lab.agent.options["uplink"]["proxy"] = proxy.format(port=through.port)
        lab.agent.environment |= {name: value.format(port=through.port)
                                  for name, value in (environment or {}).items()}
        yield lab, through


async def echoes(lab, device, number):
    """A frame of the device goes to the cloud and back."""
    frame = b"frame %d" % number
    if number:
        lab.sim.send(device, frame)
    else:
        device.ask(frame)
        lab.sim.add_device(device, interval_s=0.05)
    await until(lambda: frame in device.answers, what=f"frame {number} to come back")


CREDENTIALS = {
    "none": ("", None),
    "user": ("operator@", "operator:"),
    "plain": ("operator:secret-word@", "operator:secret-word"),
    "quoted": (QUOTED + "@", f"{USER}:{PASSWORD}"),
}


@pytest.mark.parametrize("name", CREDENTIALS)
async def test_configured(directory, name):
    """Sightings and a session go through it; it drops all, twice, and the session goes on."""
    text, credentials = CREDENTIALS[name]
    async with proxied_lab(directory, f"http://{text}127.0.0.1:{{port}}") as (lab, proxy):
        proxy.credentials = credentials
        device = EchoDevice()
        await lab.agent.start()
        await lab.working()
        status = (await lab.agent.status())["uplink"]
        assert status["proxy"] == f"127.0.0.1:{proxy.port}"
        assert status["url"] == f"wss://{NAME}/"
        assert lab.cloud.find("hello")[0]["authority"] == f"{NAME}:443"
        await echoes(lab, device, 0)
        for number in (1, 2):
            proxy.reset()
            await lab.cloud.wait_for("resumed", count=number)
            await echoes(lab, device, number)
        assert {(r.target, r.credentials) for r in proxy.requests} == {(f"{NAME}:443", credentials)}
        assert proxy.tunnels == 3 and device.sessions == 1
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=3)
        await lab.all_told()
        assert f"cannot resolve {NAME}" not in lab.agent.log
        if credentials and text != "operator@":
            await nothing_tells(
                lab.agent, credentials.partition(":")[2], text[:-1].partition(":")[2],
                base64.b64encode(credentials.encode()).decode())


async def test_certificate_is_of_the_cloud(directory):
    """TLS ends at the cloud: a certificate for the proxy's address is none for it."""
    async with running_lab(directory, start_agent=False) as lab, ConnectProxy() as proxy:
        proxy.names[f"{NAME}:443"] = ("127.0.0.1", lab.cloud.port)
        lab.agent.options["uplink"] |= {"url": f"wss://{NAME}/", "proxy": proxy.url}
        await lab.agent.start()
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert status["uplink"]["error"] == (
            f"cannot connect to {NAME}:443 (through 127.0.0.1): the server's certificate is for "
            f"another host: CN=localhost, for localhost, 127.0.0.1, not for {NAME}")
        assert lab.cloud.find("connected") == []


ENVIRONMENTS = {
    "https_proxy": {"https_proxy": "http://127.0.0.1:{port}"},
    "HTTPS_PROXY": {"HTTPS_PROXY": "http://operator:secret-word@127.0.0.1:{port}/"},
    "all_proxy": {"all_proxy": "http://127.0.0.1:{port}"},
    "other exceptions": {"https_proxy": "http://127.0.0.1:{port}",
                         "no_proxy": "localhost,.example,other.test,127.0.0.1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
async def test_environment(directory, name):
    """Without uplink.proxy that of the environment is used."""
    async with proxied_lab(directory, environment=ENVIRONMENTS[name]) as (lab, proxy):
        await lab.agent.start()
        await lab.up()
        assert (await lab.agent.status())["uplink"]["proxy"] == f"127.0.0.1:{proxy.port}"
        assert proxy.tunnels == 1
        await nothing_tells(lab.agent, "secret-word")


async def test_configured_before_environment(directory):
    """What is configured counts, whatever the environment says, exceptions included."""
    environment = {"https_proxy": f"http://127.0.0.1:{free_port()}", "no_proxy": "*"}
    async with proxied_lab(directory, "http://127.0.0.1:{port}", environment) as (lab, proxy):
        await lab.agent.start()
        await lab.up()
        assert proxy.tunnels == 1


DIRECT = {
    "exempt address": ("", {"https_proxy": "http://127.0.0.1:{port}", "no_proxy": "127.0.0.1"}),
    "exempt network": ("", {"https_proxy": "http://127.0.0.1:{port}",
                            "no_proxy": "example.org, 127.0.0.0/8"}),
    "none": ("none", {"https_proxy": "http://127.0.0.1:{port}"}),
    "http_proxy": ("", {"http_proxy": "http://127.0.0.1:{port}"}),
    "not understood": ("", {"https_proxy": "socks5://hub:secret-word@127.0.0.1:{port}"}),
}


@pytest.mark.parametrize("name", DIRECT)
async def test_direct(directory, name):
    """Exceptions, "none", and what is no proxy for this: the cloud is reached without."""
    configured, environment = DIRECT[name]
    async with running_lab(directory, {"uplink": {"proxy": configured}}, start_agent=False) as lab:
        async with ConnectProxy() as proxy:
            lab.agent.environment |= {key: value.format(port=proxy.port)
                                      for key, value in environment.items()}
            await lab.agent.start()
            await lab.up()
            assert "proxy" not in (await lab.agent.status())["uplink"]
            assert proxy.requests == []
            assert (name == "not understood") \
                == ("the environment's proxy is not used: " in lab.agent.log)
            await nothing_tells(lab.agent, "secret-word")


def http(status):
    return f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nsorry".encode()


# What it sends, and how that is told.
ANSWERS = {
    "403": (http("403 Forbidden"), "the proxy refuses the tunnel: HTTP 403 Forbidden"),
    "407": (http("407 Proxy Authentication Required"),
            "the proxy refuses the tunnel: HTTP 407 Proxy Authentication Required: it wants a user "
            "and a password in uplink.proxy"),
    "502": (http("502 Bad Gateway"), "the proxy refuses the tunnel: HTTP 502 Bad Gateway"),
    "503": (http("503 Service Unavailable"),
            "the proxy refuses the tunnel: HTTP 503 Service Unavailable"),
    "garbage": (b"\x05\xff\x00\x01 no proxy at all\r\n\r\n", "the proxy does not speak HTTP"),
    "half an answer": (b"HTTP/1.1 2", "the proxy does not speak HTTP"),
    "nothing": (b"", "the proxy does not answer: it closes the connection"),
}


async def says(lab, words):
    """It is in the log and in status; the agent goes on trying."""
    status = await lab.agent.wait_for_status(
        lambda s: words in s["uplink"].get("error", "") and s["bluetooth"]["state"] == "scanning",
        what=words)
    assert status["summary"] == no_cloud(status)
    await lab.agent.wait_for_log(words)
    attempts = status["uplink"]["attempts"]
    await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] > attempts + 1)
    assert not re.search(" warning (?!uplink: )", lab.agent.log)
    return status["uplink"]["error"]


@pytest.mark.parametrize("name", ANSWERS)
async def test_refused(directory, name):
    """A proxy that gives no tunnel is named, with what it said; once it does, all is well."""
    answer, words = ANSWERS[name]
    async with proxied_lab(directory, "http://127.0.0.1:{port}") as (lab, proxy):
        proxy.answer = answer
        await lab.agent.start()
        await lab.scanning()
        assert await says(lab, words) == \
            f"cannot connect to {NAME}:443 (through 127.0.0.1): {words}"
        assert lab.cloud.find("connected") == [] and proxy.tunnels == 0
        proxy.answer = None
        await lab.up()


async def test_wrong_password(directory):
    """407 with credentials points at those, and does not show them."""
    async with proxied_lab(directory, "http://operator:wrong-word@127.0.0.1:{port}") as \
            (lab, proxy):
        proxy.credentials = "operator:right-word"
        await lab.agent.start()
        await lab.scanning()
        await says(lab, "the proxy refuses the tunnel: HTTP 407 Proxy Authentication Required: "
                   "check the user and password of uplink.proxy")
        assert {r.credentials for r in proxy.requests} == {"operator:wrong-word"}
        await nothing_tells(lab.agent, "wrong-word",
                            base64.b64encode(b"operator:wrong-word").decode())
        proxy.credentials = "operator:wrong-word"
        await lab.up()


async def test_silent(directory):
    """One that takes the request and says nothing: that step has its deadline too."""
    async with proxied_lab(directory, "http://127.0.0.1:{port}", connect_timeout_s=1) as \
            (lab, proxy):
        proxy.silent = True
        await lab.agent.start()
        await lab.scanning()
        await says(lab, f"cannot connect to {NAME}:443 (through 127.0.0.1): no tunnel through the "
                   "proxy, or no TLS in 1 s")
        assert proxy.requests
        proxy.silent = False
        await lab.up()


async def test_proxy_is_down(directory):
    """Nobody listens at the proxy's port."""
    port = free_port()
    async with proxied_lab(directory, f"http://127.0.0.1:{port}") as (lab, _):
        await lab.agent.start()
        await lab.scanning()
        error = await says(lab, f"cannot connect to the proxy 127.0.0.1, port {port}: ")
        assert "Connection refused" in error


async def test_proxy_is_not_found(directory):
    """It is the proxy's name that the hub resolves, and cannot."""
    async with proxied_lab(directory, "http://no-such-proxy.invalid:3128") as (lab, _):
        await lab.agent.start()
        await lab.scanning()
        await says(lab, "cannot resolve no-such-proxy.invalid: ")


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
async def test_address(directory, host):
    """A cloud by its address, in brackets as the proxy needs them."""
    bare = host.strip("[]")
    async with running_lab(
            directory, start_agent=False, cloud={"host": bare},
            pair=lambda path, ca: tls.make_server_cert(path, [bare], ca=ca)) as lab:
        async with ConnectProxy() as proxy:
            authority = f"{host}:{lab.cloud.port}"
            lab.agent.options["uplink"] |= {"url": f"wss://{authority}/", "proxy": proxy.url}
            await lab.agent.start()
            await lab.up()
            assert [r.target for r in proxy.requests] == [authority]
            assert lab.cloud.find("hello")[0]["authority"] == authority


async def test_proxy_by_ipv6(directory):
    """The proxy itself is at an IPv6 address."""
    async with proxied_lab(directory, "http://[::1]:{port}") as (lab, proxy):
        relay = await proxy.also_at("::1")
        lab.agent.options["uplink"]["proxy"] = f"http://operator:word@[::1]:{relay}"
        await lab.agent.start()
        await lab.up()
        assert (await lab.agent.status())["uplink"]["proxy"] == f"[::1]:{relay}"
        assert [r.credentials for r in proxy.requests] == ["operator:word"]


@asynccontextmanager
async def tinyproxy(directory, user):
    """The real one; yields its port."""
    port, config = free_port(), directory / "tinyproxy.conf"
    config.write_text(f"Port {port}\nListen 127.0.0.1\nTimeout 600\nBasicAuth {user}\n"
                      f"LogFile \"{directory / 'tinyproxy.log'}\"\n")
    process = subprocess.Popen(["tinyproxy", "-d", "-c", config], stdin=subprocess.DEVNULL,
                               preexec_fn=die_with(os.getpid()))

    async def listens():
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
    try:
        await until(listens, what="tinyproxy to listen")
        yield port
    finally:
        process.terminate()
        process.wait()


async def test_tinyproxy(directory):
    """A real proxy that wants a password: with it and, after a reload, with a wrong one."""
    async with tinyproxy(directory, "hub secret") as port:
        async with running_lab(directory, {"uplink": {
                "proxy": f"http://hub:secret@127.0.0.1:{port}"}}) as lab:
            await lab.up()
            lab.agent.options["uplink"]["proxy"] = f"http://hub:wrong@127.0.0.1:{port}"
            lab.agent.write_config()
            lab.agent.process.send_signal(signal.SIGHUP)
            status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
            assert "the proxy refuses the tunnel: HTTP 40" in status["uplink"]["error"]
            assert "check the user and password of uplink.proxy" in status["uplink"]["error"]
