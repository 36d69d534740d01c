# SPDX-License-Identifier: Apache-2.0
"""What can be wrong between hotspot and cloud is told in words, and is no end."""

import asyncio
import contextlib
import http
import re
import ssl

import pytest
import websockets

import tls
from bluez_sim import Beacon
from cloud import Cloud
from harness import running_lab

TWO_TRIES_S = 10


async def says(lab, words):
    """The failure is in the log as a warning and in status, in words that match."""
    status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"), TWO_TRIES_S)
    error = status["uplink"]["error"]
    line = await lab.agent.wait_for_log(" warning uplink: ")
    assert re.search(words, error), error
    assert re.search(words, line), line
    # It goes on trying, and hearing.
    await lab.scanning()
    status = await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 3, TWO_TRIES_S)
    assert not status["working"]
    assert status["summary"] == \
        f"Not working: no cloud: {status['uplink']['error']}"


async def right_again(lab):
    """With a good cloud at the same place the agent connects, and reports."""
    old = lab.cloud
    await old.stop()
    lab.cloud = Cloud(*lab.pair, port=old.port, state=lab.directory / "cloud")
    await lab.cloud.start()
    await lab.up()
    beacon = Beacon()
    lab.sim.add_device(beacon)
    await lab.sim.advertise(beacon)
    await lab.cloud.wait_for("sighting", device_id=beacon.device_id)


# In the words of OpenSSL, of mbedTLS, or of the agent's own.
CERTIFICATES = {
    "expired": (tls.make_expired_cert, "certificate.* expired"),
    "not yet valid": (tls.make_future_cert, "certificate.* (not yet valid|in the future)"),
    "wrong host": (tls.make_wrong_host_cert, "mismatch|does not match|for another host"),
    "other CA": (lambda directory, ca: tls.make_other_ca_cert(directory),
                 "certificate.*(trusted|authority|CA)|issuer certificate"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificate(directory, name):
    """A certificate that is not good: nothing is sent, the cause is named."""
    pair, words = CERTIFICATES[name]
    async with running_lab(directory, pair=pair) as lab:
        await says(lab, words)
        assert lab.cloud.find("connected") == []
        assert lab.cloud.raw == []
        await right_again(lab)


@contextlib.asynccontextmanager
async def instead_of_cloud(lab, serve):
    """Another server where the cloud was; serve(port) returns it."""
    port = lab.cloud.port
    server = await serve(port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def test_plain_tcp(directory):
    """A server that speaks no TLS."""
    async def answer(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        async with instead_of_cloud(
                lab, lambda port: asyncio.start_server(answer, "127.0.0.1", port)):
            await lab.agent.start()
            await says(lab, "TLS")
        await right_again(lab)


def server_tls(lab):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*lab.pair)
    return context


async def silent(connection, *_):
    await connection.wait_closed()


async def test_no_subprotocol(directory):
    """A WebSocket server that is not a relay cloud."""
    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: websockets.serve(
                silent, "127.0.0.1", port, ssl=server_tls(lab))):
            await lab.agent.start()
            await says(lab, "the server does not speak the subprotocol")
        await right_again(lab)


async def test_http_503(directory):
    """A web server that does not upgrade, as a proxy without its backend."""
    async def refuse(*_):
        return http.HTTPStatus.SERVICE_UNAVAILABLE, [], b"not now\n"

    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: websockets.serve(
                silent, "127.0.0.1", port, ssl=server_tls(lab), process_request=refuse)):
            await lab.agent.start()
            await says(lab, "503")
        await right_again(lab)


@pytest.mark.parametrize("code,words", [
    (4401, ""), (4403, ""), (4409, "another hotspot has this one's key: "), (4426, "")])
async def test_hello_refused(directory, code, words):
    """A cloud that does not want this hotspot: it is not asked again soon."""
    async with running_lab(directory, {"uplink": {"backoff_max_s": 3600}}, start_agent=False) \
            as lab:
        lab.cloud.refuse_hello = code
        await lab.agent.start()
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        error = f"closed by the server ({code}): {words}refused as configured"
        assert status["uplink"]["error"] == error
        assert error in await lab.agent.wait_for_log(" error   uplink: ")
        assert status["uplink"]["retry_in_s"] > 1700
        assert len(lab.cloud.find("connected")) == 1


async def test_hello_refused_for_a_while(directory):
    """The longest interval ends too."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.cloud.refuse_hello = 4403
        await lab.agent.start()
        await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        lab.cloud.refuse_hello = None
        await lab.up()


async def test_connection_refused(directory):
    """Nobody listens."""
    async with running_lab(directory, start_cloud=False) as lab:
        await says(lab, "cannot connect to 127.0.0.1.*refused")
        await right_again(lab)


async def test_no_answer(directory):
    """Somebody listens and says nothing: the attempt has an end."""
    async with running_lab(directory, {"uplink": {"connect_timeout_s": 1}}, start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: asyncio.start_server(
                lambda reader, writer: reader.read(), "127.0.0.1", port)):
            await lab.agent.start()
            await says(lab, "no connection in time")
        await right_again(lab)


async def test_no_challenge(directory):
    """A server that upgrades and then says nothing."""
    async with running_lab(directory, {"uplink": {"connect_timeout_s": 1}}, start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: websockets.serve(
                silent, "127.0.0.1", port, ssl=server_tls(lab),
                subprotocols=["hotspot-relay.v1"])):
            await lab.agent.start()
            await says(lab, "no CHALLENGE and WELCOME in time")
        await right_again(lab)


async def test_name_does_not_resolve(directory):
    """A host name that there is not."""
    async with running_lab(directory, {"uplink": {"url": "wss://no-such-host.invalid/"}}) as lab:
        await says(lab, "cannot resolve no-such-host.invalid")


def certificate_for(*hosts):
    return lambda directory, ca: tls.make_server_cert(directory, hosts, ca=ca)


async def test_name_resolves(directory):
    """By name: the certificate has to be for the name, and the name is what the cloud is told."""
    async with running_lab(directory, start_agent=False, pair=certificate_for("localhost")) as lab:
        names = []
        lab.cloud._tls.sni_callback = lambda sock, name, context: names.append(name)
        lab.agent.options["uplink"]["url"] = f"wss://localhost:{lab.cloud.port}/"
        await lab.agent.start()
        await lab.up()
        assert lab.cloud.find("hello")[0]["authority"] == f"localhost:{lab.cloud.port}"
        assert names == ["localhost"]


async def test_certificate_for_the_address(directory):
    """A certificate for the address that the name resolves to is not one for the name."""
    async with running_lab(directory, start_agent=False, pair=certificate_for("127.0.0.1")) as lab:
        lab.agent.options["uplink"]["url"] = f"wss://localhost:{lab.cloud.port}/"
        await lab.agent.start()
        await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 3)
        assert lab.cloud.find("connected") == []
        assert "127.0.0.1" in lab.agent.log


async def test_goaway(directory):
    """GOAWAY: it connects anew after the delay, and says why it left."""
    async with running_lab(directory) as lab:
        await lab.working()
        lab.cloud.goaway(0, "moving house")
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["reason"]) == (1001, "reconnecting as asked")
        await lab.cloud.wait_for("hello", count=2)
        assert "moving house" in lab.agent.log
        assert len({h["run"] for h in lab.cloud.find("hello")}) == 1
