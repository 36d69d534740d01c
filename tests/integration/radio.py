# SPDX-License-Identifier: Apache-2.0
"""The device's side in a process of its own: bluetoothd, simulated, and one device.

    radio.py BUS CLOUD-KEY

The device asks with a canary of its own making and keeps its session after the answer. Prints one
JSON line when it is on the air, one when it has its answer, and, when its input ends, one with all
frames that were on the radio.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

from bluez_sim import BluezSim      # noqa: E402
from device import VirtualDevice    # noqa: E402


class StayingDevice(VirtualDevice):
    """Does not say bye."""

    def _next(self, session):
        return super()._next(session) if self._requests else []


def tell(**values):
    print(json.dumps(values), flush=True)


async def main():
    sim = BluezSim(sys.argv[1])
    sim.add_adapter(0, "00:AA:01:00:00:00")
    canary = os.urandom(64)
    device = StayingDevice(bytes.fromhex(sys.argv[2]))
    device.on_event = lambda name, details: name == "answer" and tell(
        answer=details["answer"].hex())
    device.ask(canary * 64)
    sim.add_device(device, interval_s=0.1)
    await sim.start()
    tell(canary=canary.hex(), device_id=str(device.device_id))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    tell(frames=[f.data.hex() for f in sim.frames[device.device_id]])
    await sim.stop()


asyncio.run(main())
