# SPDX-License-Identifier: Apache-2.0
"""Puts the lab and the harness where tests import them from."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab")]
