# SPDX-License-Identifier: Apache-2.0
"""What tests of the lab share."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tls
from private_bus import PrivateBus

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / os.environ.get("PROGRAMS", "build/cc")


@pytest.fixture(name="ca", scope="session")
def fixture_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Ca:
    """A CA, and a server certificate next to it."""
    ca = tls.make_ca(tmp_path_factory.mktemp("tls"))
    tls.make_server_cert(ca.cert.parent, ca=ca)
    return ca


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """Address of a bus."""
    with PrivateBus() as private:
        yield private.address


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where l2cap_preload.so is, built from its source as it is now."""
    subprocess.run(["make", "-s", f"BUILD={PROGRAMS}", "lab-tools"], cwd=ROOT, check=True)
    return PROGRAMS
