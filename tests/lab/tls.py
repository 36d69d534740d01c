#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Certificates for the lab's cloud and for hotspots: a CA of its own and what it signs, P-256.

As a program, `tls.py DIRECTORY [HOST…]` makes ca.pem, server.pem and server.key there.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat, PublicFormat)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("localhost", "127.0.0.1")
DAY = timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its private key, both PEM files."""

    cert: Path
    key: Path


class Ca(NamedTuple):
    """A certificate authority; cert is the PEM file that clients trust."""

    cert: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_ca(directory: Path, name: str = "ca", parent: Ca | None = None,
            not_before: datetime | None = None, not_after: datetime | None = None) -> Ca:
    """Make a CA, by itself or by a parent that is; valid for ten years unless told.

    Its key is kept in memory only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"Lab {name}")
    issuer, issuer_key = (parent.certificate.subject, parent.key) if parent else (subject, key)
    now = datetime.now(timezone.utc)
    certificate = (
        _builder(subject, issuer, key.public_key(), not_before or now - DAY,
                 not_after or now + 3650 * DAY, issuer_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if parent else 1),
                       critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(issuer_key, SHA256()))
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Ca(path, certificate, key)


def make_server_cert(directory: Path, hosts: Iterable[str] = HOSTS,
                     not_before: datetime | None = None, not_after: datetime | None = None,
                     ca: Ca | None = None, name: str = "server") -> Pair:
    """Make a server's key and certificate for host names and addresses.

    Valid from yesterday for a year unless told; times are UTC. Without a ca, one is made in the
    directory.
    """
    ca = ca or make_ca(directory)
    hosts = list(hosts)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    certificate = (
        _builder(_name(hosts[0]), ca.certificate.subject, key.public_key(),
                 not_before or now - DAY, not_after or now + 365 * DAY, ca.key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]),
                       critical=False)
        .sign(ca.key, SHA256()))
    return _write(directory, name, certificate, key)


def make_expired_cert(directory: Path, ca: Ca) -> Pair:
    """Like make_server_cert, but its time was over yesterday."""
    now = datetime.now(timezone.utc)
    return make_server_cert(directory, HOSTS, now - 30 * DAY, now - DAY, ca, "expired")


def make_future_cert(directory: Path, ca: Ca) -> Pair:
    """Like make_server_cert, but valid from tomorrow: what a hub with a slow clock meets."""
    now = datetime.now(timezone.utc)
    return make_server_cert(directory, HOSTS, now + DAY, now + 30 * DAY, ca, "future")


def make_wrong_host_cert(directory: Path, ca: Ca) -> Pair:
    """Like make_server_cert, but for another host."""
    return make_server_cert(directory, ["wrong.example"], ca=ca, name="wrong-host")


def make_other_ca_cert(directory: Path) -> Pair:
    """Like make_server_cert, but by a CA that nobody trusts."""
    return make_server_cert(directory, ca=make_ca(directory, "other-ca"), name="other-ca-server")


def make_chain(directory: Path, ca: Ca, expired: bool = False) -> Pair:
    """Like make_server_cert, by a CA between, which comes along, or whose time is over."""
    now = datetime.now(timezone.utc)
    between = make_ca(directory, "intermediate", ca, now - 30 * DAY if expired else None,
                      now - DAY if expired else None)
    pair = make_server_cert(directory, ca=between, name="chain")
    pair.cert.write_bytes(pair.cert.read_bytes() + between.cert.read_bytes())
    return pair


def make_self_signed(directory: Path) -> Pair:
    """For the lab's hosts, by nobody but its own key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = _name(HOSTS[0]), datetime.now(timezone.utc)
    certificate = (
        _builder(name, name, key.public_key(), now - DAY, now + 365 * DAY, key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in HOSTS]),
                       critical=False)
        .sign(key, SHA256()))
    return _write(directory, "self-signed", certificate, key)


def pin_of(pair: Pair) -> str:
    """The pin of its key, as uplink.pins has it."""
    public_key = x509.load_pem_x509_certificate(pair.cert.read_bytes()).public_key()
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def sign_request(path: Path, csr: bytes, ca: Ca, not_before: datetime | None = None,
                 not_after: datetime | None = None) -> Path:
    """Sign a hotspot's certificate request (PEM), into a PEM file; valid as a server's.

    ValueError if its own signature is not good.
    """
    request = x509.load_pem_x509_csr(csr)
    if not request.is_signature_valid:
        raise ValueError("the signature of the request is not good")
    return _client_cert(path, request.subject, request.public_key(), ca, not_before, not_after)


def make_client_cert(path: Path, hotspot_id: str, key: ec.EllipticCurvePublicKey, ca: Ca,
                     not_before: datetime | None = None,
                     not_after: datetime | None = None) -> Path:
    """Make a hotspot's certificate for its key, into a PEM file; valid as a server's."""
    return _client_cert(path, _name(hotspot_id), key, ca, not_before, not_after)


def _client_cert(path: Path, subject: x509.Name, key: ec.EllipticCurvePublicKey, ca: Ca,
                 not_before: datetime | None, not_after: datetime | None) -> Path:
    now = datetime.now(timezone.utc)
    certificate = (
        _builder(subject, ca.certificate.subject, key, not_before or now - DAY,
                 not_after or now + 365 * DAY, ca.key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca.key, SHA256()))
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def _write(directory: Path, name: str, certificate: x509.Certificate,
           key: ec.EllipticCurvePrivateKey) -> Pair:
    pair = Pair(directory / f"{name}.pem", directory / f"{name}.key")
    pair.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    with open(os.open(pair.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey,
             not_before: datetime, not_after: datetime,
             issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(issuer).public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before).not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key),
                       critical=False))


def _usage(**true: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: true.get(name, False) for name in names})


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY [HOST...]")
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    make_server_cert(target, sys.argv[2:] or HOSTS)
