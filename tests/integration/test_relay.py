# SPDX-License-Identifier: Apache-2.0
"""A device's session through the agent, over simulated BlueZ and a real WebSocket."""

import asyncio
import os

from device import VirtualDevice
from harness import running_lab, until


def test_session(tmp_path):
    """A device asks, authenticates the cloud, sends 4,096 bytes and gets 4,096 back."""
    async def run():
        async with running_lab(tmp_path) as lab:
            await lab.scanning()
            await lab.up()
            device = VirtualDevice(lab.cloud.device_public_key)
            request = os.urandom(4096)
            device.ask(request)
            lab.sim.add_device(device, rssi=-57, interval_s=0.1)
            answer = await lab.cloud.wait_for("answer", device_id=device.device_id)
            await until(lambda: device.finished)
            assert lab.cloud.find("request")[0]["data"] == request
            assert device.answers == [request[::-1]] == [answer["data"]]
            close = await lab.cloud.wait_for("close", device_id=device.device_id)
            assert (close["by"], close["code"]) == ("cloud", 0)
            status = await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
            assert status["working"], status
            assert status["relay"]["sessions"] == []
    asyncio.run(run())
