# SPDX-License-Identifier: Apache-2.0
"""/etc/config/blecon-hotspot as the daemon gets it."""

import re
import subprocess

import pytest

from hub import PROGRAMS, ROOT

EXAMPLE = (ROOT / "configs/blecon-hotspot.conf").read_text()
PIN = "sha256//" + "A" * 43 + "="

# Another value than the default for each option, and how the daemon then writes it.
OTHER = {
    "main": {"state_dir": ("/etc/hub", '"/etc/hub"'),
             "status_socket": ("/var/run/hub/status.sock", '"/var/run/hub/status.sock"'),
             "log_level": ("debug", '"debug"')},
    "uplink": {"url": (["wss://a.example/x", "wss://b.example:8443/"],
                       '[ "wss://a.example/x", "wss://b.example:8443/" ]'),
               "ca_file": ("/etc/ssl/own.pem", '"/etc/ssl/own.pem"'),
               "pins": ([PIN], f'[ "{PIN}" ]'),
               "proxy": ("http://me:secret@proxy:3128", '"(removed)"'),
               "connect_timeout_s": ("16", "16"), "ping_interval_s": ("0", "0"),
               "ping_timeout_s": ("11", "11"), "backoff_min_ms": ("0900", "900"),
               "backoff_max_s": ("301", "301"), "report_interval_s": ("61", "61"),
               "stats_interval_s": ("3601", "3601"),
               "sightings_kb_per_day": ("10000000", "10000000"),
               "reload_revert_s": ("31", "31")},
    "auth": {"mode": ("token", '"token"'), "token_file": ("/etc/hub/token", '"/etc/hub/token"'),
             "certificate_file": ("/etc/hub/hub.pem", '"/etc/hub/hub.pem"')},
    "location": {"latitude": ("-52.25", "-52.250000"), "longitude": ("0.125", "0.125000"),
                 "accuracy_m": ("5", "5"), "floor": ("-1", '"-1"'), "zone": ("true", '"true"'),
                 "name": ("Küche", '"Küche"')},
    "bluetooth": {"adapters": (["hci1", "00:11:22:AA:BB:CC"], '[ "hci1", "00:11:22:AA:BB:CC" ]'),
                  "duplicate_data": ("on", "true"), "silence_s": ("91", "91")},
    "devices": {"max": ("999", "999"), "lost_after_s": ("59", "59")},
    "relay": {"bearer": ("gatt", '"gatt"'), "max_links": ("0", "0"),
              "max_links_per_adapter": ("5", "5"), "holdoff_ms": ("0", "0"),
              "resume_max_s": ("61", "61"), "rssi_floor_dbm": ("-090", "-90"),
              "idle_timeout_s": ("31", "31"), "max_duration_s": ("601", "601"),
              "retry_min_s": ("6", "6"), "retry_max_s": ("301", "301")},
}


def options_of(text):
    """{(group, option): value} of a configuration file, as it stands there."""
    found, group = {}, "main"
    for line in text.splitlines():
        line = line.strip().removeprefix("# ")
        if match := re.fullmatch(r"([a-z]+): \{", line):
            group = match[1]
        elif line == "};":
            group = "main"
        elif match := re.fullmatch(r"([a-z_]+) = (.*);", line):
            found[group, match[1]] = match[2]
    return found


def test_every_option(hub):
    """Each has another value than its default in the daemon, and it is the one of UCI."""
    expected = {(group, option): value[1]
                for group, options in OTHER.items() for option, value in options.items()}
    defaults = options_of(EXAMPLE)
    assert expected.keys() == defaults.keys()
    hub.start([(group, group, {option: value[0] for option, value in options.items()})
               for group, options in OTHER.items()])
    effective = options_of(hub.effective())
    assert effective == expected
    assert 'proxy = "http://me:secret@proxy:3128";\n' in hub.conf.read_text()
    assert not [key for key, value in defaults.items() if value == effective[key]]


@pytest.mark.parametrize("sections", [
    [], [("main", "", {}), ("uplink", "", {"url": "", "ping_interval_s": ""})]])
def test_defaults(hub, sections):
    """What is not set, or set to nothing, is as in the example, but for OpenWrt's own places."""
    hub.start(sections)
    effective = options_of(hub.effective())
    assert effective.pop(("main", "state_dir")) == '"/etc/blecon-hotspot"'
    assert effective.pop(("main", "status_socket")) == '"/var/run/blecon-hotspot/status.sock"'
    for key, value in effective.items():
        if value != "[]" and options_of(EXAMPLE)[key] not in ("52.2053", "0.1218"):
            assert value == options_of(EXAMPLE)[key], key


@pytest.mark.parametrize("text", [
    'quote " and ; }', "$(touch /tmp/pwned) `touch /tmp/pwned`", "back\\slash \\n \\", "a\nb\n",
    "'; touch /tmp/pwned; '", "\t\x01\x1f\x7f", "@include \"/etc/passwd\"", "# no comment",
    "*", "-n", "%s%n", "ü€😀", " blanks  ", '";};uplink:{url="wss://evil.example/";};a="'])
def test_hostile_text(hub, text):
    """Text arrives as it is, whatever it looks like: to the shell, to libconfig, to printf."""
    hub.start([("location", "location", {"name": text, "zone": "after"})])
    written = "".join(f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c
                      for c in text.replace("\\", "\\\\").replace('"', '\\"'))
    assert f'name = "{written}";\n' in hub.conf.read_text()
    check = subprocess.run([PROGRAMS / "blecon-hotspotd", "--check-config", hub.conf],
                           capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    effective = options_of(hub.effective())
    assert effective["location", "zone"] == '"after"'
    assert effective["uplink", "url"] == "[]"
    assert not (hub.root / "tmp/pwned").exists()


REFUSED = {
    "no number": ("uplink", {"ping_interval_s": "abc"},
                  "uplink.ping_interval_s: expected a whole number, not 'abc'"),
    "a fraction": ("devices", {"max": "1.5"}, "devices.max: expected a whole number, not '1.5'"),
    "hexadecimal": ("devices", {"max": "0x40"}, "devices.max: expected a whole number"),
    "injection": ("devices", {"max": "20; }; uplink: {"}, "devices.max: expected a whole number"),
    "a second line": ("devices", {"max": "20\nlost_after_s = 1"},
                      "devices.max: expected a whole number, not '20?lost_after_s = 1'"),
    "very large": ("devices", {"max": "9" * 30}, "devices.max: expected a whole number"),
    "out of range": ("devices", {"max": "15"},
                     "devices.max: expected an integer from 16 to 65536 (devices), not 15"),
    "no degrees": ("location", {"latitude": "52N"},
                   "location.latitude: expected a number, not '52N'"),
    "an exponent": ("location", {"latitude": "1e1"}, "location.latitude: expected a number"),
    "no boolean": ("bluetooth", {"duplicate_data": "maybe"},
                   "bluetooth.duplicate_data: expected 0 or 1, not 'maybe'"),
    "a list": ("devices", {"max": ["20"]}, "devices.max: expected an option, not a list"),
    "a list of one text": ("location", {"name": ["a", "b"]}, "location.name: expected"),
    "no URL": ("uplink", {"url": "http://example.com/"}, "uplink.url: expected"),
    "long": ("location", {"name": "x" * 65536}, "location.name: longer than 4096 bytes"),
    "a long item": ("uplink", {"url": ["x" * 65536]}, "uplink.url: longer than 4096 bytes"),
    "a long label": ("location", {"name": "x" * 65}, "location.name: expected at most 64 bytes"),
    "unknown option": ("uplink", {"uri": "x"}, "uplink.uri: unknown option"),
    "of another section": ("uplink", {"max_links": "1"}, "uplink.max_links: unknown option"),
    "unknown section": ("radio", {"x": "1"}, "config radio: unknown section"),
    "no token": ("auth", {"mode": "token"}, "auth.token_file: expected one, as auth.mode"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(hub, name):
    """One line of the log names section and option; the last valid settings stay in use."""
    section, options, expected = REFUSED[name]
    hub.start([("location", "location", {"name": "valid"})])
    before = hub.conf.read_bytes()
    calls = hub.start([(section, section, options)])
    lines = [call[-1] for call in calls if call[0] == "logger"]
    assert lines[0].startswith(f"/etc/config/blecon-hotspot: {expected}")
    assert lines[1:] == ["the last valid settings stay in use"]
    assert hub.conf.read_bytes() == before
    assert sorted(path.name for path in hub.conf.parent.iterdir()) == [hub.conf.name]
    assert ["procd_open_instance"] in calls


def test_not_uci(hub):
    """What uci cannot read, config_load leaves out without a word: it is not taken for a default."""
    hub.start([("location", "location", {"name": "valid"})])
    before = hub.conf.read_bytes()
    (hub.root / "tmp/uci.error").write_text("uci: Parse error (unbalanced quotes) at line 5, byte 7")
    calls = hub.start([])
    assert [call[-1] for call in calls if call[0] == "logger"] == \
        ["/etc/config/blecon-hotspot: Parse error (unbalanced quotes) at line 5, byte 7",
         "the last valid settings stay in use"]
    assert hub.conf.read_bytes() == before


@pytest.mark.parametrize("path", ["/etc/x/s", "/tmp/s", "/var/run/s", "s"])
def test_socket_has_its_directory(hub, path):
    """It is given to the daemon, so it may be nobody else's."""
    calls = hub.start([("main", "main", {"status_socket": path})])
    assert "main.status_socket: expected a directory of its own" in \
        next(call[-1] for call in calls if call[0] == "logger")
    assert not hub.conf.exists()


def test_all_mistakes_at_once(hub):
    """Each is named, so that they are put right in one go."""
    calls = hub.start([("uplink", "a", {"ping_interval_s": "x", "ca_file": "/etc/x", "uri": "y"}),
                       ("uplink", "b", {"ping_timeout_s": "z"})])
    lines = [call[-1].removeprefix("/etc/config/blecon-hotspot: ")
             for call in calls if call[0] == "logger"]
    assert [line.split(":")[0] for line in lines] == \
        ["uplink.ping_interval_s", "uplink.uri", "config uplink"]
    assert not hub.conf.exists()


def test_not_utf8(hub):
    """The daemon says so."""
    hub.configure([("location", "location", {"name": "NAME"})])
    uci = hub.root / "tmp/uci.blecon-hotspot"
    uci.write_bytes(uci.read_bytes().replace(b"NAME", b"\xff\xfe"))
    calls = hub.run("start")
    assert "location.name: expected at most 64 bytes of UTF-8" in \
        next(call[-1] for call in calls if call[0] == "logger")


def test_default_config(hub):
    """The file that is installed, by real UCI's rules for what stands in it, is valid."""
    text = (ROOT / "packaging/openwrt/blecon-hotspot/files/blecon-hotspot.config").read_text()
    (hub.root / "tmp/uci.blecon-hotspot").write_text(text)
    calls = hub.run("start")
    assert ["procd_open_instance"] in calls
    assert not [call for call in calls if call[0] == "logger"]
    # And so it is with every option that is commented out there.
    text = re.sub(r"(?m)^\t#(option|list)", r"\t\1", text)
    (hub.root / "tmp/uci.blecon-hotspot").write_text(text)
    assert not [call for call in hub.run("start") if call[0] == "logger"]
    assert 'latitude = 52.2053;' in hub.conf.read_text()
