# SPDX-License-Identifier: Apache-2.0
"""Answers of a daemon, for the screens: a hub with two adapters at work."""

from __future__ import annotations

from typing import Any

IDS = [f"{n}c370a1b-5e2d-4f60-8a17-0123456789ab" for n in range(10)]
URLS = [f"https://blecon.dev/{i}" for i in IDS]


def adapter(index: int, **changes: Any) -> dict[str, Any]:
    return {"name": f"hci{index}", "address": f"00:AA:01:00:00:0{index}", "used": True,
            "state": "scanning", "since_s": 432000.5, "powered": True, "discovering": True,
            "monitor": True, "adverts": 123456, "adverts_per_s": 3.2, "dropped": 2,
            "others": 9876543, "last_advert_s": 0.21, "last_heard_s": 0.05,
            "supervisor": {"step": "watching", "restarts": 1, "power_cycles": 0, "reports": 0},
            **changes}


SESSION = {
    "session": 17, "device_url": URLS[3], "state": "open", "since_s": 3.21, "adapter": "hci0",
    "accepted": True, "suspended": False, "resumed": 0, "bearer": "l2cap", "channels": 2,
    "max_frame": 245, "rssi_dbm": -44, "frames_up": 4, "frames_down": 2, "bytes_up": 186,
    "bytes_down": 97, "waiting_up": 0, "waiting_down": 0, "held": False, "connect_ms": 120,
    "discover_ms": 341, "first_frame_ms": 502, "first_answer_ms": 623}
ENDED = {
    "session": 16, "device_url": URLS[4], "adapter": "hci1", "bearer": "gatt", "rssi_dbm": -71,
    "result": "served", "reason": "closed by the cloud (0)", "ended_s": 310.5, "resumed": 0,
    "frames_up": 4, "frames_down": 2, "bytes_up": 186, "bytes_down": 97, "connect_ms": 1120,
    "discover_ms": 2341, "first_frame_ms": 3502, "first_answer_ms": 3623, "total_ms": 12345}
FAILED = {
    "session": 15, "device_url": URLS[5], "adapter": "hci0", "rssi_dbm": -93, "result": "failed",
    "reason": "connect: Connect: org.bluez.Error.Failed: le-connection-abort-by-local", "resumed": 0,
    "ended_s": 7000.0, "frames_up": 0, "frames_down": 0, "bytes_up": 0, "bytes_down": 0,
    "total_ms": 20003}
ASKERS = [
    {"device_url": URLS[5], "wait": "back-off", "since_s": 12.0, "retry_in_s": 5.0, "failures": 3,
     "failure": "connect: Connect: org.bluez.Error.Failed: le-connection-abort-by-local",
     "announces": False, "adapter": "hci0", "rssi_dbm": -93},
    {"device_url": URLS[6], "wait": "weak", "since_s": 40.0, "announces": True, "adapter": "hci1",
     "rssi_dbm": -95}]
RELAY = {
    "links": 1, "slots": 8, "max_links": 8, "max_links_per_adapter": 4, "rssi_floor_dbm": -90,
    "queued": 2, "turned_away": 0, "started": 17, "served": 14, "failed": 1, "broken": 1,
    "resumed": 0, "frames_up": 68, "frames_down": 34, "bytes_up": 3162, "bytes_down": 1649,
    "sessions": [SESSION], "queue": ASKERS}
UPLINK = {
    "state": "up", "since_s": 10800.0, "url": "wss://hub.example.com/relay", "address": "192.0.2.7",
    "error": "connection lost: no answer to a ping within 10 s", "error_s": 10801.0,
    "failed_at": "up", "certificate_until": "2027-11-22T18:32:22Z", "hotspot_name": "the attic",
    "rtt_us": 23400, "attempts": 3, "connects": 2, "messages_out": 12, "messages_in": 9,
    "bytes_out": {"sightings": 425, "relay": 318, "control": 203, "keepalive": 12},
    "bytes_in": {"sightings": 30, "relay": 186, "control": 97, "keepalive": 4},
    "urls": [{"url": "wss://hub.example.com/relay", "failures": 0}]}
STATUS: dict[str, Any] = {
    "summary": "Working: 5 devices present, uplink up", "working": True, "version": "0.1.0",
    "uptime_s": 432001.0, "hotspot_id": "4b63dc16-7247-8655-aa73-4613b181ccf7",
    "log_level": "info", "clock": {"time": "2026-11-23T20:45:10.123Z", "set": True},
    "process": {"rss_kb": 6246, "peak_rss_kb": 6553, "starts": 3,
                "last_end": "the run before was stopped"},
    "configuration": {"file": "/etc/blecon-hotspot.conf", "state": "started"},
    "bluetooth": {"state": "scanning", "since_s": 432000.0, "version": "5.66", "generation": 1,
                  "adapters": [adapter(0), adapter(1)]},
    "uplink": UPLINK,
    "sightings": {"devices": 6, "present": 5, "pending": 2, "adverts": 246912, "reported": 246900,
                  "batches": 4100, "resent": 1, "resent_sightings": 3, "acknowledged_s": 0.5,
                  "kept": 3, "merged": 0, "evicted": 0, "evicted_adverts": 0},
    "relay": RELAY}
SESSIONS = {"sessions": [SESSION], "last": [ENDED, FAILED]}


def device(number: int, **changes: Any) -> dict[str, Any]:
    return {"device_url": URLS[number], "state": "present", "asks": False, "announces": False,
            "flags": 56, "tx_power_dbm": 4, "rssi_dbm": -40 - number, "rssi_min_dbm": -60,
            "rssi_max_dbm": -40, "count": 5 * number, "first_s": 3600.0, "last_s": 0.1,
            "adapter": "hci0", "connected": False, **changes}


FAILING = device(5, asks=True, failures=3, failure=FAILED["reason"], failure_s=7.0, retry_in_s=5.0)
DEVICES = {"devices": [device(4, last_s=7000.0, state="lost"), FAILING,
                       device(3, connected=True, last_s=0.5, count=123456)]}
DEVICE = {"device": FAILING, "queue": ASKERS[0], "last": [FAILED]}
JOURNAL = {"journal": [
    {"event": "start", "level": "info", "count": 1, "age_s": 432000.0,
     "text": "started, version 0.1.0; the run before ended without a stop: killed, or power was lost"},
    {"event": "uplink", "level": "warning", "count": 7, "age_s": 10801.0, "first_age_s": 14000.0,
     "text": "uplink: cannot connect to hub.example.com:443 (192.0.2.7): Connection refused; next "
             "attempt in 2.1 s", "time": "2026-11-23T17:45:09.001Z"},
    {"event": "supervisor", "level": "error", "count": 1, "age_s": 90.0,
     "text": "hci1: no advert for 300 s: the radio may be deaf, or no device is near",
     "time": "2026-11-23T20:43:40.500Z"}]}
LOG = {"log": [
    {"time": "2026-11-23T20:45:01.001Z", "level": "info", "text": "reports every 60 s"},
    {"time": "2026-11-23T20:45:02.002Z", "level": "warning", "event": "uplink",
     "text": "uplink: connection lost: no answer to a ping within 10 s; next attempt in 0.1 s"},
    {"time": "2026-11-23T20:45:03.003Z", "level": "info", "event": "session",
     "text": f"session 16 with {URLS[4]}: ended: closed by the cloud (0); 4 frames up, 2 down"}]}
