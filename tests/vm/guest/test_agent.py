# SPDX-License-Identifier: Apache-2.0
"""The agent on the real kernel and bluetoothd, with the lab's cloud."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))

import tls  # noqa: E402
from cloud import Cloud  # noqa: E402
from device import VirtualDevice  # noqa: E402
from harness import PROGRAMS, QUICK, ROOT, Agent, merge  # noqa: E402
from stack import until  # noqa: E402

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
SENSOR = uuid.UUID("f2ea6ed6-c079-4602-980d-fce59cf19da2")
BEACON = uuid.UUID("62f54cf6-69df-453e-ac7a-4c5841fd8bf5")
SAMPLES = [  # of real devices, whole advertising data
    bytes.fromhex("02010603030dfd17160dfd3a04f2ea6ed6c0794602980dfce59cf19da20300"),
    bytes.fromhex("02010603030dfd17160dfd3b04f2ea6ed6c0794602980dfce59cf19da20300"),
    bytes.fromhex("02010603030dfd17160dfd3f04f2ea6ed6c0794602980dfce59cf19da20300"),
    bytes.fromhex("02010603030dfd17160dfd070062f54cf669df453eac7a4c5841fd8bf50100"),
]
ANNOUNCES = 0x04


@asynccontextmanager
async def hotspot(out, name, options=None):
    """A cloud and an agent that scans and is connected to it; they end whatever happens."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        ca = tls.make_ca(directory)
        cloud = Cloud(*tls.make_server_cert(directory, ca=ca), state=directory / "cloud")
        await cloud.start()
        agent = Agent(directory, SYSTEM_BUS, merge(
            merge(QUICK, {"uplink": {"url": cloud.url, "ca_file": str(ca.cert)},
                          "bluetooth": {"adapters": ["hci0"]}}), options or {}))
        try:
            await agent.start()
            await agent.wait_for_status(
                lambda s: s["bluetooth"]["state"] == "scanning" and s["uplink"]["state"] == "up", 20)
            yield agent, cloud
            assert await agent.stop() == 0
        finally:
            if agent.process and agent.process.poll() is None:
                agent.process.kill()
                agent.process.wait()
            shutil.copy(agent.log_path, out / f"agent-{name}.log")
            await cloud.stop()


async def test_samples(out, advertising):
    """Each of the four real samples is reported with its Device URL and flags."""
    async with hotspot(out, "samples", {"relay": {"max_links": 0}}) as (agent, cloud):
        async with advertising(*SAMPLES, interval=0.5):
            def reported(device_id):
                return {e["service_data"] for e in cloud.find("sighting", device_id=device_id)}
            wanted = {sample[11:] for sample in SAMPLES}
            await until(lambda: reported(SENSOR) | reported(BEACON) >= wanted, 40)
            assert reported(SENSOR) == {sample[11:] for sample in SAMPLES[:3]}
            assert reported(BEACON) == {SAMPLES[3][11:]}
            assert {data[0] for data in reported(SENSOR)} == {0x3A, 0x3B, 0x3F}
            assert any(data[0] & ANNOUNCES for data in reported(SENSOR))
            devices = await agent.devices()
            assert set(devices) == {f"https://blecon.dev/{SENSOR}", f"https://blecon.dev/{BEACON}"}


async def test_session(out, gatt_device):
    """A device that asks is connected over GATT, and 4,096 bytes go each way, unread."""
    async with hotspot(out, "session") as (agent, cloud):
        device = VirtualDevice(cloud.device_public_key)
        request = os.urandom(4096)
        device.ask(request)
        async with gatt_device(device):
            await cloud.wait_for("answer", timeout_s=40, device_id=device.device_id)
            await until(lambda: device.finished, 20)
            assert cloud.find("request", device_id=device.device_id)[0]["data"] == request
            assert device.answers == [request[::-1]]
            close = await cloud.wait_for("close", device_id=device.device_id)
            assert (close["by"], close["code"]) == ("cloud", 0)
            await agent.wait_for_status(lambda s: s["relay"]["served"] == 1
                                        and not s["relay"]["sessions"], 20)
            # It is on the air again, and can be served again.
            device.ask(b"once more")
            await until(lambda: len(device.answers) == 2, 40)
            assert device.answers[1] == b"once more"[::-1]


async def test_bluetoothd_restart(out, stack, gatt_device):
    """bluetoothd is killed in a session: it closes with code 4, and the next one works."""
    async with hotspot(out, "restart") as (agent, cloud):
        device = VirtualDevice(cloud.device_public_key)
        device.ask(os.urandom(100_000))
        async with gatt_device(device):
            await cloud.wait_for("open", timeout_s=40, device_id=device.device_id)
            stack.kill_bluetoothd()
            close = await cloud.wait_for("close", timeout_s=10, device_id=device.device_id)
            assert (close["by"], close["code"]) == ("hotspot", 4)
        device.closed()
        await stack.start_bluetoothd()
        began = time.monotonic()
        await agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning", 5)
        print(f"scanning {time.monotonic() - began:.1f} s after the return of bluetoothd")
        async with gatt_device(device):
            await until(lambda: device.finished, 40)
            assert len(device.answers) == 1


async def test_demo_on_a_real_adapter(advertising):
    """RADIO=real make demo: a device on the air is spotted, and the demo ends by itself."""
    async with advertising(SAMPLES[0]):
        process = await asyncio.create_subprocess_exec(
            sys.executable, ROOT / "tests/lab/demo.py", "--programs", PROGRAMS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "RADIO": "real", "DEMO_SECONDS": "12"})
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert f"cloud | spotted https://blecon.dev/{SENSOR} rssi -60 dBm flags 0x3a" in output
