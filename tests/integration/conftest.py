# SPDX-License-Identifier: Apache-2.0
"""Puts the lab and the harness where tests import them from; async_tests.py runs the tests."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab")]

pytest_plugins = ["async_tests"]


def pytest_configure(config):
    config.addinivalue_line("markers", "systemd: of what an agent with basu does not have")


def pytest_collection_modifyitems(config, items):
    """Where there is no systemd, basu has nothing to talk to it with, and that is not tested."""
    if "musl" not in os.environ.get("PROGRAMS", ""):
        return
    without = [item for item in items if item.get_closest_marker("systemd")]
    items[:] = [item for item in items if item not in without]
    config.hook.pytest_deselected(items=without)
