# SPDX-License-Identifier: Apache-2.0
"""blecon-hotspotctl's screens as they are at a terminal of 80 columns, for made-up answers."""

import asyncio
import copy
import json
import signal
import unicodedata

from fake_daemon import fake_daemon, screen
from harness import CTL, run, until
from screen_data import (ASKERS, DEVICE, DEVICES, ENDED, FAILED, IDS, JOURNAL, LOG, RELAY, SESSION,
                         SESSIONS, STATUS, UPLINK, URLS, adapter, device)

LINES = 24
LONG_ERROR = ("cannot connect to hub.example.com:443 (192.0.2.7): the server's certificate has "
              "expired: CN=hub.example.com, valid until 2026-10-01 12:00 UTC; the hub's clock says "
              "2026-11-23 17:00 UTC")


def changed(base, **parts):
    """A copy of base with some of its parts changed."""
    copied = copy.deepcopy(base)
    for name, changes in parts.items():
        copied[name] = {**copied[name], **changes} if isinstance(changes, dict) else changes
    return copied


def width(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in line)


async def shown(directory, *command, code=0, columns=80, **answers):
    """The lines of a screen, none of them too long for the terminal."""
    async with fake_daemon(directory, **answers) as daemon:
        page = await screen(daemon.path, *command, columns=columns)
    assert (page.code, page.err) == (code, ""), page
    lines = page.out.splitlines()
    assert max(map(width, lines)) <= columns, page.out
    assert not any(unicodedata.category(c).startswith("C") for line in lines for c in line)
    assert not any(line.endswith(" ") for line in lines)
    return lines


def block(text):
    """The lines of a block of text that begins after its first newline."""
    return text.split("\n")[1:-1]


async def test_status(directory):
    """A hub with two adapters at work: one screen."""
    assert await shown(directory, "status", status=STATUS) == block("""
Working: 5 devices present, uplink up
hotspot    4b63dc16-7247-8655-aa73-4613b181ccf7, the attic
process    version 0.1.0, up 5 d, started 3 times; 6.1 MB memory, 6.4 at most
  before   the run before was stopped
bluetooth  scanning for 5 d, bluetoothd 5.66
  adapter  address           powered scanning           adverts/s  last
  hci0     00:AA:01:00:00:00 yes     discovery, monitor       3.2  0.2 s ago
  hci1     00:AA:01:00:00:01 yes     discovery, monitor       3.2  0.2 s ago
uplink     up for 3 h, ping 23.4 ms
  url      wss://hub.example.com/relay (192.0.2.7)
  tls      certificate until 2027-11-22, 363 days left
  was down 3 h ago: connection lost: no answer to a ping within 10 s
sightings  5 devices present, 6 known; 246912 adverts heard, 246900 reported
  pending  2 devices for the next report, last acknowledged 0.5 s ago
sessions   1 of 8 links, 2 wait (see sessions)
  so far   17 started: 14 served, 1 broken off, 1 failed
""")


async def test_status_says_an_error_once(directory):
    """What the first lines say is not said again: the line is slow."""
    advice = "renew the server's certificate"
    status = changed(
        STATUS, working=False, summary=f"Not working: no cloud: {LONG_ERROR}: {advice}",
        uplink={"state": "waiting", "since_s": 12.0, "retry_in_s": 3.3, "failed_at": "tls",
                "error": LONG_ERROR, "error_s": 12.0, "advice": advice,
                "certificate_until": "2026-10-01T12:00:00Z"})
    lines = await shown(directory, "status", status=status, code=3)
    assert lines[:5] == block("""
Not working: no cloud: cannot connect to hub.example.com:443 (192.0.2.7): the
  server's certificate has expired: CN=hub.example.com, valid until 2026-10-01
  12:00 UTC; the hub's clock says 2026-11-23 17:00 UTC: renew the server's
  certificate
hotspot    4b63dc16-7247-8655-aa73-4613b181ccf7, the attic
""")
    at = lines.index("uplink     waiting for 12 s, next attempt in 3.3 s")
    assert lines[at + 2:at + 5] == block("""
  tls      certificate until 2026-10-01: expired
  error    12 s ago at TLS, as said above
sightings  5 devices present, 6 known; 246912 adverts heard, 246900 reported
""")
    assert len(lines) <= LINES


async def test_status_of_a_hub_that_does_much_is_one_screen(directory):
    """Everything there can be to say while nothing is wrong with the hub itself."""
    status = changed(
        STATUS, log_level="debug",
        configuration={"state": "pending", "since_s": 4.0, "revert_in_s": 296.0,
                       "changed": "uplink.url, uplink.ca_file",
                       "needs_restart": "state_dir, status_socket"},
        uplink={"reconnect_in_s": 4.0, "proxy": "proxy.example.com:3128",
                "own_certificate_until": "2026-12-01T00:00:00Z"},
        sightings={"unacknowledged_s": 1.5, "budget": {"per_day_bytes": 24000, "left_bytes": 12,
                                                       "waits_s": 80.0}},
        relay={"sessions": [SESSION, {**SESSION, "suspended": True}], "queued": 12})
    status["process"]["last_end"] = "the run before ended without a stop: killed, or power was lost"
    lines = await shown(directory, "status", status=status)
    assert lines == block("""
Working: 5 devices present, uplink up
hotspot    4b63dc16-7247-8655-aa73-4613b181ccf7, the attic
process    version 0.1.0, up 5 d, started 3 times; 6.1 MB memory, 6.4 at most,
           log level debug
  before   the run before ended without a stop: killed, or power was lost
config     pending 4.0 s ago, given up in 5 min without the cloud: uplink.url,
           uplink.ca_file
  restart  needed for state_dir, status_socket
bluetooth  scanning for 5 d, bluetoothd 5.66
  adapter  address           powered scanning           adverts/s  last
  hci0     00:AA:01:00:00:00 yes     discovery, monitor       3.2  0.2 s ago
  hci1     00:AA:01:00:00:01 yes     discovery, monitor       3.2  0.2 s ago
uplink     up for 3 h, ping 23.4 ms, reconnects in 4.0 s as the cloud asked
  url      wss://hub.example.com/relay (192.0.2.7)
  proxy    proxy.example.com:3128
  tls      certificate until 2027-11-22, 363 days left; its own until
           2026-12-01, 7 days left
  was down 3 h ago: connection lost: no answer to a ping within 10 s
sightings  5 devices present, 6 known; 246912 adverts heard, 246900 reported
  pending  2 devices for the next report, one batch not acknowledged for 1.5 s,
           which waits 80 s for the budget (see uplink)
sessions   1 of 8 links, 12 wait, 1 kept without an uplink (see sessions)
  so far   17 started: 14 served, 1 broken off, 1 failed
""")
    assert len(lines) <= LINES


async def test_status_of_many_adapters(directory):
    """Eight adapters, each in a state of its own, and a clock that is not set."""
    reason = "powering on failed: org.bluez.Error.Blocked: Blocked through rfkill"
    adapters = [
        adapter(0), adapter(1, monitor=False), adapter(2, discovering=False),
        adapter(3, state="blocked", powered=False, monitor=False, discovering=False,
                adverts_per_s=0.0, reason=reason),
        adapter(4, supervisor={"step": "reported", "cause": "no advert for 300 s", "step_s": 3.0,
                               "next_in_s": 2.0, "restarts": 1, "power_cycles": 2, "reports": 1}),
        {"name": "hci5", "address": "00:AA:01:00:00:05", "used": False},
        adapter(6, adverts_per_s=99999.9, last_advert_s=5900.0),
        {"name": "hci7", "address": "00:AA:01:00:00:07", "used": True, "state": "starting",
         "since_s": 1.0, "monitor": False, "adverts": 0, "dropped": 0}]
    status = changed(STATUS, bluetooth={"adapters": adapters, "advice": "rfkill unblock bluetooth"},
                     clock={"time": "1970-01-01T00:00:12.000Z", "set": False})
    lines = await shown(directory, "status", status=status)
    at = lines.index("clock      not set: it says 1970-01-01T00:00:12.000Z")
    assert lines[at:at + 14] == block("""
clock      not set: it says 1970-01-01T00:00:12.000Z
bluetooth  scanning for 5 d, bluetoothd 5.66
  do       rfkill unblock bluetooth
  adapter  address           powered scanning           adverts/s  last
  hci0     00:AA:01:00:00:00 yes     discovery, monitor       3.2  0.2 s ago
  hci1     00:AA:01:00:00:01 yes     discovery                3.2  0.2 s ago
  hci2     00:AA:01:00:00:02 yes     monitor                  3.2  0.2 s ago
  hci3     00:AA:01:00:00:03 no      blocked                  0.0  0.2 s ago
           powering on failed: org.bluez.Error.Blocked: Blocked through rfkill
  hci4     00:AA:01:00:00:04 yes     discovery, monitor       3.2  0.2 s ago
           no advert for 300 s
           reported 3.0 s ago, next step in 2.0 s; 1 restart, 2 power cycles
  hci5     00:AA:01:00:00:05 not used
  hci6     00:AA:01:00:00:06 yes     discovery, monitor   99999.9  98 min ago
""")
    assert lines[at + 14] == "  hci7     00:AA:01:00:00:07 -       starting                   -  -"
    # Without the date there are no days left.
    assert "  tls      certificate until 2027-11-22" in lines


async def test_status_of_an_older_daemon(directory):
    """What it does not tell is left out."""
    status = copy.deepcopy(STATUS)
    for name in ("clock", "process", "log_level"):
        del status[name]
    for a in status["bluetooth"]["adapters"]:
        for name in ("powered", "discovering", "adverts_per_s", "others", "last_heard_s"):
            del a[name]
    del status["bluetooth"]["version"], status["sightings"]["acknowledged_s"]
    lines = await shown(directory, "status", status=status)
    assert "process    version 0.1.0, up 5 d" in lines
    assert "  hci0     00:AA:01:00:00:00 -       discovery, monitor         -  0.2 s ago" in lines
    assert "  pending  2 devices for the next report" in lines
    # Nothing but what has to be there, and a daemon that has only just begun.
    assert await shown(directory, "status", status={"summary": "Working", "working": True})


async def test_what_the_cloud_says_is_harmless(directory):
    """Its text is shown as it is, but for what a terminal acts on; and it takes its columns."""
    name = "Café 東京 \x1b[2J\x07\x9b31m\u202eevil\u2028 e\u0301"
    status = changed(STATUS, uplink={"hotspot_name": name, "error": "4401 " + "東京駅 " * 30})
    lines = await shown(directory, "status", status=status)
    assert lines[1:3] == [
        f"hotspot    {STATUS['hotspot_id']}, Café 東京 ?[2J???31m???evil???", " " * 11 + "e\u0301"]
    assert [line for line in lines if "東京駅" in line][1] == " " * 11 + "東京駅 " * 9 + "東京駅"
    # No UTF-8 at all, as json-c takes it.
    raw = json.dumps(STATUS).replace("the attic", "the \udcff\udcc3attic")
    lines = await shown(directory, "uplink", status=raw)
    assert "  name     the ??attic" in lines


async def test_long_words(directory):
    """What has no space is broken at the edge, not at its heading."""
    url = "wss://hub.example.com/" + "x" * 100
    lines = await shown(directory, "status", status=changed(STATUS, uplink={"url": url}))
    at = next(i for i, line in enumerate(lines) if line.startswith("  url "))
    assert lines[at] == f"  url      {url[:69]}"
    assert lines[at + 1] == f"           {url[69:]} (192.0.2.7)"
    narrow = await shown(directory, "status", status=STATUS, columns=60)
    assert "  so far   17 started: 14 served, 1 broken off, 1 failed" in narrow


async def test_a_pipe_has_no_columns(directory):
    """Each line is whole for grep."""
    async with fake_daemon(directory, status=changed(STATUS, uplink={"error": LONG_ERROR})) as daemon:
        page = await run(CTL, "-s", daemon.path, "uplink")
    assert f"  was down 3 h ago: {LONG_ERROR}\n" in page.out


async def test_adapters(directory):
    """All there is of each, and exit code 3 where none scans."""
    adapters = [adapter(0), {"name": "hci1", "address": "00:AA:01:00:00:01", "used": False}]
    status = changed(STATUS, bluetooth={"adapters": adapters})
    assert await shown(directory, "adapters", status=status) == block("""
bluetooth  scanning for 5 d
  BlueZ    5.66, found 1 time since the start
hci0       00:AA:01:00:00:00
  state    scanning for 5 d, powered, discovering, with advertisement monitor
  adverts  123456 heard, 3.2 a second, last 0.2 s ago; 2 not understood
  others   9876543 signals of other devices; last of any 0.1 s ago
  silence  none
  so far   1 restart of discovery, 0 power cycles, 0 reports of it
hci1       00:AA:01:00:00:01, not used (bluetooth.adapters)
""")
    lost = adapter(0, state="failed", powered=False, discovering=False, monitor=False,
                   reason="StartDiscovery: org.bluez.Error.NotReady: Resource Not Ready")
    lost["supervisor"] = {"step": "cycled", "cause": "no advert for 20 s", "step_s": 4.0,
                          "next_in_s": 16.0, "restarts": 2, "power_cycles": 1, "reports": 3}
    status = changed(STATUS, bluetooth={
        "state": "not-scanning", "reason": f"hci0: {lost['reason']}", "adapters": [lost],
        "advice": "restart the bluetooth service"})
    lines = await shown(directory, "adapters", status=status, code=3)
    assert lines[:3] == block("""
bluetooth  not-scanning for 5 d: hci0: StartDiscovery: org.bluez.Error.NotReady:
           Resource Not Ready
  do       restart the bluetooth service
""")
    assert lines[-3:] == block("""
  silence  cycled, last step 4.0 s ago, next step in 16 s if nothing is heard:
           no advert for 20 s
  so far   2 restarts of discovery, 1 power cycle, 3 reports of it
""")
    async with fake_daemon(directory, status=status) as daemon:
        page = await run(CTL, "--json", "-s", daemon.path, "adapters")
    assert (page.code, json.loads(page.out)) == (3, {"bluetooth": status["bluetooth"]})


async def test_uplink(directory):
    """All there is of it, with the budget and the other URLs."""
    uplink = {**UPLINK, "own_certificate_until": "2028-01-01T00:00:00Z", "urls": [
        {"url": UPLINK["url"], "failures": 2},
        {"url": "wss://other.example.com/", "failures": 3, "retry_in_s": 5.0, "error_s": 4.0,
         "error": "cannot connect to other.example.com:443 (192.0.2.8): Connection refused"}]}
    status = changed(STATUS, uplink=uplink, sightings={
        "budget": {"per_day_bytes": 24000, "left_bytes": 812, "waits_s": 80.0}})
    assert await shown(directory, "uplink", status=status) == block("""
uplink     up for 3 h, ping 23.4 ms
  url      wss://hub.example.com/relay (192.0.2.7)
  tls      certificate until 2027-11-22, 363 days left; its own until
           2028-01-01, 403 days left
  was down 3 h ago: connection lost: no answer to a ping within 10 s
  name     the attic
  failed   2 times in a row
  other    wss://other.example.com/, failed 3 times, not before 5.0 s; 4.0 s
           ago: cannot connect to other.example.com:443 (192.0.2.8): Connection
           refused
  connects 2 of 3 attempts
  sent     958 bytes in 12 messages: 425 sightings, 318 relay, 203 control, 12
           keepalive
  received 317 bytes in 9 messages: 30 sightings, 186 relay, 97 control, 4
           keepalive
reports    246900 adverts in 4100 batches, 1 sent again, last acknowledged 0.5 s
           ago
  budget   0.8 of 24 kB in 24 h can go now; the next report waits 80 s for it
  kept     3 over the last restart
""")
    down = changed(STATUS, uplink={"state": "waiting", "advice": "ask for the right URL",
                                   "failed_at": "upgrade"})
    lines = await shown(directory, "uplink", status=down, code=3)
    assert "  error    3 h ago at the upgrade: connection lost: no answer to a ping within" in lines
    assert "  do       ask for the right URL" in lines
    async with fake_daemon(directory, status=status) as daemon:
        page = await run(CTL, "--json", "-s", daemon.path, "uplink")
    assert json.loads(page.out) == {"uplink": uplink}


async def test_devices(directory):
    """Sorted as asked for; the columns hold whatever the numbers."""
    assert await shown(directory, "devices", devices=DEVICES) == block(f"""
RSSI LAST    COUNT FLG DEVICE
 -43 0.5 s    123k c-- {URLS[3]}
 -44 2 h        20 l-- {URLS[4]}
 -45 0.1 s      25 -a- {URLS[5]}
     failed 7.0 s ago, again in 5.0 s: connect: Connect: org.bluez.Error.Failed:
     le-connection-abort-by-local
FLG: l lost, c connected, a asks for a connection, n announces itself
""")

    async def order(sort):
        devices = {"devices": [device(7, rssi_dbm=-30, last_s=60.0), *DEVICES["devices"]]}
        lines = await shown(directory, "devices", "--sort", sort, devices=devices)
        return [line[-36] for line in lines if "blecon.dev" in line]
    assert await order("rssi") == ["7", "3", "4", "5"]
    assert await order("seen") == ["5", "3", "7", "4"]
    assert await order("id") == ["3", "4", "5", "7"]
    assert await shown(directory, "devices", devices={"devices": []}) == ["No device heard yet."]
    unheard = device(1, count=123456789012, last_s=5969.0, announces=True)
    del unheard["rssi_dbm"]
    lines = await shown(directory, "devices", devices={"devices": [unheard]})
    assert lines[1] == f"   - 99 min   123G --n {URLS[1]}"


async def test_device(directory):
    """All of one device; its failure is said once."""
    async with fake_daemon(directory, device=DEVICE) as daemon:
        page = await screen(daemon.path, "device", URLS[5])
        assert daemon.asked == [f"device {URLS[5]}"]
    assert page.out.splitlines() == block(f"""
device     {URLS[5]}
  state    present, asks for a connection; flags 0x38, sends with 4 dBm
  heard    0.1 s ago by hci0 at -45 dBm (-60 to -40)
  adverts  25, the first 60 min ago
  failed   3 times in a row, last 7.0 s ago, again in 5.0 s: connect: Connect:
           org.bluez.Error.Failed: le-connection-abort-by-local
queue      back-off for 12 s on hci0: failed 3 times, again in 5.0 s
sessions   none now, the last:
AGE     STATE      DEVICE                               ON
        CONNECT DISCOVER   FRAME  ANSWER   TOTAL FRAMES UP/DOWN BYTES UP/DOWN
2 h     failed     {IDS[5]} hci0 -93 dBm
              -        -       -       -    20 s            0/0           0/0
        connect: Connect: org.bluez.Error.Failed: le-connection-abort-by-local
FRAME (the first), ANSWER (the cloud's first), TOTAL: since the attempt began
""")
    lines = await shown(directory, "device", IDS[3], device={"device": device(3), "last": []})
    assert lines[-1] == "sessions   none lately"
    lines = await shown(directory, "device", IDS[3],
                        device={"device": device(3, connected=True), "session": SESSION, "last": []})
    assert f"3.2 s   open       {IDS[3]} hci0 l2cap -44 dBm" in lines
    # The daemon's word on one that it does not know.
    error = {"error": "no device 3 was heard"}
    async with fake_daemon(directory, device=error) as daemon:
        page = await screen(daemon.path, "device", "3")
    assert page == (1, "", "blecon-hotspotctl: no device 3 was heard\n")


async def test_sessions(directory):
    """What runs, who waits for what, and what took how long."""
    assert await shown(directory, "sessions", sessions=SESSIONS, status=STATUS) == block(f"""
sessions   1 of 8 links; 17 started: 14 served, 1 broken off, 1 failed
  carried  68 frames up, 34 down; 3162 bytes up, 1649 down
AGE     STATE      DEVICE                               ON
        CONNECT DISCOVER   FRAME  ANSWER   TOTAL FRAMES UP/DOWN BYTES UP/DOWN
3.2 s   open       {IDS[3]} hci0 l2cap -44 dBm
         120 ms   341 ms  502 ms  623 ms       -            4/2        186/97
queue      2 devices ask
12 s    back-off   {IDS[5]} hci0 -93 dBm
        failed 3 times, again in 5.0 s: connect: Connect:
        org.bluez.Error.Failed: le-connection-abort-by-local
40 s    weak       {IDS[6]} hci1 -95 dBm
        its signal is too weak, relay.rssi_floor_dbm is -90, announces itself
ended      the last 2, newest first
5 min   served     {IDS[4]} hci1 gatt -71 dBm
        1120 ms  2341 ms 3502 ms 3623 ms    12 s            4/2        186/97
2 h     failed     {IDS[5]} hci0 -93 dBm
              -        -       -       -    20 s            0/0           0/0
        connect: Connect: org.bluez.Error.Failed: le-connection-abort-by-local
FRAME (the first), ANSWER (the cloud's first), TOTAL: since the attempt began
""")


async def test_sessions_with_much_to_say(directory):
    """Large numbers, a session that is kept, one that is held back, and one that nobody took."""
    huge = {f"{what}_{way}": 123456789012 for what in ("frames", "bytes") for way in ("up", "down")}
    kept = {**SESSION, **huge, "suspended": True, "expires_in_s": 30.0, "resumed": 2,
            "waiting_up": 1000, "waiting_down": 0, "held": True, "accepted": False,
            "reason": "connection to the cloud lost", "adapter": "hci10", "rssi_dbm": -100,
            "connect_ms": 9999, "discover_ms": 99999999}
    waiting = [{**ASKERS[1], "wait": wait} for wait in (
        "ready", "attempt", "no-slot", "hold-off", "silent", "no-uplink", "reconnect", "another")]
    status = changed(STATUS, relay={"queue": waiting, "queued": 40, "turned_away": 7,
                                    "resumed": 2})
    lines = await shown(directory, "sessions", status=status, sessions={
        "sessions": [kept], "last": [{**ENDED, "result": "broken", "resumed": 1}]})
    assert lines[4:9] == block(f"""
        CONNECT DISCOVER   FRAME  ANSWER   TOTAL FRAMES UP/DOWN BYTES UP/DOWN
3.2 s   open       {IDS[3]} hci10 l2cap -100 dBm
        9999 ms     28 h  502 ms  623 ms       -      123G/123G     123G/123G
        the cloud has not taken it yet, kept 30 s more without an uplink,
        resumed 2 times, bytes that wait: 1000 up, 0 down, device held back as
""")
    assert "        resumed 1 time, closed by the cloud (0)" in lines
    assert "queue      40 devices ask; 7 adverts of others, as it was full" in lines
    assert "        all links, or all of its adapters, are taken, announces itself" in lines
    assert "        and 32 more" in lines


async def test_no_sessions(directory):
    """Nothing has happened yet, or nothing is to happen."""
    none = {"sessions": [], "last": []}
    relay = {**dict.fromkeys(RELAY, 0), "slots": 4, "max_links": 4, "sessions": [], "queue": []}
    assert await shown(directory, "sessions", sessions=none, status=changed(STATUS, relay=relay)) \
        == block("""
sessions   0 of 4 links; 0 started: 0 served, 0 broken off, 0 failed
  carried  0 frames up, 0 down; 0 bytes up, 0 down
queue      0 devices ask
""")
    off = changed(STATUS, relay={**relay, "max_links": 0})
    assert await shown(directory, "sessions", sessions=none, status=off) == [
        "sessions   none: relay.max_links is 0"]
    async with fake_daemon(directory, sessions=SESSIONS) as daemon:
        page = await run(CTL, "--json", "-s", daemon.path, "sessions")
    assert json.loads(page.out) == SESSIONS


async def test_journal(directory):
    """Oldest first; an age where the clock was not set, and how often it came."""
    assert await shown(directory, "journal", journal=JOURNAL) == block("""
5 d ago              started, version 0.1.0; the run before ended without a
  stop: killed, or power was lost
2026-11-23T17:45:09Z 7x uplink: cannot connect to hub.example.com:443
  (192.0.2.7): Connection refused; next attempt in 2.1 s (first 4 h ago)
2026-11-23T20:43:40Z error: supervisor: hci1: no advert for 300 s: the radio may
  be deaf, or no device is near
""")
    assert await shown(directory, "journal", journal={"journal": []}) == [
        "Nothing in the journal yet."]


async def test_log(directory):
    """The lines as they were written."""
    assert await shown(directory, "log", log=LOG) == block(f"""
2026-11-23T20:45:01.001Z info    reports every 60 s
2026-11-23T20:45:02.002Z warning uplink: connection lost: no answer to a ping
  within 10 s; next attempt in 0.1 s
2026-11-23T20:45:03.003Z info    session 16 with
  {URLS[4]}: ended: closed by the
  cloud (0); 4 frames up, 2 down
""")
    assert await shown(directory, "log", log={"log": []}) == ["Nothing in the log yet."]


async def test_log_level(directory):
    """It is told, or set and told; a bad one is the user's mistake."""
    async with fake_daemon(directory, log_level={"log_level": "info"}) as daemon:
        assert await screen(daemon.path, "log-level") == (0, "info\n", "")
        assert await screen(daemon.path, "log-level", "debug") == (0, "info\n", "")
        assert daemon.asked == ["log-level", "log-level debug"]
        daemon.answers["log-level"] = {"error": "log-level: expected error, warning, info or debug"}
        assert await screen(daemon.path, "log-level", "loud") == (
            2, "", "blecon-hotspotctl: log-level: expected error, warning, info or debug\n")


async def test_events(directory):
    """Of the log's lines those that are events."""
    assert await shown(directory, "events", log=LOG) == block(f"""
2026-11-23T20:45:02.002Z warning: uplink: connection lost: no answer to a ping
  within 10 s; next attempt in 0.1 s
2026-11-23T20:45:03.003Z session 16 with
  {URLS[4]}: ended: closed by the
  cloud (0); 4 frames up, 2 down
""")
    assert await shown(directory, "events", log={"log": LOG["log"][:1]}) == ["No event yet."]
    async with fake_daemon(directory, log=LOG) as daemon:
        page = await run(CTL, "--json", "-s", daemon.path, "events")
    assert [json.loads(line) for line in page.out.splitlines()] == LOG["log"][1:]


def event(number, **changes):
    return {"time": f"2026-11-23T20:46:00.{number:03}Z", "event": "session", "level": "info",
            "text": f"session {number}: ended", **changes}


LISTENING = {"event": "listening", "level": "info", "text": "listening",
             "time": "2026-11-23T20:46:00.000Z"}


class Follower:
    """`events -f` into a pipe."""

    def __init__(self, daemon, *options):
        self.daemon = daemon
        self.options = options

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            CTL, "-s", str(self.daemon.path), "events", "-f", *self.options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE)
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def line(self):
        return (await asyncio.wait_for(self.process.stdout.readline(), 10)).decode().rstrip("\n")

    async def ended(self):
        out, err = await asyncio.wait_for(self.process.communicate(), 10)
        return self.process.returncode, out.decode(), err.decode()


async def test_events_as_they_happen(directory):
    """What was, then what comes, each once and at once; the daemon's end is told."""
    # These come between the request for events and the one for the log. Their text is cleaned.
    new = [event(1), event(2, text="said \x07 by the cloud", level="error", event="uplink"), event(3)]
    async with fake_daemon(directory, events=LISTENING) as daemon:
        def log():
            daemon.publish(*new[1:])
            return {"log": [*LOG["log"][:1], *new]}
        daemon.answers["log"] = log
        async with Follower(daemon) as follower:
            assert await follower.line() == "2026-11-23T20:46:00.001Z session 1: ended"
            assert await follower.line() == \
                "2026-11-23T20:46:00.002Z error: uplink: said ? by the cloud"
            assert await follower.line() == "2026-11-23T20:46:00.003Z session 3: ended"
            daemon.publish(event(4))
            assert await follower.line() == "2026-11-23T20:46:00.004Z session 4: ended"
            # Now what looks like one of before is another one.
            daemon.publish(event(3), {"event": "lost", "count": 12})
            assert await follower.line() == "2026-11-23T20:46:00.003Z session 3: ended"
            assert await follower.line() == \
                "12 events are missing: this came too slowly through"
            daemon.end()
            assert await follower.ended() == (1, "", "blecon-hotspotctl: the daemon has ended\n")


async def test_events_end_with_ctrl_c(directory):
    """Exit code 0; with --json the lines are as they came."""
    line = json.dumps(event(1, text="\u00e9"), separators=(" ,", " : "))
    async with fake_daemon(directory, events=LISTENING, log={"log": []}) as daemon:
        async with Follower(daemon, "--json") as follower:
            await until(lambda: daemon.asked == ["events", "log"])
            daemon.publish(line)
            assert await follower.line() == line
            follower.process.send_signal(signal.SIGINT)
            assert await follower.ended() == (0, "", "")


async def test_events_of_an_older_daemon(directory):
    """One that does not know the request says so."""
    async with fake_daemon(directory, log=LOG) as daemon:
        page = await run(CTL, "-s", daemon.path, "events", "-f")
    assert page == (1, "", "blecon-hotspotctl: unknown request; there are: status\n")
