# SPDX-License-Identifier: Apache-2.0
"""Where libraries for WebSockets and TLS differ: what the hotspot does is the same with each."""

import asyncio
import os
import re
import ssl
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import tls
from harness import PROGRAMS, running_lab, show
from test_auth import by_certificate, does_not_start, request
from test_tls import CERTIFICATES, recording_server, says, served_pair, token_options

IDLE_S = 10


def by_name(lab):
    lab.agent.options["uplink"]["url"] = f"wss://localhost:{lab.cloud.port}/"


def watch_tls(lab):
    """What the cloud's TLS sees of each connection: the name that was asked for, and the TLS."""
    seen = []
    lab.cloud._tls.sni_callback = lambda tls_object, name, context: seen.append((name, tls_object))
    return seen


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificate_by_name(directory, name):
    """As by address, which is verified in another way: a server that is not right hears nothing."""
    make, words = CERTIFICATES[name]
    async with running_lab(directory, start_cloud=False, start_agent=False, pair=make) as lab:
        lab.agent.options |= token_options(directory, [])
        lab.agent.options["uplink"] |= {"ca_file": str(lab.ca.cert), "backoff_min_ms": 100,
                                        "backoff_max_s": 1}
        by_name(lab)
        async with recording_server(lab, served_pair(lab)) as received:
            await lab.agent.start()
            # Where localhost is ::1 first, nobody listens there.
            await says(lab, words.replace("not for 127.0.0.1", "not for localhost"), "::1")
            assert set(received) <= {b""}


async def test_pin_and_client_certificate(directory):
    """Both at once, and the server is told the name it is asked for."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    async with running_lab(directory, by_certificate(directory), start_agent=False,
                           cloud={"client_ca": clients.cert}) as lab:
        await does_not_start(lab.agent, "No such file or directory")
        tls.sign_request(path, (await request(lab.agent)).encode(), clients)
        lab.agent.options["uplink"] |= {"pins": [tls.pin_of(lab.pair)],
                                        "ca_file": str(directory / "none.pem")}
        by_name(lab)
        seen = watch_tls(lab)
        await lab.agent.start()
        await lab.up()
        assert [name for name, _ in seen] == ["localhost"]


async def test_wrong_pin_and_client_certificate(directory):
    """The hotspot's own certificate is no CA for the server's."""
    async with running_lab(directory, by_certificate(directory), start_cloud=False,
                           start_agent=False) as lab:
        await does_not_start(lab.agent, "No such file or directory")
        tls.sign_request(directory / "hotspot.pem", (await request(lab.agent)).encode(), lab.ca)
        lab.agent.options["uplink"]["pins"] = [tls.pin_of(lab.pair)]
        other = tls.make_server_cert(directory, ca=lab.ca, name="other")
        async with recording_server(lab, other) as received:
            await lab.agent.start()
            await says(lab, "the server's key is none of uplink.pins: it is "
                       + re.escape(tls.pin_of(other)))
            assert set(received) <= {b""}


def make_odd_ca():
    """With a key of a kind that mbedTLS does not know."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Odd CA")])
    now = datetime.now(timezone.utc)
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, None).public_bytes(Encoding.PEM))


async def test_odd_ca(directory):
    """One CA of a collection that is not known here does not keep the others from being used."""
    async with running_lab(directory, start_agent=False) as lab:
        path = directory / "all.pem"
        path.write_bytes(b"# All\n" + make_odd_ca() + lab.ca.cert.read_bytes() + make_odd_ca())
        lab.agent.options["uplink"]["ca_file"] = str(path)
        await lab.agent.start()
        await lab.up()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
async def test_certificate_until(directory, zone):
    """To the second, wherever the hub is."""
    until = datetime(2061, 3, 1, 0, 0, 30, tzinfo=timezone.utc)
    async with running_lab(
            directory, start_agent=False,
            pair=lambda directory, ca: tls.make_server_cert(directory, not_after=until, ca=ca)) as lab:
        lab.agent.environment["TZ"] = zone
        await lab.agent.start()
        status = await lab.up()
        assert status["uplink"]["certificate_until"] == "2061-03-01T00:00:30Z"


async def test_each_connection_verifies(directory):
    """No TLS session is resumed, which would look at no certificate."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.cloud._tls.maximum_version = ssl.TLSVersion.TLSv1_2
        seen = watch_tls(lab)
        by_name(lab)
        await lab.agent.start()
        await lab.up()
        lab.cloud.goaway(0)
        await lab.cloud.wait_for("hello", count=2)
        await lab.up()
        assert [tls_object.session_reused for _, tls_object in seen] == [False, False]


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.long
async def test_idle(directory):
    """Connected and with nothing to do it does nothing."""
    async with running_lab(directory) as lab:
        await lab.working()
        pid = lab.agent.process.pid
        before, began = cpu_s(pid), time.monotonic()
        await asyncio.sleep(IDLE_S)
        used = cpu_s(pid) - before
        show(f"idle for {time.monotonic() - began:.0f} s: {1000 * used:.0f} ms of CPU, "
             f"{lab.agent.rss_kb} KiB RSS ({PROGRAMS.name})")
        assert used < 0.02 * IDLE_S
