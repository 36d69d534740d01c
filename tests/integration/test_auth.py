# SPDX-License-Identifier: Apache-2.0
"""auth.mode: a bearer token, a TLS client certificate, and what has to be there for them."""

import asyncio
import contextlib
import json
import re
import subprocess
from datetime import datetime, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key,
    load_pem_public_key)

import tls
from harness import CTL, DAEMON, Agent, no_cloud, run, running_lab
from test_tls import instead_of_cloud, right_again, server_tls

TOKEN = "eyJ0b2tlbg.of-the_lab~1+/=="
OTHER = "eyJvdGhlcg.of-the_lab~2+/=="


def write_token(directory, token, mode=0o600):
    """As one that rotates tokens should: whole, or as it was."""
    path = directory / "token"
    new = directory / "token.new"
    new.write_text(token)
    new.chmod(mode)
    return new.rename(path)


def by_token(directory, **uplink):
    return {"auth": {"mode": "token", "token_file": str(directory / "token")}, "uplink": uplink}


def by_certificate(directory):
    return {"auth": {"mode": "certificate", "certificate_file": str(directory / "hotspot.pem")}}


async def nothing_tells(agent, *secrets):
    """Neither the log at its loudest, nor the status, nor what ctl prints has a secret."""
    said = [agent.log, json.dumps(await agent.status()), json.dumps(await agent.devices())]
    for arguments in (["status"], ["devices"], ["uplink"], ["--json", "status"]):
        said.append("".join(map(str, await run(CTL, "-s", agent.socket, *arguments))))
    said.append("".join(map(str, await run(CTL, "-c", agent.config, "identity"))))
    for secret in secrets:
        assert not any(secret in text for text in said)


async def does_not_start(agent, expected):
    """Exit code 1, and the reason, whether in the foreground or not."""
    agent.write_config()
    for foreground in (["--foreground"], []):
        ended = await run(DAEMON, *foreground, "--config", agent.config, **agent.environment)
        assert ended.code == 1
        assert expected in ended.err
        assert not agent.socket.exists()
        assert TOKEN not in ended.err


async def test_token(directory):
    """It goes with the upgrade, besides the signed HELLO."""
    write_token(directory, TOKEN + "\n")
    async with running_lab(directory, by_token(directory), cloud={"token": TOKEN}) as lab:
        await lab.working()
        assert lab.cloud.find("refused") == []
        hello = lab.cloud.find("hello")[0]
        assert str(hello["hotspot_id"]) == (await lab.agent.status())["hotspot_id"]
        await nothing_tells(lab.agent, TOKEN)


async def test_longest_token(directory):
    """4096 bytes, the most there may be, arrive; python3-websockets would not take such a line."""
    token = (TOKEN[:-2] * 200)[:4096]
    write_token(directory, token + "\r\n")
    requests = []

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    async with running_lab(directory, by_token(directory), start_cloud=False,
                           start_agent=False) as lab:
        async with instead_of_cloud(lab, lambda port: asyncio.start_server(
                answer, "127.0.0.1", port, ssl=server_tls(lab))):
            await lab.agent.start()
            await lab.agent.wait_for_status(lambda s: "401" in s["uplink"].get("error", ""))
        header = f"authorization: Bearer {token}"      # names of headers are in any case
        assert header in requests[0].decode().replace("Authorization:", "authorization:").split(
            "\r\n")
        await nothing_tells(lab.agent, token, TOKEN[:-2])


async def test_no_token(directory):
    """Mode "key" sends none; the cloud that wants one is not asked again soon."""
    async with running_lab(directory, {"uplink": {"backoff_max_s": 3600}},
                           cloud={"token": TOKEN}) as lab:
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert "401" in status["uplink"]["error"] and "auth.mode" in status["uplink"]["error"]
        assert status["uplink"]["retry_in_s"] > 1700


async def test_wrong_token(directory):
    """401: told as an error that names the option, and not tried again soon."""
    write_token(directory, OTHER)
    async with running_lab(directory, by_token(directory, backoff_max_s=3600),
                           cloud={"token": TOKEN}) as lab:
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        error = status["uplink"]["error"]
        assert "401" in error and "token" in error
        assert error in await lab.agent.wait_for_log(" error   uplink: ")
        assert status["uplink"]["retry_in_s"] > 1700
        status = await lab.scanning()
        assert status["summary"] == no_cloud(status)
        assert len(lab.cloud.find("refused", code=401)) == 1
        await nothing_tells(lab.agent, TOKEN, OTHER)


async def test_rotated_token(directory):
    """The file is read for each attempt: a new token needs no restart."""
    write_token(directory, TOKEN)
    async with running_lab(directory, by_token(directory), cloud={"token": TOKEN}) as lab:
        await lab.working()
        lab.cloud.token = OTHER
        assert (await lab.agent.status())["uplink"]["state"] == "up"    # this one goes on
        lab.cloud.goaway(0)
        await lab.cloud.wait_for("refused", code=401)
        write_token(directory, OTHER)
        await lab.cloud.wait_for("hello", count=2, timeout_s=10)
        # Changed before it is needed, nobody notices.
        write_token(directory, TOKEN)
        lab.cloud.token = TOKEN
        refused = len(lab.cloud.find("refused"))
        lab.cloud.goaway(0)
        await lab.cloud.wait_for("hello", count=3, timeout_s=10)
        assert len(lab.cloud.find("refused")) == refused
        await nothing_tells(lab.agent, TOKEN, OTHER)


async def test_token_file_disappears(directory):
    """The daemon goes on and says which file it needs, until it is back."""
    path = write_token(directory, TOKEN)
    async with running_lab(directory, by_token(directory), cloud={"token": TOKEN}) as lab:
        await lab.working()
        path.unlink()
        lab.cloud.goaway(0)
        status = await lab.agent.wait_for_status(
            lambda s: str(path) in s["uplink"].get("error", ""))
        assert f"{path}: No such file or directory" in status["uplink"]["error"]
        write_token(directory, TOKEN, mode=0o644)
        await lab.agent.wait_for_status(
            lambda s: f"{path}: others can read or write it (mode 0644): chmod 600 it"
            in s["uplink"].get("error", ""))
        assert len(lab.cloud.find("connected")) == 1    # it does not go without one
        write_token(directory, TOKEN)
        await lab.cloud.wait_for("hello", count=2, timeout_s=10)
        await nothing_tells(lab.agent, TOKEN)


BAD_TOKENS = {
    "missing": (None, 0o600, "No such file or directory"),
    "empty": ("\n", 0o600, "it is empty"),
    "two lines": (f"{TOKEN}\n{TOKEN}\n", 0o600, "more than one line"),
    "a header": (f"Bearer {TOKEN}", 0o600, "character 7 is none of a bearer token"),
    "public": (TOKEN, 0o644, "others can read or write it (mode 0644): chmod 600 it"),
    "too long": ("x" * 4097, 0o600, "longer than a bearer token of 4096 bytes"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_bad_token_file(directory, name):
    """What is no token, or not there, is told before anything runs."""
    content, mode, expected = BAD_TOKENS[name]
    if content is not None:
        write_token(directory, content, mode)
    agent = Agent(directory, f"unix:path={directory}/no-bus", by_token(directory))
    await does_not_start(agent, f"auth.token_file {directory}/token: {expected}")


async def request(agent):
    """What `identity --csr` prints."""
    ended = await run(CTL, "identity", "--csr", "-c", agent.config)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


async def test_certificate(directory):
    """From the first start to mutual TLS, by the hotspot's own key."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    async with running_lab(directory, by_certificate(directory), start_agent=False,
                           cloud={"client_ca": clients.cert}) as lab:
        # The key is made even so, and there is no certificate without it.
        await does_not_start(lab.agent,
                             f"auth.certificate_file {path}: No such file or directory")
        csr = await request(lab.agent)
        tls.sign_request(path, csr.encode(), clients)
        await lab.agent.start()
        await lab.working()
        hello = lab.cloud.find("hello")[0]
        [name] = x509.load_pem_x509_csr(csr.encode()).subject
        assert name.value == str(hello["hotspot_id"])
        assert lab.agent.key.read_text().splitlines()[1] not in lab.agent.log


async def test_certificate_with_its_chain(directory):
    """What leads from the certificate to the CA may follow it in the file."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    async with running_lab(directory, by_certificate(directory), start_agent=False,
                           cloud={"client_ca": clients.cert}) as lab:
        await does_not_start(lab.agent, "No such file or directory")
        tls.sign_request(path, (await request(lab.agent)).encode(), clients)
        path.write_bytes(path.read_bytes() + clients.cert.read_bytes())
        await lab.agent.start()
        await lab.working()


async def test_bad_certificate_file(directory):
    """One for another key, and what is no certificate, is told before anything runs."""
    ca = tls.make_ca(directory)
    path = directory / "hotspot.pem"
    agent = Agent(directory, f"unix:path={directory}/no-bus", by_certificate(directory))
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    option = f"auth.certificate_file {path}: "
    for content, expected in (
            (b"", "no certificate in PEM in it"),
            (ca.certificate.public_bytes(Encoding.DER), "no certificate in PEM in it"),
            (tls.make_client_cert(path, "hotspot", stranger, ca).read_bytes(),
             "its first certificate is not for this hotspot's key: get one with "
             "blecon-hotspotctl identity --csr")):
        path.write_bytes(content)
        await does_not_start(agent, option + expected)


# What OpenSSL and mbedTLS, here and there, make of the alert, which in TLS 1.3 comes when the
# hotspot is through with the handshake.

async def test_no_certificate(directory):
    """A cloud that wants one, and a hotspot without: no connection, until it is not wanted."""
    clients = tls.make_ca(directory, "clients")
    async with running_lab(directory, cloud={"client_ca": clients.cert}) as lab:
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert f"cannot connect to 127.0.0.1:{lab.cloud.port}" in status["uplink"]["error"]
        assert re.search("TLS|certificate", status["uplink"]["error"])
        assert lab.cloud.find("connected") == []
        await right_again(lab)


async def test_expired_certificate(directory):
    """Out of date is a warning, as the clock may be what is wrong; the cloud decides."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    past = datetime(2001, 2, 3, tzinfo=timezone.utc)
    async with running_lab(directory, by_certificate(directory), start_agent=False,
                           cloud={"client_ca": clients.cert}) as lab:
        await does_not_start(lab.agent, "No such file or directory")
        csr = (await request(lab.agent)).encode()
        tls.sign_request(path, csr, clients, past, past)
        await lab.agent.start()
        line = await lab.agent.wait_for_log(" warning auth.certificate_file ")
        assert str(path) in line and "ended on 2001-02-03 00:00:00 UTC" in line
        await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert lab.cloud.find("connected") == []
        await lab.agent.stop()
        tls.sign_request(path, csr, clients)
        await lab.agent.start()
        await lab.up()
        assert lab.agent.log.count(" warning auth.certificate_file ") == 1


def with_key(directory):
    """A configuration and a key, as a daemon that ran once leaves them."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    agent.write_config()
    agent.key.parent.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    agent.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL,
                                            NoEncryption()))
    agent.key.chmod(0o600)
    return agent, key


def pin(key):
    """Its fingerprint, by openssl."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = subprocess.run(["openssl", "dgst", "-sha256", "-binary"], input=der, check=True,
                            capture_output=True).stdout
    return "sha256//" + subprocess.run(["openssl", "base64"], input=digest, check=True,
                                       capture_output=True).stdout.decode().strip()


async def test_identity(directory):
    """id, public key and fingerprint, with the daemon down; no more than 80 columns."""
    agent, key = with_key(directory)
    before = agent.key.stat()
    page = await run(CTL, "identity", "-c", agent.config)
    assert (page.code, page.err) == (0, "")
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    lines = page.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["id", "fingerprint", "public"]
    assert lines[1].split() == ["fingerprint", pin(key)]
    assert page.out.endswith(f"public key\n{pem}")
    assert load_pem_public_key(page.out.encode()) is not None   # others' text before it is fine
    assert max(map(len, lines)) <= 80
    asked = json.loads((await run(CTL, "--json", "-c", agent.config, "identity")).out)
    hotspot_id = lines[0].split()[1]
    assert asked == {"hotspot_id": hotspot_id, "public_key": pem, "fingerprint": pin(key)}
    whole = await run(CTL, "--json", "--csr", "-c", agent.config, "identity")
    assert whole.out.count("\n") == 1
    assert json.loads(whole.out)["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    # It was only looked at, and the daemon says the same.
    assert agent.key.stat().st_mtime == before.st_mtime
    await agent.start()
    assert (await agent.status())["hotspot_id"] == hotspot_id
    assert (await run(CTL, "identity", "-c", agent.config)).out == page.out
    assert await agent.stop() == 0


async def test_certificate_request(directory):
    """openssl takes it, it is for the key, and nothing else is on standard output."""
    agent, key = with_key(directory)
    path = directory / "hotspot.csr"
    path.write_text(await request(agent))
    verified = await run("openssl", "req", "-verify", "-noout", "-subject", "-in", path)
    assert verified.code == 0 and "verify OK" in verified.out + verified.err
    hotspot_id = json.loads((await run(CTL, "--json", "-c", agent.config, "identity")).out)[
        "hotspot_id"]
    assert f"subject=CN={hotspot_id}" in verified.out.replace(" = ", "=")   # OpenSSL before 3.2
    asked = x509.load_pem_x509_csr(path.read_bytes())
    assert asked.public_key().public_numbers() == key.public_key().public_numbers()
    assert list(asked.extensions) == [] and asked.is_signature_valid


async def test_identity_cannot_be_written(directory):
    """A full disk does not leave half a request and exit code 0."""
    agent, _ = with_key(directory)
    for arguments in (["--csr"], [], ["--json"]):
        with open("/dev/full", "w", encoding="ascii") as full:
            process = await asyncio.create_subprocess_exec(
                CTL, "identity", *arguments, "-c", agent.config, stdout=full,
                stderr=subprocess.PIPE)
            _, err = await process.communicate()
        assert process.returncode == 1
        assert err.decode() == "blecon-hotspotctl: cannot write: No space left on device\n"


async def test_no_identity(directory):
    """Nothing is made where there is no key; a bad configuration is told as the daemon does."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    agent.write_config()
    for arguments in ([], ["--csr"]):
        ended = await run(CTL, "identity", *arguments, "-c", agent.config)
        assert ended == (1, "", f"blecon-hotspotctl: {agent.key}: there is no key yet: start "
                                "blecon-hotspotd once, it makes one\n")
        assert not agent.key.parent.exists()
    agent.key.parent.mkdir()
    agent.key.write_text("no key")
    agent.key.chmod(0o600)
    ended = await run(CTL, "identity", "--csr", "-c", agent.config)
    assert (ended.code, ended.out) == (1, "")
    assert f"{agent.key}: not a P-256 private key in PEM" in ended.err
    agent.config.write_text("state_dir = 1;\n")
    ended = await run(CTL, "identity", "-c", agent.config)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"blecon-hotspotctl: {agent.config}:1: state_dir: expected")
    ended = await run(CTL, "identity", "-c", directory / "none")
    assert ended == (2, "", f"blecon-hotspotctl: {directory}/none: No such file or directory\n")


async def test_identity_usage(directory):
    """Options that do not go together: exit code 2, and nothing on standard output."""
    agent, key = with_key(directory)
    for arguments in (["status", "--csr"], ["devices", "--csr"],
                      ["identity", "-s", agent.socket, "-c", agent.config],
                      ["identity", "now", "-c", agent.config], ["--csr"], ["identity", "-c"]):
        ended = await run(CTL, *arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert "blecon-hotspotctl --help" in ended.err
    assert load_pem_private_key(agent.key.read_bytes(), None).private_numbers() \
        == key.private_numbers()
