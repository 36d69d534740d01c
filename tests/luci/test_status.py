# SPDX-License-Identifier: Apache-2.0
"""The status page in a browser, over the rpcd plugin and an agent."""

import json
import time
from contextlib import asynccontextmanager

import screen_data
from browser import browsing
from bluez_sim import Beacon
from device import EchoDevice
from fake_daemon import fake_daemon
from harness import ROOT, merge, render, running_lab, show, until
from router import GRANTS, MENU, PACKAGE, routing

PICTURES = ROOT / "build/luci"
KEEPS_OPEN = {"raw_handler": lambda session, channel, payload: []}
METHODS = ["status", "devices", "sessions", "journal"]


@asynccontextmanager
async def status_page(directory, config, query=""):
    """The page, without an error in it."""
    async with routing(directory, config) as router, \
            browsing(directory, router.address("status") + query) as page:
        yield router, page
        assert await page.run("errors") == []


@asynccontextmanager
async def told_page(directory, query="", **answers):
    """The page for a daemon that answers this."""
    told = {"status": screen_data.STATUS, "devices": screen_data.DEVICES,
            "sessions": screen_data.SESSIONS, "journal": screen_data.JOURNAL, **answers}
    config = directory / "agent.conf"
    config.write_text(render({"status_socket": str(directory / "status.sock")}))
    async with fake_daemon(directory, **told) as daemon, \
            status_page(directory, config, query) as (router, page):
        yield daemon, router, page


async def verdict(page):
    return await page.run("document.querySelector('[data-verdict]').dataset.verdict")


async def fits(page):
    """Whether nothing is wider than the window."""
    return await page.run("document.documentElement.scrollWidth <= innerWidth")


async def picture(page, name):
    """As it looks on a desk and on a phone."""
    for width in (1280, 390):
        await page.resize(width)
        await page.screenshot(PICTURES / f"{name}-{width}.png")
        assert await fits(page), f"{name} is wider than {width}"
    await page.resize(1280)


async def test_healthy_hub(directory):
    """A hub at work: its devices by signal, a session, and what changes shows by itself."""
    async with running_lab(directory, cloud=KEEPS_OPEN) as lab:
        await lab.working()
        beacons = [Beacon() for _ in range(3)]
        for number, beacon in enumerate(beacons):
            lab.sim.add_device(beacon, rssi=-90 + 15 * number, interval_s=0.2)
        device = EchoDevice([20])
        device.asks = True
        lab.sim.add_device(device, rssi=-35, interval_s=0.1)
        await lab.agent.wait_for_status(
            lambda s: s["sightings"]["present"] == 4 and s["relay"]["sessions"] and
            s["relay"]["sessions"][0]["state"] == "open", what="4 devices and a session")
        async with status_page(directory, lab.agent.config) as (router, page):
            assert await verdict(page) == "success"
            await until(lambda: page.run("document.querySelectorAll('.cbi-progressbar').length == 4"))
            status = await lab.agent.status()
            text = await page.text()
            for shown in (status["hotspot_id"], lab.cloud.url, "00:AA:01:00:00:00", "connected"):
                assert shown in text, shown
            heard = await page.run(
                "[...document.querySelectorAll('.cbi-progressbar')].map(e => "
                "[parseInt(e.title), e.closest('tr').innerText])")
            levels = [dbm for dbm, _ in heard]
            assert levels == sorted(levels, reverse=True) and -45 < levels[0] and levels[-1] < -80
            ids = [device.device_id, *(b.device_id for b in reversed(beacons))]
            assert all(str(i) in line for i, (_, line) in zip(ids, heard)), (ids, heard)
            await picture(page, "healthy")
            assert {call[:2] for call in router.calls} == {("blecon-hotspot", m) for m in METHODS}

            await lab.cloud.stop()
            await page.wait_for("document.querySelector('[data-verdict]').dataset.verdict == "
                                "'warning'")
            assert "Not working" in await page.text("[data-verdict]")


async def test_daemon_down(directory):
    """Before its first start; then one starts, and ends, and the journal it left is shown."""
    async with running_lab(directory, start_agent=False) as lab:
        lab.agent.write_config()
        async with status_page(directory, lab.agent.config) as (_, page):
            assert await verdict(page) == "error"
            text = await page.text("[data-verdict]")
            assert "blecon-hotspotd is not running" in text and "doctor" in text

            await lab.agent.start()
            await lab.working()
            await page.wait_for("document.querySelector('[data-verdict=success]') != null")
            await lab.agent.stop()
            await page.wait_for("document.querySelector('[data-verdict=error]') != null")
            assert "started, version" in await page.text()
            await picture(page, "down")


async def test_cloud_refused(directory):
    """Why it does not work, and what to do, in the words of the agent."""
    async with running_lab(directory, start_cloud=False) as lab:
        await lab.scanning()
        status = await lab.agent.wait_for_status(lambda s: "error" in s["uplink"])
        async with status_page(directory, lab.agent.config) as (_, page):
            assert await verdict(page) == "warning"
            text = await page.text("[data-verdict]")
            assert status["uplink"]["error"] in text and status["uplink"]["advice"] in text
            assert "Connection refused" in text
            await picture(page, "refused")


HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>"\'&amp;\u202e</td>'


def poisoned(value):
    """Each text of it made hostile."""
    if isinstance(value, dict):
        return {k: poisoned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(v) for v in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


async def test_hostile_texts(directory):
    """Whatever is in a text of the daemon, a device or a server: it is shown, as text."""
    status = poisoned(screen_data.STATUS)
    status["working"] = False
    status["uplink"]["state"] = f"{HOSTILE}"
    status["uplink"]["advice"] = HOSTILE
    status["configuration"] |= {"error": HOSTILE, "needs_restart": [HOSTILE]}
    status["bluetooth"] |= {"reason": HOSTILE, "advice": HOSTILE}
    async with told_page(directory, status=status, devices=poisoned(screen_data.DEVICES),
                         sessions=poisoned(screen_data.SESSIONS),
                         journal=poisoned(screen_data.JOURNAL)) as (daemon, _, page):
        asked = len(daemon.asked)
        await until(lambda: len(daemon.asked) >= asked + len(METHODS), what="a refresh")
        assert await page.run("window.hacked") is None
        assert await page.run("document.querySelectorAll('#view img, #view script').length") == 0
        shown = await page.run("document.querySelector('#view').textContent")
        assert shown.count(HOSTILE) > 30
        assert await fits(page)


async def test_hostile_errors(directory):
    """The same in what the daemon answers instead."""
    error = {"error": HOSTILE + "\\ \t" + "x" * 5000}
    async with told_page(directory, status=error, devices=error, sessions=error,
                         journal=error) as (_, _, page):
        assert await verdict(page) == "error"
        assert await page.run("window.hacked") is None
        assert HOSTILE in await page.run("document.querySelector('#view').textContent")


async def test_plugin_missing(directory):
    """Where rpcd does not have the plugin the page says so, and goes on when it has."""
    async with told_page(directory) as (_, router, page):
        assert await verdict(page) == "success"
        router.has_plugin = False
        await page.wait_for("document.querySelector('[data-verdict=error]') != null")
        text = await page.text("[data-verdict]")
        assert "rpcd does not answer" in text and "Object not found" in text
        router.has_plugin = True
        await page.wait_for("document.querySelector('[data-verdict=success]') != null")


async def test_all_translatable(directory):
    """Each text of the page is given to the translation; what is not is the daemon's."""
    def hidden(value):
        """Texts that cannot be taken for one of the page."""
        if isinstance(value, dict):
            return {k: hidden(v) if k not in ("state", "wait", "result", "step") else v
                    for k, v in value.items()}
        if isinstance(value, list):
            return [hidden(v) for v in value]
        return "7" if isinstance(value, str) else value

    answers = {name: hidden(answer) for name, answer in (
        ("status", screen_data.STATUS), ("devices", screen_data.DEVICES),
        ("sessions", screen_data.SESSIONS), ("journal", screen_data.JOURNAL))}
    async with told_page(directory, "?translate", **answers) as (_, _, page):
        texts = await page.run(
            "(() => { const w = document.createTreeWalker(document.querySelector('#blecon-hotspot'), "
            "NodeFilter.SHOW_TEXT), found = []; while (w.nextNode()) found.push(w.currentNode.data);"
            "return found; })()")
        assert len(texts) > 60
        strange = [t for t in texts if not t.startswith("«") and any(c.isalpha() for c in t)]
        assert strange == []


async def test_many_devices(directory):
    """No more than the page can show, those heard best, in an answer that ubus can carry."""
    devices = [screen_data.device(n % 10, rssi_dbm=-30 - n % 70,
                                  device_url=f"https://blecon.dev/{n:08x}", failure="},{" + '"')
               for n in range(3000)]
    devices[0] |= {"state": "lost"}
    status = merge(screen_data.STATUS, {"sightings": {"devices": 3000}})
    async with told_page(directory, devices={"devices": devices}, status=status) as (_, router, page):
        began = time.monotonic()
        _, answer = await router.plugin("call", "devices")
        show(f"rpcd plugin: {(time.monotonic() - began) * 1000:.0f} ms for 3000 devices, "
             f"{len(json.dumps(answer)) / 1000:.0f} KB of them told")
        assert len(answer["devices"]) == 200
        assert len(json.dumps(answer)) < 100_000
        best = sorted((d for d in devices if d["state"] != "lost"), key=lambda d: -d["rssi_dbm"])
        assert ([d["rssi_dbm"] for d in answer["devices"]] ==
                [d["rssi_dbm"] for d in best[:200]])
        assert all(d in devices for d in answer["devices"])
        assert "200 of 3000" in await page.text()


async def test_plugin(directory):
    """What it is asked by rpcd: its methods, and nothing but them."""
    config = directory / "agent.conf"
    config.write_text(render({"status_socket": str(directory / "status.sock"),
                              "state_dir": str(directory)}))
    async with routing(directory, config) as router:
        code, methods = await router.plugin("list")
        assert (code, methods) == (0, {name: {} for name in METHODS})
        for method in METHODS[:3]:
            code, answer = await router.plugin("call", method)
            assert code == 0 and "is not running" in answer["error"], answer
        for arguments in (["call", "log-level"], ["call", "log-level debug"], ["call", "doctor"],
                          ["call", "report"], ["call", "status; true"], ["call"], [],
                          ["call", "--output=/tmp/x"], ["status"]):
            code, usage = await router.plugin(*arguments)
            assert code == 1 and "usage" in usage, arguments


def test_grants():
    """Least rights: to read what the plugin tells, to change the package's own configuration."""
    assert GRANTS["read"] == {"ubus": {"blecon-hotspot": METHODS}, "uci": ["blecon-hotspot"]}
    assert GRANTS["write"] == {"uci": ["blecon-hotspot"]}


def test_menu():
    """Each entry leads to a page that is there, and the menu is shown to who may see it."""
    [[acl]] = [n["depends"]["acl"] for n in MENU.values() if "depends" in n]
    [path] = (PACKAGE / "root/usr/share/rpcd/acl.d").iterdir()
    assert list(json.loads(path.read_text())) == [acl]
    pages = {n["action"]["path"] for n in MENU.values() if n["action"]["type"] == "view"}
    root = PACKAGE / "htdocs/luci-static/resources/view"
    assert pages == {str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.js")}
