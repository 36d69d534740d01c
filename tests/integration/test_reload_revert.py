# SPDX-License-Identifier: Apache-2.0
"""After a reload the cloud is not reached: back to the settings with which it was."""

import re

import pytest

import tls
from harness import merge, running_lab, until
from test_auth import OTHER, TOKEN, by_certificate, write_token
from test_reload import (
    applied, certificate_request, hang_up, nowhere, page, reload, settled, talk, talking_lab)

REVERT_S = 3        # long enough to look at what is pending
NOT_A_PIN = "sha256//" + 43 * "A" + "="


async def wrong_url(lab):
    return {"uplink": {"url": nowhere()}}, "refused"


async def wrong_path(lab):
    return {"uplink": {"url": "wss://nothing.invalid/"}}, "cannot resolve"


async def wrong_ca(lab):
    return {"uplink": {"ca_file": str(tls.make_ca(lab.directory, "other").cert)}}, "certificate"


async def wrong_pin(lab):
    return {"uplink": {"pins": [NOT_A_PIN]}}, "uplink.pins"


async def wrong_proxy(lab):
    return {"uplink": {"proxy": "http://127.0.0.1:1"}}, "proxy"


async def wrong_token(lab):
    path = lab.directory / "other-token"
    path.write_text(OTHER)
    path.chmod(0o600)
    return {"auth": {"token_file": str(path)}}, "401"


async def no_token(lab):
    return {"auth": {"mode": "key"}}, "401"


@pytest.mark.parametrize("wrong", [wrong_url, wrong_path, wrong_ca, wrong_pin, wrong_proxy,
                                   wrong_token, no_token])
async def test_reverted(directory, wrong):
    """The cloud is not reached: back to how it was, told; the session goes on, no advert is lost.
    """
    write_token(directory, TOKEN)
    auth = {"mode": "token", "token_file": str(directory / "token")}
    async with talking_lab(directory, {"auth": auth, "uplink": {"reload_revert_s": REVERT_S}},
                           {"token": TOKEN}) as (lab, talker):
        good = lab.agent.options
        changes, cause = await wrong(lab)
        [(group, [(name, _)])] = [(g, list(o.items())) for g, o in changes.items()]
        # What belongs to the same file and has nothing to do with the cloud stays.
        told = await reload(lab.agent, **merge(changes, {"relay": {"rssi_floor_dbm": -88}}))
        assert told["state"] == "pending" and 0 < told["revert_in_s"] <= REVERT_S
        assert set(told["changed"].split(", ")) == {f"{group}.{name}", "relay.rssi_floor_dbm"}
        assert re.search(r"config pending [\d.]+ s ago, given up in [\d.]+ s without the cloud: ",
                         await page(lab.agent))
        status = await lab.agent.wait_for_status(
            lambda s: s["configuration"]["state"] == "reverted")
        told = status["configuration"]
        assert re.fullmatch(rf"the cloud was not reached in {REVERT_S} s \(.*{cause}.*\), so how "
                            "it is reached is as before", told["error"])
        assert "revert_in_s" not in told and "changed" not in told
        assert status["relay"]["rssi_floor_dbm"] == -88
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        status = await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] == "up")
        assert (status["uplink"]["connects"], status["uplink"]["url"]) == (2, lab.cloud.url)
        assert f"; but not with the new configuration: {told['error']}" in status["summary"]
        assert f"reload: {told['error']}" in await lab.agent.wait_for_log(" error   reload:")
        assert re.search(r"config reverted [\d.]+ s ago, as said above ", await page(lab.agent))
        # The same file again is as wrong; the right one is what runs already.
        assert (await hang_up(lab.agent))["state"] == "pending"
        lab.agent.options = merge(good, {"relay": {"rssi_floor_dbm": -88}})
        await applied(lab)
        await lab.cloud.wait_for("resumed", count=2, device_id=talker.device_id)
        assert (await lab.agent.status())["summary"].endswith(", uplink up")
        await talker.unbroken(lab)
        await lab.all_told()
        for secret in (TOKEN, OTHER):
            assert secret not in lab.agent.log


async def test_reverted_certificate(directory):
    """A certificate that the cloud does not take, for the right key: the old one is used again."""
    clients, others = tls.make_ca(directory, "clients"), tls.make_ca(directory, "others")
    path, other = directory / "hotspot.pem", directory / "other.pem"
    async with talking_lab(directory, by_certificate(directory), {"client_ca": clients.cert},
                           start_agent=False) as (lab, _):
        csr = await certificate_request(lab.agent)
        tls.sign_request(path, csr, clients)
        tls.sign_request(other, csr, others)
        await lab.agent.start()
        await lab.working()
        talker = await talk(lab)
        told = await reload(lab.agent, auth={"certificate_file": str(other)},
                            uplink={"reload_revert_s": 2})
        assert told["state"] == "pending"
        await lab.agent.wait_for_status(lambda s: s["configuration"]["state"] == "reverted")
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        await talker.unbroken(lab)
        await lab.all_told()


async def test_reverted_too_late(directory):
    """A session that the cloud keeps for less time than that ends, and its device has another."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 2}},
                           {"resume_ms": 300}) as (lab, talker):
        await reload(lab.agent, uplink={"url": nowhere()})
        assert "the uplink was down for too long" in await lab.agent.wait_for_log("ended:")
        talker.ask(b"once more")
        await lab.agent.wait_for_status(lambda s: s["configuration"]["state"] == "reverted")
        await lab.cloud.wait_for("open", count=2, device_id=talker.device_id)
        await until(lambda: b"once more" in talker.answers)
        talker.talking = False
        await lab.all_told()


async def test_reverted_twice(directory):
    """What is gone back to is the last that reached the cloud, also if it did not since."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 2}}) as (lab, talker):
        for number in (1, 2):
            url = nowhere(number)
            assert (await reload(lab.agent, uplink={"url": url}))["state"] == "pending"
            if number == 1:
                await lab.cloud.stop(keep_sessions=True)
            status = await lab.agent.wait_for_status(
                lambda s: s["configuration"]["state"] == "reverted")
            assert status["uplink"]["url"] == lab.cloud.url
        await lab.cloud.start()
        await lab.up()
        await talker.unbroken(lab)
        await lab.all_told()


async def test_never_reverted(directory):
    """reload_revert_s = 0: it stays as it is, also where something was to be given up."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 10}}) as (lab, talker):
        wrong = nowhere(1)
        assert (await reload(lab.agent, uplink={"url": wrong}))["state"] == "pending"
        told = await reload(lab.agent, uplink={"reload_revert_s": 0})
        assert told["state"] == "applied" and "revert_in_s" not in told
        told = await reload(lab.agent, uplink={"url": nowhere(2),
                                               "reload_revert_s": 30})
        assert told["state"] == "pending"
        told = await reload(lab.agent, uplink={"url": wrong, "reload_revert_s": 0})
        assert told["state"] == "applied" and "revert_in_s" not in told
        status = await lab.agent.wait_for_status(lambda s: s["uplink"]["attempts"] >= 6)
        assert status["configuration"]["state"] == "applied"
        assert status["uplink"]["url"] == wrong
        assert not status["working"]
        await applied(lab, uplink={"url": lab.cloud.url})
        await talker.unbroken(lab)
        await lab.all_told()


async def test_again_while_pending(directory):
    """A second SIGHUP before the first one's fate: the last good settings are still the first."""
    async with talking_lab(directory, {"uplink": {"reload_revert_s": 30}}) as (lab, talker):
        url = lab.cloud.url
        wrong = [nowhere(n) for n in range(3)]
        assert (await reload(lab.agent, uplink={"url": wrong[0]}))["state"] == "pending"
        # Not an end of waiting: the same once more, what is live, what is refused.
        told = await hang_up(lab.agent)
        assert (told["state"], told.get("changed")) == ("pending", None)
        assert (await reload(lab.agent, relay={"max_links": 3}))["state"] == "pending"
        told = await reload(lab.agent, relay={"max_links": 99})
        assert told["state"] == "refused" and told["revert_in_s"] > 0
        # Right again before it was given up.
        await applied(lab, uplink={"url": url}, relay={"max_links": 3})
        await lab.cloud.wait_for("resumed", device_id=talker.device_id)
        # Two wrong ones: back to the right one, not to the first wrong one.
        assert (await reload(lab.agent, uplink={"url": wrong[1]}))["state"] == "pending"
        told = await reload(lab.agent, uplink={"url": wrong[2], "reload_revert_s": 2})
        assert told["revert_in_s"] <= 2
        await lab.agent.wait_for_status(lambda s: s["configuration"]["state"] == "reverted")
        assert (await settled(lab))["url"] == url
        assert (await lab.agent.status())["relay"]["max_links"] == 3
        await talker.unbroken(lab)
        await lab.all_told()


async def test_never_up(directory):
    """No settings reached the cloud: there is nothing to go back to."""
    async with running_lab(directory, {"uplink": {"reload_revert_s": 1}}, start_cloud=False) as lab:
        await lab.scanning()
        wrong = nowhere()
        told = await reload(lab.agent, uplink={"url": wrong})
        assert told["state"] == "applied" and "revert_in_s" not in told
        await lab.cloud.start()
        status = await lab.agent.wait_for_status(lambda s: s["configuration"]["since_s"] > 1.5)
        assert status["configuration"]["state"] == "applied"
        assert status["uplink"]["url"] == wrong
        await applied(lab, uplink={"url": lab.cloud.url})
