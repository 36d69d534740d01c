# SPDX-License-Identifier: Apache-2.0
"""A Debian that runs under systemd, with a virtual Bluetooth controller of its own and a device's.

hci0 is the hotspot's, hci1 a device's; bluetoothd is the distribution's service, for both of them: so
it has the configuration of tests/vm, with what a Blecon device would not do switched off.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import stack
import tls
from advertiser import Advertiser, Mgmt
from cloud import Cloud
from radio_device import RadioDevice
from stack import DEVICE, system_bus, until

TOP = Path(__file__).resolve().parents[3]
PACKAGE = TOP / os.environ["PACKAGE"]
UNIT = "blecon-hotspot.service"
CONFIG = Path("/etc/blecon-hotspot.conf")
STATE = Path("/var/lib/blecon-hotspot")
RUNTIME = Path("/run/blecon-hotspot")
PORT = 8443
LOG = Path("/run/vm/commands.log")  # all that was run, and what it said
RUN_SECONDS = 180

# Of a system call that the unit does not allow nothing is seen but an error somewhere, so here it
# ends the daemon, and a test fails.
STRICT = Path(f"/run/systemd/system/{UNIT}.d/strict.conf")

# What installing and removing anything changes.
OF_DPKG = re.compile(
    r"/(var/(log|lib/(dpkg|apt)|cache/(apt|ldconfig|debconf|man))(/.*)?"
    r"|etc/(ld\.so\.cache|(passwd|group|shadow|gshadow|subuid|subgid)-|\.pwd\.lock|\.updated)"
    r"|var/\.updated"
    r"|(root|tmp|var/tmp|var/lib/(bluetooth|systemd/(timers|random-seed|catalog|rfkill)|misc))(/.*)?"
    r"|.*/__pycache__(/.*)?)")


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with nobody to answer its questions."""
    words = [str(word) for word in command]
    with open(LOG, "a+") as log:
        print("+", *words, file=log, flush=True)
        begin = log.tell()
        ended = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log,
                               stderr=subprocess.STDOUT, timeout=RUN_SECONDS)
        log.seek(begin)
        ended.stdout = log.read()
    assert not check or ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}"
    return ended


def apt(*words: str | Path) -> str:
    return run("apt-get", "-y", "-qq", "--no-install-recommends", *words).stdout


def unit(name: str) -> str:
    """A property of the service."""
    return run("systemctl", "show", "--value", "-p", name, UNIT).stdout.strip()


async def ctl(*words: str, user: str = "root", check: bool = True
              ) -> subprocess.CompletedProcess[str]:
    """The control program, run by a user; the cloud, which is here, goes on meanwhile."""
    return await asyncio.to_thread(run, "runuser", "-u", user, "--", "blecon-hotspotctl", *words,
                                   check=check)


async def status() -> dict:
    return json.loads((await ctl("--json", "status", check=False)).stdout)


async def wait_for_status(condition, seconds: float = 60) -> dict:
    """The first status for which condition is true; the service may not answer yet."""
    last: dict = {}

    async def look() -> bool:
        nonlocal last
        ended = await ctl("--json", "status", check=False)
        if not ended.stdout.startswith("{"):
            return False
        last = json.loads(ended.stdout)
        return condition(last)
    try:
        await until(look, seconds)
    except TimeoutError as err:
        err.add_note(f"last status: {last}\n{journal()}")
        raise
    return last


def working(status: dict) -> bool:
    return status["bluetooth"]["state"] == "scanning" and status["uplink"]["state"] == "up"


def journal() -> str:
    return run("journalctl", "-b", "-u", UNIT, "-o", "short-monotonic", "-n", "40").stdout


def tree() -> set[str]:
    """Every file of the disk, but for those that any package changes."""
    found = run("find", "/", "-xdev", "-mindepth", "1").stdout.splitlines()
    return {path for path in found if not OF_DPKG.fullmatch(path)}


def accounts() -> set[str]:
    return {line.split(":")[0] for name in ("passwd", "group")
            for line in Path(f"/etc/{name}").read_text().splitlines()}


class Hub:
    """What the tests have in common."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = tls.make_ca(directory)
        self.pair = tls.make_server_cert(directory, ca=self.ca)
        self.trusted = Path("/etc/ssl/certs/lab.pem")
        self.tree = tree()
        self.accounts = accounts()
        self.restarts = 0
        self._radio: subprocess.Popen[bytes] | None = None
        STRICT.parent.mkdir(parents=True)
        STRICT.write_text("[Service]\nSystemCallErrorNumber=kill\n")

    def start_radio(self) -> None:
        """Its controllers start bluetoothd."""
        shutil.copy(stack.CONFIG, "/etc/bluetooth/main.conf")
        library = TOP / "build/vm/btvirt_rssi.so"
        with open("/run/vm/btvirt.log", "ab") as log:
            self._radio = subprocess.Popen(["btvirt", "-L", "-l2"], stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log,
                                           env=os.environ | {"LD_PRELOAD": str(library)})

    def stop_radio(self) -> None:
        self._radio.kill()
        self._radio.wait()

    @asynccontextmanager
    async def cloud(self) -> AsyncIterator[Cloud]:
        """The same cloud each time."""
        cloud = Cloud(*self.pair, port=PORT, state=self.directory / "cloud")
        await cloud.start()
        try:
            yield cloud
        finally:
            await cloud.stop()

    @asynccontextmanager
    async def advertising(self, payload: bytes) -> AsyncIterator[None]:
        mgmt = Mgmt(DEVICE)
        advertiser = Advertiser(mgmt, lambda: [payload])
        try:
            await advertiser.start()
            yield
        finally:
            await advertiser.stop()
            mgmt.close()

    @asynccontextmanager
    async def radio_device(self, device) -> AsyncIterator[RadioDevice]:
        bus = await system_bus()
        peripheral = RadioDevice(device, bus, DEVICE)
        try:
            await peripheral.start()
            yield peripheral
        finally:
            await peripheral.stop()
            bus.disconnect()

    async def restarted(self, pid: str, seconds: float) -> None:
        """Wait until systemd has started it again, and it works."""
        await until(lambda: unit("MainPID") not in (pid, "0") and unit("ActiveState") == "active",
                    seconds)
        self.restarts += 1
        assert int(unit("NRestarts")) == self.restarts
        await wait_for_status(working)
