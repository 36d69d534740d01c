# SPDX-License-Identifier: Apache-2.0
"""What the programs take of the libraries is what those on OpenWrt have."""

import re
import subprocess
from pathlib import Path

from harness import CTL, DAEMON

BASU = Path(__file__).resolve().parent / "basu-api.txt"


def told(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_sd_bus():
    """Nothing of sd-bus that basu does not export, and nothing of sd-event or sd-daemon."""
    exported = set(BASU.read_text().split())
    imported = set(re.findall(r" U (sd_\w+)", told("nm", "-D", "--undefined-only", DAEMON)))
    assert len(imported) > 20
    assert imported <= exported, imported - exported


def test_libraries():
    """musl and mbedTLS, and nothing of this machine's own."""
    for program in (DAEMON, CTL):
        needed = set(re.findall(r"NEEDED.*\[(.*?)\.so", told("readelf", "-d", program)))
        assert needed <= {"libwebsockets", "libconfig", "libcbor", "libjson-c", "libbasu",
                          "libmbedtls", "libmbedx509", "libmbedcrypto", "libc"}
        assert "ld-musl-" in told("readelf", "-l", program)
