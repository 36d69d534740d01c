# SPDX-License-Identifier: Apache-2.0
"""What can be wrong between hotspot and cloud is told in words, and is no end."""

import asyncio
import contextlib
import http
import re
import ssl
import time
import warnings

import pytest
import websockets

import tls
from bluez_sim import Beacon
from cloud import Cloud
from harness import PROGRAMS, merge, no_cloud, running_lab, until

TWO_TRIES_S = 10


async def says(lab, words, but=None):
    """The failure is in the log as a warning and in status, in words that match.

    but: words of what may be told before it.
    """
    status = await lab.agent.wait_for_status(
        lambda s: "error" in s["uplink"]
        and not (but and re.search(but, s["uplink"]["error"])), TWO_TRIES_S)
    error = status["uplink"]["error"]
    assert re.search(words, error), error
    assert error in await lab.agent.wait_for_log(" warning uplink: ")
    # It goes on trying, and hearing.
    await lab.scanning()
    status = await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 3, TWO_TRIES_S)
    assert not status["working"]
    assert status["summary"] == no_cloud(status)


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


# What is wrong, and the words for it, with the subject of the certificate that is at fault.
NOW = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
CLOCK = f"; the hub's clock says {NOW}$"
CERTIFICATES = {
    "expired": (
        tls.make_expired_cert,
        f"the server's certificate has expired: CN=localhost, valid until {NOW}{CLOCK}"),
    "not yet valid": (
        tls.make_future_cert,
        f"the server's certificate is not valid yet: CN=localhost, valid from {NOW}{CLOCK}"),
    "wrong host": (
        tls.make_wrong_host_cert,
        "the server's certificate is for another host: CN=wrong.example, for wrong.example, "
        "not for 127.0.0.1$"),
    "other CA": (
        lambda directory, ca: tls.make_other_ca_cert(directory),
        "the server's certificate is signed by an unknown CA: CN=localhost by CN=Lab other-ca: "
        "is uplink.ca_file the right one[?]$"),
    "expired CA": (
        lambda directory, ca: tls.make_chain(directory, ca, expired=True),
        "the certificate of CN=Lab intermediate, which signs the server's, has expired, valid "
        f"until {NOW}{CLOCK}"),
    "self-signed": (
        lambda directory, ca: tls.make_self_signed(directory),
        "the server's certificate is self-signed and not in uplink.ca_file: CN=localhost$"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificate(directory, name):
    """A certificate that is not good: nothing is sent, what is wrong with whose is named."""
    make, words = CERTIFICATES[name]
    async with running_lab(directory, pair=make) as lab:
        await says(lab, words)
        assert lab.cloud.find("connected") == []
        assert lab.cloud.raw == []
        await right_again(lab)


async def test_chain(directory):
    """By a CA between that the server sends along: what is good about the expired one."""
    async with running_lab(directory, pair=tls.make_chain) as lab:
        await lab.working()


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
    async def refuse(first, _):
        old = isinstance(first, str)    # websockets before 14
        status, body = http.HTTPStatus.SERVICE_UNAVAILABLE, "not now\n"
        return (status, [], body.encode()) if old else first.respond(status, body)

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
    async def listen(reader, writer):
        await reader.read()
        writer.close()

    async with running_lab(directory, {"uplink": {"connect_timeout_s": 1}}, start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: asyncio.start_server(
                listen, "127.0.0.1", port)):
            await lab.agent.start()
            await says(lab, "no TLS in 1 s")
        await right_again(lab)


async def test_no_challenge(directory):
    """A server that upgrades and then says nothing."""
    async with running_lab(directory, {"uplink": {"connect_timeout_s": 1}}, start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: websockets.serve(
                silent, "127.0.0.1", port, ssl=server_tls(lab),
                subprotocols=["hotspot-relay.v1"])):
            await lab.agent.start()
            await says(lab, "no CHALLENGE and WELCOME in 1 s")
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


# --- Pins ---

def token_options(directory, pins):
    """The pins, and a token that only the right server may see."""
    path = directory / "token"
    path.write_text("only-for-the-right-one")
    path.chmod(0o600)
    return {"uplink": {"pins": pins}, "auth": {"mode": "token", "token_file": str(path)}}


PINNED = {name: CERTIFICATES[name][0]
          for name in ("expired", "wrong host", "other CA", "not yet valid", "self-signed")}


@pytest.mark.parametrize("name", PINNED)
async def test_pin(directory, name):
    """The key is the right one: whatever else the certificate says does not count."""
    async with running_lab(directory, start_agent=False, pair=PINNED[name],
                           cloud={"token": "only-for-the-right-one"}) as lab:
        # The file of CAs is not even looked at.
        lab.agent.options = merge(lab.agent.options, token_options(
            directory, [tls.pin_of(served_pair(lab))]))
        lab.agent.options["uplink"]["ca_file"] = str(directory / "none.pem")
        await lab.agent.start()
        await lab.up()


def served_pair(lab):
    """The pair of the lab's cloud, which is the one made last."""
    newest = max(lab.directory.glob("*.key"), key=lambda path: path.stat().st_mtime_ns)
    return tls.Pair(newest.with_suffix(".pem"), newest)


@contextlib.asynccontextmanager
async def recording_server(lab, pair, address="127.0.0.1"):
    """In the place of the cloud, with TLS; yields what each connection sent after the handshake."""
    received = []

    async def record(reader, writer):
        with contextlib.suppress(OSError):
            received.append(await reader.read())
        writer.close()

    context = server_tls(lab)
    context.load_cert_chain(*pair)
    async with instead_of_cloud(lab, lambda port: asyncio.start_server(
            record, address, port, ssl=context)):
        yield received


async def test_wrong_pin(directory):
    """Another key, in a certificate that is good: its pin is told, and the server hears nothing."""
    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        other = tls.make_server_cert(directory, ca=lab.ca, name="other")
        lab.agent.options = merge(lab.agent.options, token_options(
            directory, [tls.pin_of(lab.pair)]))
        async with recording_server(lab, other) as received:
            await lab.agent.start()
            await says(lab, "the server's key is none of uplink.pins: it is "
                       + re.escape(tls.pin_of(other)))
            await until(lambda: len(received) >= 3)
            assert set(received) == {b""}
        await right_again(lab)


async def test_server_does_record(directory):
    """The same server hears the request, token included, of a hotspot that has its pin."""
    async with running_lab(directory, {"uplink": {"connect_timeout_s": 1}}, start_cloud=False,
                           start_agent=False) as lab:
        lab.agent.options = merge(lab.agent.options, token_options(
            directory, [tls.pin_of(lab.pair)]))
        async with recording_server(lab, lab.pair) as received:
            await lab.agent.start()
            await until(lambda: received)
        assert received[0].startswith(b"GET / HTTP/1.1\r\n")
        assert b"Bearer only-for-the-right-one\r\n" in received[0]


async def test_rotated_key(directory):
    """Two pins: the server goes over from the key of the first to that of the second."""
    async with running_lab(directory, start_agent=False) as lab:
        second = tls.make_server_cert(directory, ca=tls.make_ca(directory, "next"), name="second")
        lab.agent.options["uplink"]["pins"] = [tls.pin_of(lab.pair), tls.pin_of(second)]
        await lab.agent.start()
        await lab.up()
        await lab.cloud.stop()
        lab.cloud = Cloud(*second, port=lab.cloud.port, state=directory / "cloud")
        await lab.cloud.start()
        await lab.cloud.wait_for("hello", 15)
        await lab.up()


# --- Versions of TLS ---

LAX_OPENSSL = """\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
MinProtocol = TLSv1
CipherString = ALL:@SECLEVEL=0
"""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls(directory, version):
    """A server that speaks nothing newer than TLS 1.1."""
    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        context = server_tls(lab)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
        connected = []

        async def answer(reader, writer):
            with contextlib.suppress(OSError):
                connected.append(await shake_hands(context, reader, writer))
            writer.close()

        async with instead_of_cloud(lab, lambda port: asyncio.start_server(
                answer, "127.0.0.1", port)):
            await accepts_old_tls(lab.cloud.port, version)
            # Debian's own configuration would not want it either.
            lax = directory / "openssl.cnf"
            lax.write_text(LAX_OPENSSL)
            lab.agent.environment["OPENSSL_CONF"] = str(lax)
            await lab.agent.start()
            await says(lab, "TLS: the server does not speak TLS 1.2")
            assert len(connected) == 1      # that was not the agent
        await right_again(lab)


async def shake_hands(context, reader, writer):
    """A server's handshake; the version. OSError if there is none: ssl.SSLError is one.

    Newer asyncio keeps its alert, which a real server sends, to itself.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls_object = context.wrap_bio(incoming, outgoing, server_side=True)
    while True:
        try:
            tls_object.do_handshake()
            return tls_object.version()
        except ssl.SSLWantReadError:
            pass
        finally:
            writer.write(outgoing.read())
            await writer.drain()
        incoming.write(await reader.read(65536))
        if reader.at_eof():
            incoming.write_eof()


async def accepts_old_tls(port, version):
    """A client of that age would be served: it is the hotspot that does not want it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    writer.close()


# With mbedTLS libwebsockets speaks nothing newer.
VERSIONS = [ssl.TLSVersion.TLSv1_2] + [ssl.TLSVersion.TLSv1_3] * ("musl" not in PROGRAMS.name)


@pytest.mark.parametrize("version", VERSIONS)
async def test_tls_version(directory, version):
    """What is new enough, alone."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.cloud._tls.minimum_version = lab.cloud._tls.maximum_version = version
        await lab.agent.start()
        await lab.up()


# --- The hub's clock ---

def unset_clock(lab):
    """The agent's wall clock says 1970, until 0 is in this file; all else is real."""
    path = lab.directory / "clock"
    path.write_text(str(600 - int(time.time())))
    preloads = lab.agent.environment["LD_PRELOAD"], str((PROGRAMS / "clock_preload.so").resolve())
    lab.agent.environment |= {"LD_PRELOAD": ":".join(preloads), "BLECON_LAB_CLOCK": str(path)}
    return path


async def test_clock_of_1970(directory):
    """The clock is what is wrong, and is named. It is set, and the hub connects: all adverts count.
    """
    async with running_lab(directory, start_agent=False) as lab:
        clock = unset_clock(lab)
        for _ in range(3):
            lab.sim.add_device(Beacon(), interval_s=0.05)
        await lab.agent.start()
        await says(lab, r"certificate (of CN=Lab ca, which signs the server's, )?is not valid yet.*"
                   r"the hub's clock says 1970-01-01 00:1\d UTC, is it set\?$")
        assert "1970-01-01T00:1" in lab.agent.log
        assert lab.cloud.find("connected") == []
        await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] > 50)
        clock.write_text("0")
        await lab.up()
        await lab.all_told()


async def test_pin_in_1970(directory):
    """With a pin no clock is needed."""
    async with running_lab(directory, start_agent=False) as lab:
        unset_clock(lab)
        lab.agent.options["uplink"]["pins"] = [tls.pin_of(lab.pair)]
        lab.sim.add_device(Beacon(), interval_s=0.05)
        await lab.agent.start()
        await lab.up()
        assert (await lab.agent.status())["uplink"]["attempts"] == 1
        assert "1970-01-01T00:1" in lab.agent.log
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"])
        await lab.all_told()


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
async def test_address(directory, host):
    """By address, of both families: the certificate has to be for it."""
    bare = host.strip("[]")
    async with running_lab(directory, start_agent=False, cloud={"host": bare},
                           pair=certificate_for(bare)) as lab:
        lab.agent.options["uplink"]["url"] = f"wss://{host}:{lab.cloud.port}/"
        await lab.agent.start()
        await lab.up()
        status = (await lab.agent.status())["uplink"]
        assert (status["address"], status["attempts"]) == (bare, 1)
        assert lab.cloud.find("hello")[0]["authority"] == f"{host}:{lab.cloud.port}"


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1"])
async def test_certificate_for_another_address(directory, host):
    """One that is good, for a name and for neighbours of the address: nothing is sent."""
    bare = host.strip("[]")
    async with running_lab(directory, start_cloud=False, start_agent=False) as lab:
        other = tls.make_server_cert(directory, ["localhost", "127.0.0.2", "::2"], ca=lab.ca,
                                     name="other")
        lab.agent.options = merge(lab.agent.options, token_options(directory, []))
        lab.agent.options["uplink"]["url"] = f"wss://{host}:{lab.cloud.port}/"
        async with recording_server(lab, other, bare) as received:
            await lab.agent.start()
            await says(lab, "the server's certificate is for another host: CN=localhost, for "
                       f"localhost, 127.0.0.2, ::2, not for {bare}$")
            await until(lambda: len(received) >= 3)
            assert set(received) == {b""}
