# SPDX-License-Identifier: Apache-2.0
"""The settings form in a browser: what it shows of the UCI file, takes, and changes there."""

import json
import re
from contextlib import asynccontextmanager

from browser import browsing
from harness import DAEMON, ROOT, merge, render, run, until
from router import parse_uci, routing
from test_status import HOSTILE, picture

# As the package installs it, with some options set.
UCI = """
config main 'main'
	option enabled '1'

config uplink 'uplink'
	list url 'wss://hub.example.com/relay'
	option ping_interval_s '45'

config auth 'auth'

config location 'location'
	option name 'lobby'

config bluetooth 'bluetooth'
	option duplicate_data 'true'

config devices 'devices'

config relay 'relay'
	option bearer 'gatt'
"""
SPLIT = re.compile(r"^\t\{?(NUMBER|TEXT|BOOLEAN|DEGREES|LIST|OPTION)\((.*)$", re.MULTILINE)
INIT_SCRIPTS_OWN = {"main_enabled", "main_jail"}
PIN = "sha256//" + "A" * 43 + "="


def options_of_the_daemon():
    """Each option of its table, as (group, name): kind and the numbers beside it."""
    table = (ROOT / "agent/settings_options.c").read_text().partition("settings_options[] =")[2]
    found = {}
    for kind, rest in SPLIT.findall(table):
        path = rest.split(",")[0].strip('"')
        group, _, name = path.rpartition(".")
        kind = {"OPTION": "TEXT"}.get(kind, kind)
        numbers = [int(n) for n in re.findall(r"(?<=, )-?\d+(?=[,)])", rest)]
        found[group or "main", name] = kind, numbers
    assert len(found) >= 40
    return found


OPTIONS = options_of_the_daemon()
NUMBERS = {option: numbers for option, (kind, numbers) in OPTIONS.items() if kind == "NUMBER"}


@asynccontextmanager
async def settings_page(directory, uci=UCI, query=""):
    """The form, without an error in it but those of invalid input."""
    async with routing(directory, directory / "none.conf", uci) as router, \
            browsing(directory, router.address("settings") + query) as page:
        yield router, page
        assert await page.run("errors") == []


def field(name):
    return f"document.querySelector('[data-name={name}]')"


async def enter(page, name, value):
    """As if it were typed; what the form says of it, "" for nothing."""
    return await page.run(f"""(() => {{
        const node = {field(name)}, input = node.querySelector('input.add-item, input, select');
        if (input.type == 'checkbox')
            input.checked = {json.dumps(value)};
        else
            input.value = {json.dumps(value)};
        input.dispatchEvent(new Event('input', {{ bubbles: true }}));
        return node.querySelector('.wrong').textContent;
    }})()""")


async def press(page, selector):
    await page.run(f"document.querySelector({json.dumps(selector)}).click()")


async def save(page, button="#save"):
    """Save, and wait until the router has it."""
    before = int(await page.run("document.body.dataset.saved || 0"))
    await press(page, button)
    await page.wait_for(f"document.body.dataset.saved == {before + 1}")


def as_config(sections):
    """The daemon's configuration for these sections; None where a number is none."""
    config = {}
    for section in sections.values():
        for name, value in section.items():
            if name.startswith(".") or (section[".type"], name) not in OPTIONS:
                continue
            kind, _ = OPTIONS[section[".type"], name]
            if kind in ("NUMBER", "DEGREES"):
                pattern = r"-?\d+" if kind == "NUMBER" else r"-?\d+(\.\d+)?"
                if not re.fullmatch(pattern, value):
                    return None
                value = int(value) if kind == "NUMBER" else float(value)
            elif kind == "BOOLEAN":
                value = value in ("1", "true")
            config = merge(config, {name: value} if section[".type"] == "main"
                           else {section[".type"]: {name: value}})
    return config


async def daemon_takes(directory, sections):
    """Whether the daemon would start with these sections."""
    config = as_config(sections)
    if config is None:
        return False
    path = directory / "checked.conf"
    path.write_text(render(config))
    return (await run(DAEMON, "--check-config", path)).code == 0


async def test_load_change_save(directory):
    """What is set is shown; what is not changed is not written; what is, as it is in UCI."""
    async with settings_page(directory) as (router, page):
        assert await page.run(f"{field('uplink_url')}.querySelector('.item span').textContent") == \
            "wss://hub.example.com/relay"
        assert await page.run(f"{field('uplink_ping_interval_s')}.querySelector('input').value") == \
            "45"
        assert await page.run(f"{field('bluetooth_duplicate_data')}.querySelector('input').checked")
        assert await page.run(f"{field('relay_bearer')}.querySelector('select').value") == "gatt"
        await save(page)
        assert router.changes() == []

        assert await enter(page, "uplink_url", "wss://two.example.com") == ""
        await press(page, "[data-name=uplink_url] .add")
        for name, value in (("uplink_ping_interval_s", ""), ("location_name", "Dach"),
                            ("location_latitude", "52.2053"), ("location_longitude", "-0.1218"),
                            ("bluetooth_duplicate_data", False), ("relay_bearer", "auto"),
                            ("main_enabled", False), ("devices_max", "2000")):
            await enter(page, name, value)
        await save(page, "#apply")
        expected = [
            ("set", {"section": "main", "values": {"enabled": "0"}}),
            ("set", {"section": "uplink", "values": {
                "url": ["wss://hub.example.com/relay", "wss://two.example.com"]}}),
            ("set", {"section": "location", "values": {
                "name": "Dach", "latitude": "52.2053", "longitude": "-0.1218"}}),
            ("set", {"section": "bluetooth", "values": {"duplicate_data": "0"}}),
            ("set", {"section": "devices", "values": {"max": "2000"}}),
            ("delete", {"section": "uplink", "options": ["ping_interval_s"]}),
            ("delete", {"section": "relay", "options": ["bearer"]})]
        assert sorted(router.changes(), key=json.dumps) == sorted(expected, key=json.dumps)
        await until(lambda: [call[1] for call in router.calls][-2:] == ["apply", "confirm"])
        assert await daemon_takes(directory, router.sections)
        assert await page.run(f"{field('location_name')}.querySelector('input').value") == "Dach"


async def test_all_options(directory):
    """Each option there is, with its default, and its range in words."""
    async with settings_page(directory) as (_, page):
        shown = {entry["name"]: entry for entry in await page.run(
            "[...document.querySelectorAll('[data-name]')].map(e => ({name: e.dataset.name, "
            "placeholder: (e.querySelector('input') || {}).placeholder, "
            "help: e.querySelector('.cbi-value-description').textContent}))")}
        assert shown.keys() == {f"{g}_{n}" for g, n in OPTIONS} | INIT_SCRIPTS_OWN
        for (group, name), (least, most, value) in NUMBERS.items():
            entry = shown[f"{group}_{name}"]
            assert entry["placeholder"] == str(value), entry
            assert entry["help"].endswith(f"From {least} to {most}."), entry
        assert all(len(entry["help"]) > 10 for entry in shown.values())


async def test_numbers_as_the_daemon(directory):
    """At the limits, beyond them, and what is no number."""
    async with settings_page(directory, UCI) as (_, page):
        for (group, name), (least, most, _value) in NUMBERS.items():
            for value in (least, most, least - 1, most + 1, "1.5", "x", "-", "1e3", " 1"):
                sections = parse_uci(UCI)
                sections[group][name] = str(value)
                takes = await daemon_takes(directory, sections)
                said = await enter(page, f"{group}_{name}", str(value))
                assert (said == "") == takes, (group, name, value, said)
            await enter(page, f"{group}_{name}", "")


GOOD_TEXTS = {
    "uplink_url": ["wss://h", "WSS://hub.example.com:8443/a?b=c", "wss://[2001:db8::1]:443/x",
                   "wss://[::1]", "wss://h?q", "wss://192.0.2.7:1", "wss://h/" + "p" * 1022],
    "uplink_pins": [PIN, "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],
    "uplink_proxy": ["none", "http://proxy", "http://proxy:3128/", "HTTP://u:p@proxy:1",
                     "http://u%40x:p%2Fq@[::1]:8080", "http://user@proxy",
                     f"http://{'u' * 89}@proxy", f"http://u:{'%40' * 88}@proxy"],
    "uplink_ca_file": ["/etc/ssl/ca.pem"],
    "location_name": ["x" * 64, "ü" * 32],
    "bluetooth_adapters": ["hci0", "hci12", "00:11:22:aa:BB:cc"],
    "main_state_dir": ["/etc/blecon-hotspot"],
    "main_status_socket": ["/" + "s" * 106],
}
BAD_TEXTS = {
    "uplink_url": ["ws://h", "https://h", "h", "wss://", "wss://:443", "wss://h:0", "wss://h:65536",
                   "wss://h:x", "wss://h:", "wss://u@h", "wss://h/#f", "wss://h/ x", "wss://ü",
                   "wss://[::1", "wss://[::1]x", "wss://" + "h" * 254,
                   "wss://h/" + "p" * 1023],
    "uplink_pins": ["x", PIN[:-1], "sha256//" + "A" * 42 + "B=", PIN + "=", PIN.upper()],
    "uplink_proxy": ["proxy", "https://proxy", "http://", "http://proxy/path", "http://@proxy",
                     "http://u%4@proxy", "http://u%3Ax:p@proxy", "http://u%0a@proxy", "NONE",
                     "http://proxy:0", "http://a b", f"http://{'u' * 90}@proxy",
                     f"http://u:{'%40' * 89}@proxy"],
    "uplink_ca_file": ["ca.pem"],
    "location_name": ["x" * 65, "ü" * 33],
    "bluetooth_adapters": ["hci", "hci01", "wlan0", "hci1000", "00:11:22:aa:BB", "00-11-22-aa-BB-cc"],
    "main_state_dir": ["etc"],
    "main_status_socket": ["/" + "s" * 107, "s"],
}


async def test_texts_as_the_daemon(directory):
    """What has a form of its own: URLs, pins, proxies, paths, adapters."""
    async with settings_page(directory) as (_, page):
        for texts, good in ((GOOD_TEXTS, True), (BAD_TEXTS, False)):
            for field_name, values in texts.items():
                group, _, name = field_name.partition("_")
                for value in values:
                    sections = parse_uci(UCI)
                    kind, _ = OPTIONS[group, name]
                    sections[group][name] = [value] if kind == "LIST" else value
                    assert await daemon_takes(directory, sections) == good, (field_name, value)
                    said = await enter(page, field_name, value)
                    assert (said == "") == good, (field_name, value, said)
                await enter(page, field_name, "")


async def test_pairs(directory):
    """Options that must fit each other; what does not is not saved."""
    async with settings_page(directory) as (router, page):
        for first, low, second, high in (("uplink_backoff_min_ms", "3000", "uplink_backoff_max_s", "2"),
                                         ("relay_retry_min_s", "400", "relay_retry_max_s", "399")):
            await enter(page, first, low)
            assert await enter(page, second, high) != ""
            assert await page.run(f"{field(first)}.querySelector('.wrong').textContent") != ""
            assert await enter(page, second, str(int(high) + 1)) == ""
            assert await page.run(f"{field(first)}.querySelector('.wrong').textContent") == ""
        assert await enter(page, "location_latitude", "91") != ""
        assert "together" in await enter(page, "location_latitude", "90")
        await press(page, "#save")
        await page.wait_for("document.getElementById('notice').textContent.includes('Latitude')")
        assert router.changes() == []
        assert await enter(page, "location_longitude", "-180") == ""
        assert await enter(page, "location_longitude", "-180.1") != ""


async def test_list_limits(directory):
    """At most 8 URLs, and each can be taken out again."""
    urls = "".join(f"\tlist url 'wss://{n}.example.com'\n" for n in range(8))
    async with settings_page(directory, UCI.replace(
            "\tlist url 'wss://hub.example.com/relay'\n", urls)) as (router, page):
        assert "at most 8" in await enter(page, "uplink_url", "wss://more.example.com")
        await press(page, "[data-name=uplink_url] .remove")
        await press(page, "[data-name=uplink_url] .add")
        await save(page)
        assert router.sections["uplink"]["url"] == [f"wss://{n}.example.com" for n in range(1, 8)] + \
            ["wss://more.example.com"]
        for _ in range(8):
            await press(page, "[data-name=uplink_url] .remove")
        await save(page)
        assert "url" not in router.sections["uplink"]


async def test_secrets_are_files(directory):
    """The token is a file; it is asked for where it is needed, and stays set where it is not."""
    async with settings_page(directory) as (router, page):
        hidden = f"{field('auth_token_file')}.classList.contains('hidden')"
        assert await page.run(hidden)
        await enter(page, "auth_mode", "token")
        assert not await page.run(hidden)
        await press(page, "#save")
        await page.wait_for("document.getElementById('notice').textContent.includes('token')")
        assert router.changes() == []
        assert await enter(page, "auth_token_file", "secret") != ""
        assert await enter(page, "auth_token_file", "/etc/blecon-hotspot/token") == ""
        await save(page)
        wanted = {"mode": "token", "token_file": "/etc/blecon-hotspot/token"}
        assert wanted.items() <= router.sections["auth"].items()
        assert await daemon_takes(directory, router.sections)
        await enter(page, "auth_mode", "key")
        await save(page)
        assert "mode" not in router.sections["auth"]
        assert router.sections["auth"]["token_file"] == "/etc/blecon-hotspot/token"


async def test_file_made_by_hand(directory):
    """Sections without a name, or not there; an option that is a list elsewhere."""
    async with settings_page(directory, "config uplink\n\toption url 'wss://hub.example.com'\n") \
            as (router, page):
        [uplink] = router.sections
        await save(page)
        assert {method for method, _ in router.changes()} == {"add"}
        assert [p["name"] for _, p in router.changes()] == ["main", "auth", "location", "bluetooth",
                                                           "devices", "relay"]
        assert all(p["values"] == {} for _, p in router.changes())
        await enter(page, "uplink_connect_timeout_s", "60")
        await enter(page, "relay_max_links", "2")
        await save(page)
        assert router.changes()[6:] == [
            ("set", {"section": uplink, "values": {"connect_timeout_s": "60"}}),
            ("set", {"section": "relay", "values": {"max_links": "2"}})]
        assert router.sections[uplink]["url"] == "wss://hub.example.com"


async def test_hostile_file(directory):
    """Values of the file are shown as text, and can be replaced."""
    quoted = HOSTILE.replace("'", "'\\''")
    async with settings_page(directory, UCI.replace("'lobby'", f"'{quoted}'").replace(
            "'wss://hub.example.com/relay'", f"'{quoted}'").replace("'gatt'", f"'{quoted}'")) \
            as (_, page):
        assert await page.run(f"{field('location_name')}.querySelector('input').value") == HOSTILE
        assert await page.run(f"{field('uplink_url')}.querySelector('.item span').textContent") == \
            HOSTILE
        assert await page.run("window.hacked") is None
        assert await page.run("document.querySelectorAll('#view img, #view script').length") == 0


async def test_all_translatable(directory):
    """Titles, help and tabs are given to the translation, and errors are."""
    async with settings_page(directory, query="?translate") as (_, page):
        texts = await page.run(
            "[...document.querySelectorAll('.cbi-value-title, .cbi-value-description, .cbi-tabmenu li,"
            " option, h2, .cbi-map-descr')].map(e => e.textContent)")
        assert len(texts) > 90
        assert [t for t in texts if not t.startswith("«")] == []
        assert (await enter(page, "uplink_url", "x")).startswith("«")


async def test_looks(directory):
    """Each tab fits a desk and a phone."""
    async with settings_page(directory) as (_, page):
        tabs = await page.run("[...document.querySelectorAll('.cbi-tabmenu li')].map(e => "
                              "e.dataset.tab)")
        assert tabs[0] == "general" and len(tabs) == 6
        for tab in tabs:
            await press(page, f".cbi-tabmenu [data-tab={tab}]")
            await picture(page, f"settings-{tab}")
