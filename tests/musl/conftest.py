# SPDX-License-Identifier: Apache-2.0
"""As in tests/integration, whose harness these tests use."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "lab")]

pytest_plugins = ["async_tests"]
