# SPDX-License-Identifier: Apache-2.0
"""The log at the status socket: what happens as it happens, the last lines, and its level."""

import asyncio
import json
import os
import re
import signal
from contextlib import asynccontextmanager

from bluez_sim import Beacon
from device import EchoDevice
from harness import running_lab

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ")
LOG_BYTES = 32 * 1024


class Listener:
    """A client that has asked for `events`."""

    def __init__(self, reader):
        self._reader = reader
        self.seen = []

    async def next(self):
        line = await self._reader.readline()
        assert line.endswith(b"\n"), "the stream has ended"
        self.seen.append(json.loads(line))
        return self.seen[-1]

    async def wait_for(self, event, text):
        """The next event that has this in its text."""
        try:
            async with asyncio.timeout(15):
                while True:
                    told = await self.next()
                    if told["event"] == event and text in told["text"]:
                        assert TIME.fullmatch(told["time"])
                        return told
        except TimeoutError as err:
            err.add_note(f"waited for {event} {text!r}, and saw {self.seen}")
            raise


@asynccontextmanager
async def listening(lab):
    reader, writer = await asyncio.open_unix_connection(str(lab.agent.socket))
    writer.write(b"events\n")
    listener = Listener(reader)
    async with asyncio.timeout(5):
        first = await listener.next()
    assert first["event"] == "listening"
    try:
        yield listener
    finally:
        writer.close()


async def test_events_as_they_happen(directory):
    """Connections, devices, sessions, adapters, reloads, the stop: each once, with its level."""
    async with running_lab(directory) as lab:
        await lab.working()
        async with listening(lab) as listener:
            beacon = Beacon()
            lab.sim.add_device(beacon, rssi=-61)
            await lab.sim.advertise(beacon)
            told = await listener.wait_for("device", str(beacon.device_id))
            assert told["level"] == "info" and "RSSI -61 dBm" in told["text"]
            device = EchoDevice([20])
            lab.sim.add_device(device, interval_s=0.05)
            told = await listener.wait_for("session", "ended")
            assert str(device.device_id) in told["text"]
            await lab.cloud.kill()
            assert (await listener.wait_for("uplink", ""))["level"] == "warning"
            await lab.cloud.start()
            await listener.wait_for("uplink", "up, ")
            os.kill(lab.agent.process.pid, signal.SIGHUP)
            await listener.wait_for("configuration", "reload: applied, changed: nothing")
            lab.sim.remove_adapter(0)
            await listener.wait_for("adapter", "removed")
            devices = [e for e in listener.seen if e["event"] == "device"]
            assert len(devices) == 2    # lines that are no event are not told
            assert {e["event"] for e in listener.seen[1:]} <= {
                "bluetooth", "adapter", "supervisor", "uplink", "device", "session",
                "configuration"}
            lab.agent.process.terminate()
            assert (await listener.wait_for("stop", "SIGTERM"))["level"] == "info"


async def test_events_at_any_log_level(directory):
    """Whoever listens is told of what the log leaves out."""
    async with running_lab(directory) as lab:
        await lab.working()
        assert await lab.agent.ask("log-level error") == {"log_level": "error"}
        async with listening(lab) as first, listening(lab) as second:
            beacon = Beacon()
            lab.sim.add_device(beacon)
            await lab.sim.advertise(beacon)
            for listener in (first, second):
                await listener.wait_for("device", str(beacon.device_id))
        assert f"{beacon.device_id}: first heard" not in lab.agent.log


async def test_log(directory):
    """The last lines, as the log has them, and no more of them than there is room for."""
    async with running_lab(directory) as lab:
        await lab.working()
        log = (await lab.agent.ask("log"))["log"]
        assert any(line["level"] == "info" and "uplink: up" in line["text"] for line in log)
        lab.sim.add_device(Beacon(), interval_s=0.01)

        async def full():
            answer = (await lab.agent.ask("log"))["log"]
            return None if answer[0] == log[0] else answer
        while not (answer := await full()):
            await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"])
        used = sum(len(line["text"]) for line in answer)
        assert LOG_BYTES / 2 < used <= LOG_BYTES
        assert all(TIME.fullmatch(line["time"]) for line in answer)
        assert [line["time"] for line in answer] == sorted(line["time"] for line in answer)
        lines = lab.agent.log.splitlines()
        texts = [line[len("2026-11-23T20:45:10.123Z warning "):] for line in lines]
        at = texts.index(answer[0]["text"])
        assert len(texts) > at + len(answer) // 2
        assert " advert of " in answer[-1]["text"] or answer[-1]["text"] in texts


async def test_log_level(directory):
    """It is asked for, set, and told; what is no level changes nothing."""
    async with running_lab(directory, {"log_level": "info"}) as lab:
        await lab.working()
        assert await lab.agent.ask("log-level") == {"log_level": "debug"}   # of the command line
        assert await lab.agent.ask("log-level warning") == {"log_level": "warning"}
        line = await lab.agent.wait_for_log("log level debug -> warning")
        assert " info " in line and line.endswith(", as asked for on the status socket")
        beacon = Beacon()
        lab.sim.add_device(beacon)
        await lab.sim.advertise(beacon, count=3)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["adverts"] == 3)
        assert str(beacon.device_id) not in lab.agent.log
        for wrong in ("loud", "Info", "info ", " info", "info debug"):
            assert await lab.agent.ask(f"log-level {wrong}") == {
                "error": "expected error, warning, info or debug"}
        assert await lab.agent.ask("log-level") == {"log_level": "warning"}
        assert await lab.agent.ask("log-level warning") == {"log_level": "warning"}
        assert await lab.agent.ask("log-level debug") == {"log_level": "debug"}
        await lab.agent.wait_for_log("log level warning -> debug")
        assert lab.agent.log.count("log level ") == 2
        # What the file says anew holds from then on.
        lab.agent.options["log_level"] = "error"
        lab.agent.write_config()
        os.kill(lab.agent.process.pid, signal.SIGHUP)

        async def changed():
            return await lab.agent.ask("log-level") == {"log_level": "error"}
        async with asyncio.timeout(10):
            while not await changed():
                pass
