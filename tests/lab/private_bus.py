#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A private D-Bus daemon for the test lab, where anyone may own org.bluez and send anything.

    with PrivateBus() as bus:
        environment["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address

The daemon is a child process. It ends with stop(), and the kernel kills it if its parent dies. A
Ctrl-C in the terminal does not reach it.
"""
from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 10
CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
  </policy>
{limits}
</busconfig>
"""
LIMITS = {
    "max_incoming_bytes": 1_000_000_000,
    "max_outgoing_bytes": 1_000_000_000,
    "max_message_size": 100_000_000,
    "max_incoming_unix_fds": 10_000,
    "max_outgoing_unix_fds": 10_000,
    "max_completed_connections": 10_000,
    "max_connections_per_user": 10_000,
    "max_names_per_connection": 10_000,
    "max_match_rules_per_connection": 100_000,
    "max_replies_per_connection": 100_000,
}


class PrivateBus:
    """One dbus-daemon on a unix socket in `directory` (a temporary one if none is given).

    Start it in the main thread: the kernel's parent-death signal follows the thread that forked.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._given = Path(directory) if directory else None
        self._directory: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    @property
    def pid(self) -> int | None:
        """Process id of the daemon while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start the daemon and return its address; it accepts connections from then on."""
        self._directory = self._given or Path(tempfile.mkdtemp(prefix="lab-bus-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "bus.conf"
        limits = "\n".join(f'  <limit name="{k}">{v}</limit>' for k, v in LIMITS.items())
        socket = escape(str(self._directory.resolve() / "bus.socket"))
        config.write_text(CONFIG.format(socket=socket, limits=limits))
        errors = self._directory / "bus.log"
        with open(errors, "wb") as stderr:
            self._process = subprocess.Popen(
                ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile",
                 "--nosyslog", "--print-address=1"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
                preexec_fn=die_with(os.getpid()), start_new_session=True)
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            reason = errors.read_text(errors="replace")
            self.stop()
            raise RuntimeError(f"dbus-daemon did not start: {reason}")
        return self.address

    def stop(self) -> None:
        """End the daemon and remove what start() made; may be called again."""
        process, self._process = self._process, None
        if process:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout
            process.stdout.close()
        if self._directory:
            for name in ("bus.conf", "bus.log", "bus.socket"):
                (self._directory / name).unlink(missing_ok=True)
            if not self._given:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        self.address = ""

    def __enter__(self) -> PrivateBus:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def die_with(parent: int, by: signal.Signals = signal.SIGKILL):
    """A preexec function: get this signal when `parent` dies, even if it is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
