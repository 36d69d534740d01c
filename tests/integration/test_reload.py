# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: what changed is applied, what is wrong refused. Taken back: test_reload_revert.py."""

import asyncio
import os
import re
import signal
import socket
import struct
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
import pytest

import tls
from bluez_sim import Beacon
from cloud import Cloud
from device import EchoDevice
from harness import CTL, DAEMON, PROGRAMS, Agent, merge, run, running_lab, show, until
from test_auth import TOKEN, by_certificate, request, write_token
from test_relay import ECHOES, LOST

SANITIZED = "sanitize" in PROGRAMS.name


class Talker(EchoDevice):
    """Keeps a few frames on their way, until it is told not to."""

    def __init__(self):
        super().__init__()
        self.channels = 1
        self.talking = True
        self.ends = self.number = 0
        for _ in range(4):
            self.ask(self._frame())

    def received(self, frame, channel=0):
        super().received(frame, channel)
        if not self.talking:
            return []
        self.sent.append(self._frame())
        return self.sent[-1:]

    def closed(self):
        super().closed()
        self.ends += 1

    def _frame(self):
        self.number += 1
        return self.number.to_bytes(4, "big") + bytes(60)

    async def goes_on(self):
        """Frames come back that were not on their way yet."""
        until_now = self.number
        await until(lambda: len(self.answers) > until_now, 20)

    async def unbroken(self, lab):
        """One session, over one link, in which each frame came back once and in order."""
        await self.goes_on()
        self.talking = False
        await until(lambda: len(self.answers) == len(self.sent), 20)
        assert self.answers == self.sent
        assert (self.sessions, self.ends, len(lab.sim.sessions(self))) == (1, 0, 1)
        assert len(lab.cloud.find("open", device_id=self.device_id)) == 1


@asynccontextmanager
async def talking_lab(directory, options=None, cloud=None, **arguments):
    """A lab in which a device is in a session, and another only heard. With start_agent=False there
    is only the configuration yet, and no device.
    """
    async with running_lab(directory, options, {**ECHOES, **(cloud or {})}, **arguments) as lab:
        if lab.agent.process:
            await lab.working()
            yield lab, await talk(lab)
        else:
            lab.agent.write_config()
            yield lab, None


async def talk(lab):
    lab.sim.add_device(Beacon(), interval_s=0.05)
    talker = Talker()
    lab.sim.add_device(talker, interval_s=0.05).frames_per_s = 200
    await until(lambda: talker.answers)
    return talker


async def reload(agent, **changes):
    """Change the file and send SIGHUP. The status after it."""
    agent.options = merge(agent.options, changes)
    agent.write_config()
    return await hang_up(agent)


async def hang_up(agent):
    agent.process.send_signal(signal.SIGHUP)
    # A request may be answered in the turn of the loop that sees the signal, but not one after that.
    await agent.status()
    return (await agent.status())["configuration"]


def nowhere(number=0):
    """A URL where nobody listens, not even the cloud of a test beside this one."""
    return f"wss://127.0.0.1:1/{number}"


async def page(agent):
    """What ctl prints at a terminal of 80 columns, in one line."""
    ended = await run("script", "-qec", f"stty columns 80; {CTL} -s {agent.socket} status",
                      "/dev/null")
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80, ended.out
    return " ".join(" ".join(lines).split())


async def settled(lab, status="up"):
    return (await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] == status))["uplink"]


async def applied(lab, **changes):
    """A reload that is to be good. Returns the configuration's status when it is."""
    await reload(lab.agent, **changes)
    status = await lab.agent.wait_for_status(
        lambda s: s["configuration"]["state"] == "applied" and s["uplink"]["state"] == "up")
    return status["configuration"]


async def certificate_request(agent):
    """For the key that a start without a certificate leaves."""
    await run(DAEMON, "--foreground", "--config", agent.config, **agent.environment)
    return (await request(agent)).encode()


# --- What is applied ---

async def test_nothing_changed(directory):
    """A reload of the same file changes nothing, and says so."""
    async with talking_lab(directory) as (lab, talker):
        status = await lab.agent.status()
        assert status["configuration"] == {"file": str(lab.agent.config), "state": "started"}
        assert "config " not in await page(lab.agent)
        told = await hang_up(lab.agent)
        assert told.pop("since_s") < 5
        assert told == {"file": str(lab.agent.config), "state": "applied"}
        await lab.agent.wait_for_log("info    reload: applied, changed: nothing")
        assert re.search(r"config applied [\d.]+ s ago bluetooth", await page(lab.agent))
        await talker.goes_on()
        assert (await lab.agent.status())["uplink"]["connects"] == 1
        await talker.unbroken(lab)
        await lab.all_told()


async def test_live(directory):
    """What takes no new connection takes effect beside a session that goes on."""
    options = {"uplink": {"report_interval_s": 3600},
               "relay": {"max_links": 1, "rssi_floor_dbm": -60, "holdoff_ms": 0}}
    async with talking_lab(directory, options) as (lab, talker):
        agent, cloud = lab.agent, lab.cloud
        # With an hour between reports only news goes.
        await agent.wait_for_status(lambda s: s["sightings"]["pending"])
        told = await reload(agent, uplink={"report_interval_s": 1, "stats_interval_s": 1})
        assert told["changed"] == "uplink.report_interval_s, uplink.stats_interval_s"
        reported = (await agent.status())["sightings"]["reported"]
        await agent.wait_for_status(lambda s: s["sightings"]["reported"] > reported + 20)
        await cloud.wait_for("stats")
        await reload(agent, uplink={"stats_interval_s": 0, "sightings_kb_per_day": 5000})
        assert (await agent.status())["sightings"]["budget"]["per_day_bytes"] == 5_000_000

        second = EchoDevice([20])
        second.l2cap = True
        lab.sim.add_device(second, rssi=-80, interval_s=0.05)
        await agent.wait_for_status(lambda s: [q["wait"] for q in s["relay"]["queue"]])
        await reload(agent, relay={"max_links": 2})
        # Still too weak, and no device has been tried.
        await agent.wait_for_status(lambda s: [q["wait"] for q in s["relay"]["queue"]] == ["weak"])
        assert not cloud.find("open", device_id=second.device_id)
        told = await reload(agent, relay={"rssi_floor_dbm": -90, "bearer": "gatt"})
        assert told["changed"] == "relay.bearer, relay.rssi_floor_dbm"
        assert (await cloud.wait_for("open", device_id=second.device_id))["bearer"] == 0

        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon)
        await cloud.wait_for("sighting", device_id=beacon.device_id)
        await reload(agent, devices={"lost_after_s": 1})
        await cloud.wait_for("sighting", device_id=beacon.device_id, state=LOST)

        # The file's level goes over the command line's, when it changes.
        told = await reload(agent, log_level="error")
        assert (told["state"], told["changed"]) == ("applied", "log_level")
        length, adverts = len(agent.log), lab.sim.delivered.total()
        await agent.wait_for_status(lambda s: s["sightings"]["adverts"] > adverts + 10)
        assert len(agent.log) == length
        await reload(agent, log_level="debug")
        await until(lambda: len(agent.log) > length)

        assert len(cloud.find("connected")) == len(cloud.find("hello")) == 1
        assert (await agent.status())["uplink"]["connects"] == 1
        await talker.unbroken(lab)
        await lab.all_told()


async def test_live_resume(directory):
    """How long sessions outlive the uplink holds for the next time it is lost."""
    async with talking_lab(directory) as (lab, talker):
        await reload(lab.agent, relay={"resume_max_s": 0})
        await talker.goes_on()
        next(iter(lab.cloud.hotspots.values())).abort()
        await until(lambda: talker.ends)
        assert "the uplink is down" in await lab.agent.wait_for_log("ended:")
        assert not lab.cloud.find("resumed")


async def test_reports_go_on(directory):
    """Reloads that come more often than reports do not put these off."""
    options = {"uplink": {"report_interval_s": 2, "stats_interval_s": 2}}
    async with talking_lab(directory, options) as (lab, talker):
        loop = asyncio.get_running_loop()
        reported = (await lab.agent.status())["sightings"]["reported"]
        end = loop.time() + 10

        async def told():
            await hang_up(lab.agent)
            status = await lab.agent.status()
            return status["sightings"]["reported"] > reported + 20 and lab.cloud.find("stats")
        await until(told, 10, "a report and counters")
        assert loop.time() < end
        await talker.unbroken(lab)


@pytest.mark.parametrize("changes", [
    {"uplink": {"ping_interval_s": 5}},
    {"uplink": {"ping_timeout_s": 5, "connect_timeout_s": 6}},
    {"uplink": {"backoff_min_ms": 200, "backoff_max_s": 2}},
    {"location": {"latitude": 52.2053, "longitude": 0.1218, "zone": "the attic"}},
], ids=lambda changes: next(iter(next(iter(changes.values())))))
async def test_connection(directory, changes):
    """What takes a new connection gets one; the session goes on there, its device sees nothing."""
    async with talking_lab(directory) as (lab, talker):
        told = await applied(lab, **changes)
        names = {f"{group}.{name}" for group, options in changes.items() for name in options}
        assert set(told["changed"].split(", ")) == names
        assert "revert_in_s" not in told
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        assert (await settled(lab))["connects"] == 2
        location = lab.cloud.find("hello")[1]["location"]
        assert ("location" in changes) == bool(location)
        if location:
            assert "the attic" in location.values()
        await talker.unbroken(lab)
        await lab.all_told()


async def test_pings(directory):
    """A shorter interval is that of the new connection: there are pings."""
    async with running_lab(directory, {"uplink": {"ping_interval_s": 0}}) as lab:
        await lab.working()
        await applied(lab, uplink={"ping_interval_s": 1})
        await lab.agent.wait_for_status(lambda s: s["uplink"].get("rtt_us"))


@asynccontextmanager
async def second_cloud(lab, **arguments):
    other = Cloud(*lab.pair, **{**ECHOES, "cluster": lab.cloud, **arguments})
    await other.start()
    try:
        yield other
    finally:
        await other.stop()


async def test_url(directory):
    """Another cloud of the same cluster: the session goes on there, and this is it from now on."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 30}}) as (lab, talker):
        async with second_cloud(lab) as other:
            told = await applied(lab, uplink={"url": other.url})
            assert told["changed"] == "uplink.url" and "revert_in_s" not in told
            await other.wait_for("resumed", device_id=talker.device_id)
            await lab.agent.wait_for_log("reload: the cloud is reached with the new settings")
            uplink = await settled(lab)
            assert (uplink["url"], uplink["connects"]) == (other.url, 2)
            await talker.unbroken(lab)
            await lab.all_told()
            # Lost later, it is not given up any more.
            next(iter(other.hotspots.values())).abort()
            await other.wait_for("hello", count=2)
            assert len(lab.cloud.find("hello")) == 1


async def test_restart_needed(directory):
    """What cannot change is named and stays; the rest of the file is applied."""
    async with talking_lab(directory, {"bluetooth": {"adapters": ["hci0"]}}) as (lab, talker):
        told = await reload(
            lab.agent, state_dir=str(directory / "elsewhere"), devices={"max": 500,
                                                                        "lost_after_s": 1},
            bluetooth={"adapters": [], "duplicate_data": True, "silence_s": 0})
        names = ("state_dir, bluetooth.adapters, bluetooth.duplicate_data, bluetooth.silence_s, "
                 "devices.max")
        assert (told["state"], told["changed"], told["needs_restart"]) == (
            "applied", "devices.lost_after_s", names)
        line = await lab.agent.wait_for_log("stays until a restart")
        assert " warning " in line and line.endswith(f": {names}")
        assert f"restart needed for {names} " in await page(lab.agent)
        # A new connection needs all settings anew: these are still the old ones.
        told = await applied(lab, uplink={"ping_interval_s": 7})
        assert told["needs_restart"] == names
        lab.sim.add_adapter(1, "00:AA:01:00:00:01")
        await lab.agent.wait_for_status(lambda s: len(s["bluetooth"]["adapters"]) == 2)
        used = {a["name"]: a["used"] for a in (await lab.agent.status())["bluetooth"]["adapters"]}
        assert used == {"hci0": True, "hci1": False}
        told = await reload(lab.agent, status_socket=str(directory / "other.sock"))
        assert "status_socket" in told["needs_restart"]
        lab.agent.options["state_dir"] = str(directory / "state")
        lab.agent.options["status_socket"] = str(lab.agent.socket)
        lab.agent.options["devices"].pop("max")
        told = await reload(lab.agent, bluetooth={"adapters": ["hci0"], "duplicate_data": False,
                                                  "silence_s": 90})
        assert (told["state"], told.get("needs_restart")) == ("applied", None)
        await talker.unbroken(lab)
        await lab.all_told()
        assert not (directory / "elsewhere").exists()


# --- What is refused ---

def broken_files(directory):
    """Files and what --check-config, or the start, says of them."""
    token = {"auth": {"mode": "token", "token_file": str(directory / "token")}}
    certificate = {"auth": {"mode": "certificate",
                            "certificate_file": str(directory / "hotspot.pem")}}
    ca = {"uplink": {"ca_file": str(directory / "absent.pem")}}
    return {
        "syntax": ("uplink: { url = ;\n", "syntax error"),
        "unknown option": ({"uplink": {"speed": 3}}, "uplink.speed: unknown option; there are"),
        "range": ({"uplink": {"ping_timeout_s": 301}}, "expected an integer from 1 to 300"),
        "kind": ({"uplink": {"ca_file": 7}}, "expected an absolute path, not an integer"),
        "pair": ({"relay": {"retry_min_s": 9}}, "relay.retry_min_s: expected at most"),
        "missing": (None, "No such file or directory"),
        "no CA": (ca, "No such file or directory"),
        "no token option": ({"auth": {"mode": "token"}}, "auth.token_file: expected one"),
        "no token": (token, "auth.token_file .*: No such file or directory"),
        "no certificate": (certificate, "auth.certificate_file .*: No such file or directory"),
    }


@asynccontextmanager
async def refusing(lab, talker):
    """Reloads that are refused, and change nothing."""
    connects = (await settled(lab))["connects"]
    n = 0

    async def refused(expected):
        """As it is now, the file is refused, in the words of --check-config or of the start."""
        nonlocal n
        n += 1
        told = await hang_up(lab.agent)
        error = told["error"]
        assert told["state"] == "refused" and "changed" not in told
        assert re.search(expected, error), error
        check = await run(DAEMON, "--check-config", lab.agent.config)
        start = await run(DAEMON, "--foreground", "--config", lab.agent.config)
        if check.code:
            assert (check.code, start.code) == (2, 2)
            assert check.err == start.err == f"{error}\n"
        else:
            assert start.code == 1 and start.err.endswith(f" error   {error}\n")
        line = await lab.agent.wait_for_log("reload: refused, what", count=n)
        assert line.endswith(f" error   reload: refused, what ran goes on: {error}")
        status = await lab.agent.status()
        assert status["working"]
        assert f"; but the new configuration is refused: {error}" in status["summary"]
        # Once is enough: the first line has it.
        assert re.search(r"config refused [\d.]+ s ago, as said above ", await page(lab.agent))
        assert status["uplink"]["connects"] == connects
    yield refused
    await talker.goes_on()
    told = await reload(lab.agent)
    assert told["state"] == "applied" and "error" not in told and "changed" not in told
    assert (await settled(lab))["connects"] == connects
    assert (await lab.agent.status())["summary"].endswith(", uplink up")
    await talker.unbroken(lab)
    await lab.all_told()


async def test_refused(directory):
    """Each kind of bad file: told as at the start, and the old one goes on."""
    async with talking_lab(directory) as (lab, talker), refusing(lab, talker) as refused:
        good = lab.agent.options
        for content, expected in broken_files(directory).values():
            if content is None:
                lab.agent.config.unlink()
            elif isinstance(content, str):
                lab.agent.config.write_text(content)
            else:
                lab.agent.options = merge(good, content)
                lab.agent.write_config()
            await refused(expected)
        lab.agent.options = good


async def test_refused_certificates(directory):
    """A file that is no CA, a token that others can read, a certificate for another key."""
    ca = tls.make_ca(directory, "clients")
    async with talking_lab(directory) as (lab, talker), refusing(lab, talker) as refused:
        good = lab.agent.options
        (directory / "empty.pem").touch()
        lab.agent.options = merge(good, {"uplink": {"ca_file": str(directory / "empty.pem")}})
        lab.agent.write_config()
        await refused("uplink.ca_file .*: no certificate in PEM in it")
        write_token(directory, TOKEN, 0o644)
        lab.agent.options = merge(good, {"auth": {"mode": "token",
                                                  "token_file": str(directory / "token")}})
        lab.agent.write_config()
        await refused(r"auth.token_file .*: others can read or write it \(mode 0644\)")
        assert TOKEN not in lab.agent.log
        stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
        tls.make_client_cert(directory / "hotspot.pem", "hotspot", stranger, ca)
        lab.agent.options = merge(good, by_certificate(directory))
        lab.agent.write_config()
        await refused("its first certificate is not for this hotspot's key")
        # What runs has been read before: it needs no file that is gone.
        lab.agent.options = good
        lab.agent.write_config()
        lab.ca.cert.rename(directory / "away.pem")
        await refused("uplink.ca_file .*ca.pem: No such file or directory")
        (directory / "away.pem").rename(lab.ca.cert)


# --- Files under the same name ---

async def test_replaced_ca(directory):
    """The CA's file has another content: read again for a new connection, and not before."""
    async with talking_lab(directory) as (lab, talker):
        renewed = tls.make_ca(directory, "ca")      # where the old one was
        pair = tls.make_server_cert(directory, ca=renewed, name="renewed")
        lab.cloud._tls.load_cert_chain(*pair)       # for new connections
        assert (await settled(lab))["connects"] == 1
        await applied(lab)
        assert (await lab.agent.wait_for_log("reload: applied")).endswith(
            "changed: nothing, with new certificates")
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        assert (await settled(lab))["connects"] == 2
        # Nothing new, no new connection.
        await applied(lab)
        assert (await settled(lab))["connects"] == 2
        # One that nobody here knows, which the old connection would not notice.
        tls.make_ca(directory, "ca")
        await hang_up(lab.agent)
        status = await lab.agent.wait_for_status(lambda s: s["uplink"].get("error"))
        assert "certificate" in status["uplink"]["error"]
        assert status["configuration"]["state"] == "applied"
        lab.ca.cert.write_bytes(renewed.certificate.public_bytes(tls.Encoding.PEM))
        await applied(lab)
        await talker.unbroken(lab)
        await lab.all_told()


async def test_renewed_certificate(directory):
    """The hotspot's own certificate is renewed, as all are: the new one is shown."""
    clients = tls.make_ca(directory, "clients")
    path = directory / "hotspot.pem"
    async with talking_lab(directory, by_certificate(directory), {"client_ca": clients.cert},
                           start_agent=False) as (lab, _):
        def serial():
            [hotspot] = lab.cloud.hotspots.values()
            return hotspot.ws.transport.get_extra_info("peercert")["serialNumber"]

        csr = await certificate_request(lab.agent)
        tls.sign_request(path, csr, clients)
        await lab.agent.start()
        await lab.working()
        talker = await talk(lab)
        first = serial()
        tls.sign_request(path, csr, clients)
        await applied(lab)
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        assert serial() != first
        assert (await settled(lab))["connects"] == 2
        await talker.unbroken(lab)
        await lab.all_told()


async def test_tls_cannot_be_set_up(directory):
    """The key's file is gone, where TLS needs it: tried again until it is back."""
    clients = tls.make_ca(directory, "clients")
    async with talking_lab(directory, by_certificate(directory), {"client_ca": clients.cert},
                           start_agent=False) as (lab, _):
        tls.sign_request(directory / "hotspot.pem", await certificate_request(lab.agent), clients)
        await lab.agent.start()
        await lab.working()
        away = lab.agent.key.rename(directory / "away.key")
        await reload(lab.agent, uplink={"ping_interval_s": 20})
        status = await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 4)
        assert status["uplink"]["error"] == "cannot set up TLS, see the log"
        assert not status["working"] and status["uplink"]["error"] in status["summary"]
        assert str(directory / "hotspot.pem") in await lab.agent.wait_for_log("cannot set up TLS")
        away.rename(lab.agent.key)
        await lab.up()


# --- With a URL and without ---

async def test_first_url(directory):
    """Configured by a reload, and taken away again: what was heard is told in the end."""
    async with running_lab(directory, start_agent=False) as lab:
        url = lab.agent.options["uplink"].pop("url")
        lab.agent.options = merge(lab.agent.options, {"uplink": {"reload_revert_s": 1}})
        await lab.agent.start()
        await lab.scanning()
        lab.sim.add_device(Beacon(), interval_s=0.05)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] > 5)
        assert (await lab.agent.status())["uplink"]["state"] == "unconfigured"
        await applied(lab, uplink={"url": url})
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] > 5)
        # Nobody can be reached without one, so this is not to be taken back.
        told = await reload(lab.agent, uplink={"url": ""})
        assert told["state"] == "applied" and "revert_in_s" not in told
        assert (await lab.cloud.wait_for("disconnected"))["by"] == "connection"
        status = await lab.agent.wait_for_status(lambda s: s["configuration"]["since_s"] > 1.5)
        assert status["uplink"]["state"] == "unconfigured" and status["uplink"]["urls"] == []
        assert status["summary"] == \
            f"Not working: no cloud is configured. {status['uplink']['advice']}"
        assert str(lab.agent.config) in status["uplink"]["advice"]
        await page(lab.agent)
        await applied(lab, uplink={"url": url})
        await lab.all_told()


# --- Around it ---

async def test_while_stopping(directory):
    """SIGHUP after SIGTERM changes nothing: not the connection, and not that it ends."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 1}}) as (lab, talker):
        lab.cloud.ack_sightings = False         # so that there is something to wait for
        lab.agent.process.terminate()
        await lab.agent.wait_for_log("SIGTERM: stopping")
        for number in range(5):
            lab.agent.options = merge(lab.agent.options, {"uplink": {
                "url": nowhere(number), "ping_interval_s": 10 + number}})
            lab.agent.write_config()
            assert (await hang_up(lab.agent))["state"] == "started"
        assert await lab.agent.stop() == 0
        assert re.search(r"SIGHUP: reading the configuration again \(4 times in the last \d+ s\)",
                         lab.agent.log)
        assert "reload: applied" not in lab.agent.log
        end = await lab.cloud.wait_for("disconnected")
        assert (end["code"], end["by"]) == (1001, "hotspot")
        assert (await lab.cloud.wait_for("close"))["code"] == 7


async def test_stop_while_pending(directory):
    """What would be given up soon is not, once it stops."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 2}}) as (lab, talker):
        assert (await reload(lab.agent, uplink={"url": nowhere()}))["state"] == "pending"
        assert await lab.agent.stop() == 0
        assert "reload: the cloud was not reached" not in lab.agent.log


async def test_link(directory):
    """The file may be a link, to another file from now on."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    old = agent.config = directory / "old.conf"
    agent.write_config()
    agent.options = merge(agent.options, {"relay": {"max_links": 3}})
    agent.config = directory / "new.conf"
    agent.write_config()
    agent.config = directory / "agent.conf"
    agent.config.symlink_to(old)
    agent.write_config = lambda: None
    await agent.start()
    assert (await agent.status())["relay"]["max_links"] == 8
    link = directory / "link"
    link.symlink_to(directory / "new.conf")
    link.rename(agent.config)
    assert (await hang_up(agent))["changed"] == "relay.max_links"
    assert (await agent.status())["relay"]["max_links"] == 3
    assert await agent.stop() == 0


async def test_background(directory):
    """Named by a relative path, in the directory it was started in."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    agent.write_config()
    ended = await run("sh", "-c", f"cd {directory} && exec {DAEMON} -c ./{agent.config.name}",
                      **agent.environment)
    assert ended.code == 0, ended.err
    pid = pid_behind(agent.socket)
    try:
        agent.options = merge(agent.options, {"relay": {"max_links": 3}})
        agent.write_config()
        os.kill(pid, signal.SIGHUP)
        status = await agent.wait_for_status(lambda s: "changed" in s["configuration"])
        assert status["configuration"]["changed"] == "relay.max_links"
        assert status["configuration"]["file"] == f"{directory}/./{agent.config.name}"
    finally:
        os.kill(pid, signal.SIGTERM)
    await until(lambda: not agent.socket.exists())


def pid_behind(path):
    """The process that listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("iii", credentials)[0]


def descriptors(agent):
    return sorted(os.readlink(path).partition(":")[0] for path in
                  Path(f"/proc/{agent.process.pid}/fd").iterdir())


RELOADS, WARM_UP, GROWTH_KB = 200, 60, 512


@pytest.mark.long
async def test_many(directory):
    """200 reloads, each with a change and most with a new connection: no memory, no descriptor."""
    ca = tls.make_ca(directory, "copy")
    options = {"uplink": {"reload_revert_s": 3600}}
    async with talking_lab(directory, options, {"record_raw": False}) as (lab, talker):
        ca.cert.write_bytes(lab.ca.cert.read_bytes())
        files = [str(lab.ca.cert), str(ca.cert)]
        connects, figures = 1, []
        for number in range(RELOADS):
            if number in (WARM_UP, RELOADS - 1):
                await settled(lab)
                figures.append((lab.agent.rss_kb, descriptors(lab.agent)))
            kind, n = number % 5, number // 5
            if kind == 0:
                told = await reload(lab.agent, relay={"max_links": 3 + n % 3, "bearer":
                                                      ("auto", "gatt")[n % 2]})
            elif kind == 1:
                told = await reload(lab.agent, location={"zone": f"room {n}"})
            elif kind == 2:
                told = await reload(lab.agent, uplink={"ca_file": files[n % 2 - 1]})
            elif kind == 3:
                lab.agent.config.write_text(f"relay: {{ speed = {n}; }};\n")
                told = await hang_up(lab.agent)
            else:   # in the middle of connecting
                await reload(lab.agent, uplink={"ping_interval_s": 20 + n % 5})
                told = await reload(lab.agent, uplink={"ping_interval_s": 30 + n % 5})
            if kind == 3:
                assert told["state"] == "refused"
                continue
            assert told["state"] in ("applied", "pending") and told["changed"]
            if kind:
                connects += 1
                status = await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] == "up")
                assert status["configuration"]["state"] == "applied"
        uplink = await settled(lab)
        assert uplink["connects"] >= connects
        # Who has just asked for the status may still be connected.
        await until(lambda: len(descriptors(lab.agent)) <= len(figures[0][1]))
        grown_kb = figures[1][0] - figures[0][0]
        show(f"{RELOADS} reloads, {uplink['connects']} connections: {grown_kb} KB more after the "
             f"first {WARM_UP}, {len(figures[1][1])} descriptors")
        assert SANITIZED or grown_kb < GROWTH_KB
        await talker.unbroken(lab)
        await lab.all_told()
