# SPDX-License-Identifier: Apache-2.0
"""The cloud is told where the hotspot is mounted, as far as that is configured."""

import pytest

from harness import running_lab

WHOLE = {"latitude": 52.2053, "longitude": -0.1218, "accuracy_m": 15, "floor": "2",
         "zone": "Lagerhalle Süd", "name": "door"}
TOLD = {"latitude_udeg": 52_205_300, "longitude_udeg": -121_800, "accuracy_m": 15, "floor": "2",
        "zone": "Lagerhalle Süd", "name": "door"}


@pytest.mark.parametrize("configured, told", [
    (WHOLE, TOLD), ({"name": "door"}, {"name": "door"}), ({}, None),
    ({"latitude": 0, "longitude": 180}, {"latitude_udeg": 0, "longitude_udeg": 180_000_000})])
async def test_location(directory, configured, told):
    """In every hello, also the one of a later connection."""
    async with running_lab(directory, {"location": configured}) as lab:
        assert (await lab.cloud.wait_for("hello"))["location"] == told
        await lab.cloud.kill()
        await lab.cloud.start()
        assert (await lab.cloud.wait_for("hello", count=2))["location"] == told
