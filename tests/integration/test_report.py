# SPDX-License-Identifier: Apache-2.0
"""The archive for support: what is in it, and what must not be."""

import json
import tarfile

from bluez_sim import Beacon
from device import URL_PREFIX
from harness import CTL, run, running_lab

SECRETS = ("hunter2", "s3cr3t-token")


def contents(path):
    """The files of an archive by their name in its one folder."""
    with tarfile.open(path, "r:gz") as tar:
        [folder] = {m.name.partition("/")[0] for m in tar.getmembers()}
        assert folder.startswith("blecon-hotspot-report-")
        return {m.name.partition("/")[2]: tar.extractfile(m).read().decode()
                for m in tar.getmembers() if m.isfile()}


async def test_running(directory):
    """Status, devices, sessions, journal, log, doctor, system, and the configuration as it is."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 1)
        path = directory / "out.tar.gz"
        ended = await run(CTL, "-s", lab.agent.socket, "-c", lab.agent.config, "report", "-o", path)
        assert (ended.code, ended.out) == (0, f"{path}\n"), ended.err
        assert path.stat().st_mode & 0o777 == 0o600
        files = contents(path)
        assert json.loads(files["status.json"])["working"] is True
        [device] = json.loads(files["devices.json"])["devices"]
        assert device["device_url"] == f"{URL_PREFIX}{beacon.device_id}"
        assert json.loads(files["sessions.json"])["last"] == []
        assert json.loads(files["journal.json"])["journal"][0]["event"] == "start"
        assert json.loads(files["log.json"])["log"]
        assert files["doctor.txt"].startswith("All is well")
        assert f'url = [ "{lab.cloud.url}" ];' in files["configuration.conf"]
        assert "blecon-hotspotctl" in files["system.txt"]
        assert not list(directory.glob("blecon-hotspot.*"))


async def test_no_secrets(directory):
    """The password of a proxy, the token and the hotspot's key are not in it."""
    token = directory / "token"
    directory.mkdir(exist_ok=True)
    token.write_text(SECRETS[1])
    token.chmod(0o600)
    options = {"uplink": {"proxy": f"http://user:{SECRETS[0]}@127.0.0.1:1"},
               "auth": {"mode": "token", "token_file": str(token)}}
    async with running_lab(directory, options) as lab:
        await lab.agent.wait_for_status(lambda s: "error" in s["uplink"])
        path = directory / "out.tar.gz"
        ended = await run(CTL, "-s", lab.agent.socket, "-c", lab.agent.config, "report", "-o", path)
        assert ended.code == 0, ended.err
        files = contents(path)
        assert 'proxy = "(removed)";' in files["configuration.conf"]
        assert f'token_file = "{token}";' in files["configuration.conf"]
        key = lab.agent.key.read_text().splitlines()[1]
        for name, text in files.items():
            for secret in (*SECRETS, key):
                assert secret not in text, name


async def test_daemon_down(directory):
    """What can be had without a daemon: why it does not answer, and what the doctor finds."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon)
        lab.sim.set_interval(beacon, 0.2)
        assert await lab.agent.stop() == 0
        path = directory / "out.tar.gz"
        ended = await run(CTL, "-s", lab.agent.socket, "-c", lab.agent.config, "report", "-o", path,
                          **lab.agent.environment)
        assert ended.code == 0, ended.err
        files = contents(path)
        assert "blecon-hotspotd is not running" in files["no-daemon.txt"]
        assert "status.json" not in files
        assert "blecon-hotspotd is not running" in files["doctor.txt"].splitlines()[0]
        journal = json.loads(files["journal.json"])["journal"]
        assert [e["event"] for e in journal if e["event"] in ("start", "stop")] == ["start", "stop"]


async def test_broken_configuration(directory):
    """Its error is in the archive, its text is not: a secret may stand in it."""
    directory.mkdir(exist_ok=True)
    config = directory / "agent.conf"
    config.write_text('uplink: { proxy = "http://user:hunter2@proxy"; frobnicate = 1; };\n')
    path = directory / "out.tar.gz"
    ended = await run(CTL, "-s", directory / "none", "-c", config, "report", "-o", path)
    assert ended.code == 0, ended.err
    files = contents(path)
    assert "frobnicate" in files["configuration-error.txt"]
    assert all("hunter2" not in text for text in files.values())


async def test_cannot_be_written(directory):
    """A folder that is not there: exit code 1, tar's words, nothing left behind."""
    directory.mkdir(exist_ok=True)
    ended = await run(CTL, "-s", directory / "none", "-c", directory / "none", "report", "-o",
                      directory / "no" / "out.tar.gz", TMPDIR=str(directory))
    assert ended.code == 1 and "out.tar.gz" in ended.err
    assert list(directory.iterdir()) == []


async def test_json_names_the_file(directory):
    directory.mkdir(exist_ok=True)
    path = directory / "out.tar.gz"
    ended = await run(CTL, "--json", "-s", directory / "none", "-c", directory / "none", "report",
                      "-o", path)
    assert ended.code == 0 and json.loads(ended.out) == {"file": str(path)}
