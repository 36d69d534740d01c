# SPDX-License-Identifier: Apache-2.0
"""A hub for each shell."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hub import SHELLS, Hub  # noqa: E402 # pylint: disable=wrong-import-position


@pytest.fixture(params=SHELLS)
def hub(tmp_path, request):
    return Hub(tmp_path / "root", request.param)
