# SPDX-License-Identifier: Apache-2.0
"""Puts the lab and its harness where tests import them from; async_tests.py runs the tests."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration"), str(HERE.parent / "lab")]

pytest_plugins = ["async_tests"]
