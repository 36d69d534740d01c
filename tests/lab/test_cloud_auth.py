# SPDX-License-Identifier: Apache-2.0
"""The lab's cloud with a bearer token, and with TLS certificates of hotspots."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.exceptions import ConnectionClosed, InvalidHandshake

import tls
from cloud import Cloud
from hotspot_client import HEADERS, Client, run, status_of, trusting


def with_cloud(ca: tls.Ca, test: Callable[[Cloud], Awaitable[None]], **options: Any) -> None:
    """Run a test with a cloud; nobody is connected yet."""
    async def whole() -> None:
        cloud = Cloud(ca.cert.parent / "server.pem", ca.cert.parent / "server.key", **options)
        await cloud.start()
        try:
            await test(cloud)
        finally:
            await cloud.stop()
    run(whole())


def with_token(token: str) -> dict[str, Any]:
    return {HEADERS: {"Authorization": f"Bearer {token}"}}


def test_token(ca: tls.Ca) -> None:
    """Without the token there is no upgrade; it can be another one at any time."""
    async def test(cloud: Cloud) -> None:
        for options in ({}, with_token("wrong"), with_token("secret2"),
                        {HEADERS: {"Authorization": "secret"}}):
            with pytest.raises(InvalidHandshake) as refused:
                await Client(cloud, ca).connect(**options)
            assert status_of(refused.value) == 401
        assert cloud.find("connected") == []
        assert len(cloud.find("refused", code=401, reason="not the token")) == 4
        client = await Client(cloud, ca).connect(**with_token("secret"))
        assert (await client.hello())[0] == 3
        cloud.token = "secret2"
        with pytest.raises(InvalidHandshake) as refused:
            await Client(cloud, ca).connect(**with_token("secret"))
        assert status_of(refused.value) == 401
        other = await Client(cloud, ca).connect(**with_token("secret2"))
        assert (await other.hello())[0] == 3
        await client.close()
        await other.close()
    with_cloud(ca, test, token="secret")


def with_certificate(ca: tls.Ca, directory: Path, key: ec.EllipticCurvePrivateKey,
                     certificate: Path) -> dict[str, Any]:
    """Options of a client that has it."""
    path = directory / "hotspot.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL,
                                       NoEncryption()))
    context = trusting(ca)
    context.load_cert_chain(certificate, path)
    return {"ssl": context}


def request_for(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256()) \
        .public_bytes(Encoding.PEM)


def test_client_certificate(ca: tls.Ca, tmp_path: Path) -> None:
    """It has to be there, of the CA, in date, and for the hotspot that says HELLO."""
    path = tmp_path / "hotspot.pem"
    clients = tls.make_ca(tmp_path, "clients")
    other = tls.make_ca(tmp_path, "other")
    past = datetime(2001, 2, 3, tzinfo=timezone.utc)

    async def test(cloud: Cloud) -> None:
        async def welcomed(certificate: Path) -> Client:
            client = Client(cloud, ca, key)
            await client.connect(**with_certificate(ca, tmp_path, key, certificate))
            assert (await client.hello())[0] == 3
            return client

        async def no_connection(options: dict[str, Any]) -> None:
            # In TLS 1.3 the client is through before the server looks.
            with pytest.raises((ssl.SSLError, ConnectionError, InvalidHandshake)):
                await Client(cloud, ca, key).connect(**options)

        key = ec.generate_private_key(ec.SECP256R1())
        public, name = key.public_key(), str(Client(cloud, ca, key).hotspot_id)
        await no_connection({})
        for certificate in (tls.make_client_cert(path, name, public, other),
                            tls.make_client_cert(path, name, public, clients, past, past)):
            await no_connection(with_certificate(ca, tmp_path, key, certificate))
        # One that is no client's.
        server = tls.make_server_cert(tmp_path, ca=clients)
        context = trusting(ca)
        context.load_cert_chain(*server)
        await no_connection({"ssl": context})
        assert cloud.find("connected") == []
        await (await welcomed(tls.make_client_cert(path, name, public, clients))).close()
        await (await welcomed(tls.sign_request(path, request_for(key, name), clients))).close()
        # Somebody else's, with the key that belongs to it.
        somebody = Client(cloud, ca, key)
        await somebody.connect(**with_certificate(
            ca, tmp_path, key, tls.make_client_cert(path, "somebody", public, clients)))
        with pytest.raises(ConnectionClosed):
            await somebody.hello()
        assert await somebody.closed() == (4401, "the TLS certificate is for somebody")
    with_cloud(ca, test, client_ca=clients.cert)


def test_bad_request(ca: tls.Ca, tmp_path: Path) -> None:
    """A certificate request that was changed is not signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = x509.load_pem_x509_csr(request_for(key, "name")).public_bytes(Encoding.DER)
    changed = x509.load_der_x509_csr(der.replace(b"name", b"mame"))
    with pytest.raises(ValueError):
        tls.sign_request(tmp_path / "cert.pem", changed.public_bytes(Encoding.PEM), ca)
    assert not (tmp_path / "cert.pem").exists()
