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
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))

import tls  # noqa: E402
from cloud import CREDITS, Cloud  # noqa: E402
from cloud_protocol import DONE  # noqa: E402
from device import VirtualDevice  # noqa: E402
from frames import FrameDevice, frames_of_all_sizes  # noqa: E402
from harness import PROGRAMS, QUICK, ROOT, Agent, merge  # noqa: E402
from l2cap_device import MAX_SDU  # noqa: E402
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
FLOW_UP_HOLD = 65536  # agent/flow.h
GATT, L2CAP = 0, 1  # OPEN's bearer


@asynccontextmanager
async def hotspot(out, name, options=None):
    """A cloud and an agent that scans and is connected to it; they end whatever happens."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        ca = tls.make_ca(directory)
        cloud = Cloud(*tls.make_server_cert(directory, ca=ca), state=directory / "cloud")
        await cloud.start()
        ours = {"uplink": {"url": cloud.url, "ca_file": str(ca.cert)},
                "bluetooth": {"adapters": ["hci0"]}}
        agent = Agent(directory, SYSTEM_BUS, merge(merge(QUICK, ours), options or {}))
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


async def test_session(out, radio_device):
    """A device that asks is connected over GATT, and 4,096 bytes go each way, unread."""
    async with hotspot(out, "session") as (agent, cloud):
        device = VirtualDevice(cloud.device_public_key)
        request = os.urandom(4096)
        device.ask(request)
        async with radio_device(device):
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


class Relayed(NamedTuple):
    """What came of frames both ways."""

    opened: dict  # the cloud's event
    up: dict[int, list[bytes]]  # what the cloud got, by channel
    down: list[list[bytes]]  # what the device got


async def relay(out, name, radio_device, bearer, device, down):
    """A session that sends `down` to the device, by channel, while the device sends its frames.

    The cloud ends it as soon as it has sent and received everything: what is not yet on the air
    then is still to reach the device.
    """
    async with hotspot(out, name, {"relay": {"bearer": bearer}}) as (agent, cloud):
        cloud.raw_devices.add(device.device_id)
        async with radio_device(device):
            opened = await cloud.wait_for("open", timeout_s=40, device_id=device.device_id)
            session = next(s for s in cloud.sessions if s.number == opened["session"])
            for channel, frames in enumerate(down):
                session.send_frames(frames, channel=channel)
            counts = sum(map(len, device.frames)), sum(map(len, down))
            await until(lambda: session.ended or
                        (session.frames_in, session.frames_out) == counts, 30)
            assert not session.ended, cloud.find("close", device_id=device.device_id)
            session.close(DONE, "")
            await until(lambda: device.closings == 1)
            await agent.wait_for_status(lambda s: not s["relay"]["sessions"], 20)
            return Relayed(opened, session.received, device.received_on)


def assert_all_came(relayed, device, down):
    """Each frame once, in its channel's order, with the same bytes."""
    assert relayed.up == dict(enumerate(device.frames))
    assert relayed.down == down


async def test_1000_frames_each_way_over_l2cap(out, radio_device):
    down = [frames_of_all_sizes(1000)]
    device = FrameDevice(frames_of_all_sizes(1000), l2cap=True)
    relayed = await relay(out, "l2cap", radio_device, "l2cap", device, down)
    assert_all_came(relayed, device, down)
    opened = relayed.opened
    assert (opened["bearer"], opened["channels"], opened["max_frame"]) == (L2CAP, 1, MAX_SDU)


async def test_1000_frames_each_way_over_gatt(out, radio_device):
    """As configured, of a device that has L2CAP as well."""
    down = [frames_of_all_sizes(1000)]
    device = FrameDevice(frames_of_all_sizes(1000), l2cap=True)
    relayed = await relay(out, "gatt", radio_device, "gatt", device, down)
    assert_all_came(relayed, device, down)
    opened = relayed.opened
    assert (opened["bearer"], opened["channels"], opened["max_frame"]) == (GATT, 1, 255 - 3)


async def test_gatt_serves_where_the_device_refuses_l2cap(out, radio_device):
    down = [frames_of_all_sizes(100), frames_of_all_sizes(100)]
    device = FrameDevice(frames_of_all_sizes(100), frames_of_all_sizes(100))
    relayed = await relay(out, "fallback", radio_device, "auto", device, down)
    assert_all_came(relayed, device, down)
    assert (relayed.opened["bearer"], relayed.opened["channels"]) == (GATT, 2)


async def test_both_channels_over_l2cap(out, radio_device):
    """The first choice of "auto". On each channel 500 frames each way."""
    down = [frames_of_all_sizes(500), frames_of_all_sizes(500)]
    device = FrameDevice(frames_of_all_sizes(500), frames_of_all_sizes(500), l2cap=True)
    relayed = await relay(out, "channels", radio_device, "auto", device, down)
    assert_all_came(relayed, device, down)
    assert (relayed.opened["bearer"], relayed.opened["channels"]) == (L2CAP, 2)


async def test_a_slow_cloud_holds_the_device_back(out, radio_device):
    """Over L2CAP nothing is read while the cloud takes nothing, and nothing is lost by it."""
    frames = [os.urandom(MAX_SDU) for _ in range(1500)]
    device = FrameDevice(frames, l2cap=True)
    async with hotspot(out, "held") as (agent, cloud):
        cloud.raw_devices.add(device.device_id)
        cloud.withhold_credits = True
        async with radio_device(device):
            opened = await cloud.wait_for("open", timeout_s=40, device_id=device.device_id)
            session = next(s for s in cloud.sessions if s.number == opened["session"])
            status = await agent.wait_for_status(
                lambda s: any(x["held"] for x in s["relay"]["sessions"]), 20)
            assert FLOW_UP_HOLD < status["relay"]["sessions"][0]["waiting_up"] < 1.1 * FLOW_UP_HOLD
            assert session.frames_in == CREDITS
            cloud.withhold_credits = False
            cloud.release_credits()
            await until(lambda: session.ended or session.frames_in == len(frames), 30)
            assert session.received == {0: frames}
            session.close(DONE, "")
            await agent.wait_for_status(lambda s: not s["relay"]["sessions"], 20)


async def test_bluetoothd_restart(out, stack, radio_device):
    """bluetoothd is killed in a session: it closes with code 4, and the next one works."""
    async with hotspot(out, "restart") as (agent, cloud):
        device = VirtualDevice(cloud.device_public_key)
        device.ask(os.urandom(100_000))
        async with radio_device(device):
            await cloud.wait_for("open", timeout_s=40, device_id=device.device_id)
            stack.kill_bluetoothd()
            close = await cloud.wait_for("close", timeout_s=10, device_id=device.device_id)
            assert (close["by"], close["code"]) == ("hotspot", 4)
        device.closed()
        await stack.start_bluetoothd()
        began = time.monotonic()
        await agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "scanning", 5)
        print(f"scanning {time.monotonic() - began:.1f} s after the return of bluetoothd")
        async with radio_device(device):
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
