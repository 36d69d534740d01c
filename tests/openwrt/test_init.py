# SPDX-License-Identifier: Apache-2.0
"""The init script: what it asks of procd, and what it writes."""

import os

URL = ("uplink", "uplink", {"url": "wss://hub.example.com/relay"})
COMMAND = ["/usr/sbin/blecon-hotspotd", "--foreground", "--watchdog", "60",
           "--config", "/var/etc/blecon-hotspot.conf"]


def parameters(calls):
    return {call[1]: call[2:] for call in calls if call[0] == "procd_set_param"}


def tree(folder):
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_ino, path.lstat().st_mode)
            for path in folder.rglob("*")}


def test_start(hub):
    """What procd is to run and how, without a jail where there is no ujail."""
    calls = hub.start([URL])
    assert parameters(calls) == {
        "command": COMMAND, "respawn": ["3600", "10", "0"], "term_timeout": ["10"],
        "file": ["/var/etc/blecon-hotspot.conf"], "reload_signal": ["HUP"],
        "user": ["blecon-hotspot"], "group": ["blecon-hotspot"], "no_new_privs": ["1"]}
    assert [call[0] for call in calls].count("procd_open_instance") == 1
    assert [call for call in calls if "jail" in call[0]] == []
    assert ["procd_add_reload_trigger", "blecon-hotspot"] in calls
    assert not [call for call in calls if call[0] in ("logger", "procd_kill")]
    assert [call for call in calls if call[0] == "uci"] == [["uci", "show", "blecon-hotspot"]]


def test_jail(hub):
    """Of the hub there is what it needs, and only its state and its socket can be written."""
    (hub.root / "sbin/ujail").touch(mode=0o755)
    calls = [call for call in hub.start([URL]) if "jail" in call[0]]
    assert calls == [
        ["procd_add_jail", "blecon-hotspot", "log", "procfs", "sysfs", "ronly"],
        ["procd_add_jail_mount", "/etc", "/tmp", "/var/etc", "/var/run/dbus", "/run/dbus",
         "/usr/share/zoneinfo"],
        ["procd_add_jail_mount_rw", "/etc/blecon-hotspot", "/var/run/blecon-hotspot"]]
    calls = hub.start([("main", "", {"jail": "0"})])
    assert not [call for call in calls if "jail" in call[0]]
    calls = hub.start([("main", "", {"state_dir": "/mnt/hub"})])
    assert ["procd_add_jail_mount_rw", "/mnt/hub", "/var/run/blecon-hotspot"] in calls


def test_files(hub):
    """A reload finds new certificates, whatever their section is called."""
    calls = hub.start([("uplink", "", {"ca_file": "/etc/ca.pem"}),
                       ("auth", "x", {"mode": "certificate",
                                      "certificate_file": "/etc/blecon-hotspot/hub.pem"})])
    assert [call for call in calls if call[0] == "procd_append_param"] == [
        ["procd_append_param", "file", "/etc/ca.pem"],
        ["procd_append_param", "file", "/etc/blecon-hotspot/hub.pem"]]


def test_unset_url(hub):
    """It runs, and its status says what is missing."""
    assert parameters(hub.start([]))["command"] == COMMAND
    assert "url" not in hub.conf.read_text()


def test_private(hub):
    """There may be a proxy's password in it: for root and the daemon, from the first byte on."""
    calls = hub.start([URL])
    assert hub.conf.stat().st_mode & 0o777 == 0o640
    assert ["chown", "root:blecon-hotspot", "/var/etc/blecon-hotspot.conf.new"] in calls


def test_disabled(hub):
    """No instance: procd ends the one there is. The trigger stays."""
    calls = hub.start([("main", "main", {"enabled": "0"}), URL])
    assert calls[-2:] == [["procd_add_reload_trigger", "blecon-hotspot"], ["service_close"]]
    assert ["procd_open_instance"] not in calls


def test_refused_at_boot(hub):
    """Nothing runs, and a corrected configuration starts it by the trigger."""
    calls = hub.start([("uplink", "uplink", {"url": "x"})])
    assert ["procd_open_instance"] not in calls
    assert ["procd_add_reload_trigger", "blecon-hotspot"] in calls
    hub.configure([URL])
    assert parameters(hub.run("reload"))["command"] == COMMAND


def test_reload(hub):
    """The same command with another file is a HUP from procd, not a restart."""
    hub.start([URL])  # makes the directory of the socket
    before = hub.start([URL])
    old = hub.conf.read_text()
    hub.configure([("uplink", "uplink", {"url": "wss://other.example.com/"})])
    assert hub.run("reload") == before
    assert hub.conf.read_text() == old.replace("hub.example.com/relay", "other.example.com/")


def test_flash_is_not_written(hub):
    """No start, reload or stop writes outside /var and /tmp; the hub's root is read-only here. The
    credentials stay as they are, whatever UCI says."""
    for name in ("hotspot.key", "token", "hub.pem"):
        (hub.state / name).write_text(name)
        os.utime(hub.state / name, (1, 1))
    before = tree(hub.root / "etc")
    for action in ("start", "start", "reload", "stop"):
        hub.configure([("auth", "auth", {"mode": "token",
                                         "token_file": "/etc/blecon-hotspot/token"})])
        calls = hub.run(action)
        assert ["procd_open_instance"] in calls or action == "stop"
        assert not [call for call in calls if call[-1] == "/etc/blecon-hotspot"]
    assert tree(hub.root / "etc") == before


def test_first_start(hub):
    """The package's directory is root's until then. What is in it is not given away: it may be a
    link."""
    (hub.root / "tmp/uid").write_text("999")
    (hub.state / "hotspot.key").symlink_to("/etc/shadow")
    calls = [call for call in hub.start([URL]) if call[0] == "chown"]
    assert calls == [["chown", "root:blecon-hotspot", "/var/etc/blecon-hotspot.conf.new"],
                     ["chown", "blecon-hotspot:blecon-hotspot", "/var/run/blecon-hotspot"],
                     ["chown", "blecon-hotspot:blecon-hotspot", "/etc/blecon-hotspot"]]
