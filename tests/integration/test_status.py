# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself: blecon-hotspotctl, and the socket it asks."""

import asyncio
import contextlib
import json
import re
import stat

from bluez_sim import Beacon
from device import URL_PREFIX, EchoDevice
from harness import CTL, Agent, run, running_lab, until


async def test_daemon_down(directory):
    """No daemon: exit code 1, one line with the path and a hint."""
    path = directory / "status.sock"
    for command in (["status"], ["devices"], ["--json", "status"]):
        ended = await run(CTL, "--socket", path, *command)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err == f"blecon-hotspotctl: {path}: No such file or directory: " \
                            "blecon-hotspotd is not running: see blecon-hotspotctl doctor\n"
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    agent.process.kill()
    agent.process.wait()
    ended = await run(CTL, "--socket", path, "status")
    assert ended == (1, "", f"blecon-hotspotctl: {path}: Connection refused: "
                            "blecon-hotspotd is not running: see blecon-hotspotctl doctor\n")


async def test_socket_of_the_configuration(directory):
    """Without --socket it is the configuration's; one that is asked for and is no good is told."""
    async with running_lab(directory) as lab:
        await lab.working()
        page = await run(CTL, "-c", lab.agent.config, "status")
        assert (page.code, page.err) == (0, "")
        assert page.out.startswith("Working")
        page = await run(CTL, "-c", lab.agent.config, "-s", directory / "none", "status")
        assert page.code == 1 and f"{directory}/none" in page.err
        lab.agent.config.write_text("frobnicate = 1;")
        page = await run(CTL, "-c", lab.agent.config, "status")
        assert page.code == 2 and f"{lab.agent.config}:1: frobnicate" in page.err


async def test_usage(directory):
    """What is no command: exit code 2."""
    for arguments in ([], ["frobnicate"], ["status", "devices"], ["--socket"]):
        ended = await run(CTL, *arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert ended.err
    long = directory / ("x" * 200)
    ended = await run(CTL, "--socket", long, "status")
    assert ended == (1, "", f"blecon-hotspotctl: {long}: the path is too long\n")


async def test_working(directory):
    """All is well: exit code 0, and the page says what there is."""
    async with running_lab(directory, cloud={"settings": {"hotspot_name": "the attic"}}) as lab:
        await lab.working()
        beacon, asker = Beacon(), EchoDevice()
        lab.sim.add_device(beacon, rssi=-81)
        lab.sim.add_device(asker, rssi=-42)
        asker.announces = True
        await lab.sim.advertise(beacon, count=3)
        await lab.sim.advertise(asker)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 4)
        page = await run(CTL, "-s", lab.agent.socket, "status")
        assert (page.code, page.err) == (0, "")
        lines = page.out.splitlines()
        assert lines[0] == "Working: 2 devices present, uplink up"
        for text in ((await lab.agent.status())["hotspot_id"], "bluetooth  scanning", "hci0",
                     "00:AA:01:00:00:00", lab.cloud.url, "the attic",
                     "2 devices present, 2 known; 4 adverts heard, 4 reported",
                     "0 started: 0 served, 0 broken off, 0 failed"):
            assert text in page.out, text
        page = await run(CTL, "-s", lab.agent.socket, "adapters")
        assert (page.code, page.err) == (0, "")
        for text in ("bluetooth  scanning", "hci0       00:AA:01:00:00:00", "  adverts  4 heard"):
            assert text in page.out, text
        page = await run(CTL, "-s", lab.agent.socket, "uplink")
        assert (page.code, page.err) == (0, "")
        for text in ("uplink     up", lab.cloud.url, "  name     the attic",
                     "  connects 1 of 1 attempt\n", "reports    4 adverts in "):
            assert text in page.out, text
        page = await run(CTL, "-s", lab.agent.socket, "devices")
        assert (page.code, page.err) == (0, "")
        rows = [line.split() for line in page.out.splitlines()[1:3]]
        assert [(r[0], r[3], r[4], r[5]) for r in rows] == [
            ("-42", "1", "--n", asker.device_url),
            ("-81", "3", "---", f"{URL_PREFIX}{beacon.device_id}")]
        assert max(map(len, page.out.splitlines())) <= 80


async def test_json(directory):
    """--json gives what the socket gives, one object in one line, with the same exit codes."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon, rssi=-81)
        await lab.sim.advertise(beacon)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 1)
        status = await run(CTL, "--json", "-s", lab.agent.socket, "status")
        assert (status.code, status.err) == (0, "") and status.out.count("\n") == 1
        parsed, asked = json.loads(status.out), await lab.agent.status()
        assert parsed.keys() == asked.keys()
        assert parsed["working"] is True and parsed["sightings"]["reported"] == 1
        devices = json.loads((await run(CTL, "--json", "-s", lab.agent.socket, "devices")).out)
        [device] = devices["devices"]
        assert device["device_url"] == f"{URL_PREFIX}{beacon.device_id}"
        assert (device["rssi_dbm"], device["count"], device["state"]) == (-81, 1, "present")
        await lab.cloud.stop()
        await lab.agent.wait_for_status(lambda s: s["uplink"]["state"] != "up")
        for command in ("status", "uplink"):
            assert (await run(CTL, "--json", "-s", lab.agent.socket, command)).code == 3
        ended = await run(CTL, "--json", "-s", lab.agent.socket, "adapters")
        assert ended.code == 0 and json.loads(ended.out).keys() == {"bluetooth"}


async def test_not_working(directory):
    """Exit code 3, and the first line says why: no bluetoothd, no uplink, none configured."""
    async with running_lab(directory, start_sim=False, start_cloud=False) as lab:
        async def first_line(code):
            page = await run(CTL, "-s", lab.agent.socket, "status")
            assert (page.code, page.err) == (code, "")
            return page.out.splitlines()[0]

        await lab.agent.wait_for_status(lambda s: s["bluetooth"]["state"] == "no-bluetoothd")
        await lab.agent.wait_for_status(lambda s: "error" in s["uplink"])
        line = await first_line(3)
        assert line.startswith("Not working: bluetoothd is not running: start the bluetooth "
                               "service (systemctl start bluetooth, on OpenWrt service "
                               "bluetoothd start); and no cloud: cannot connect to 127.0.0.1")
        assert (await run(CTL, "-s", lab.agent.socket, "devices")).out == "No device heard yet.\n"
        await lab.sim.start()
        await lab.scanning()
        await lab.agent.wait_for_status(lambda s: "error" in s["uplink"])
        line = await first_line(3)
        assert line.startswith("Not working: no cloud: ") and "onnection refused" in line
        await lab.cloud.start()
        await lab.up()
        assert await first_line(0) == "Working, but no device heard yet"
        assert await lab.agent.stop() == 0
        lab.agent.options["uplink"]["url"] = ""
        await lab.agent.start()
        await lab.scanning()
        assert await first_line(3) == (
            "Not working: no cloud is configured. Set uplink.url in "
            f"{lab.agent.config}, and reload (SIGHUP).")


async def test_socket(directory):
    """A client like nc: lines asked, lines answered, in order, whatever the pieces."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    assert stat.S_IMODE(agent.socket.stat().st_mode) == 0o660
    reader, writer = await asyncio.open_unix_connection(str(agent.socket), limit=1 << 20)

    async def answer():
        return json.loads(await asyncio.wait_for(reader.readline(), 5))
    for piece in (b"sta", b"tus\r", b"\ndevices\nstatus\n", b"nonsense\n", b"\n"):
        writer.write(piece)
        await writer.drain()
    assert "summary" in await answer()
    assert await answer() == {"devices": []}
    assert "summary" in await answer()
    error = {"error": "unknown request; there are: status, devices, device ID, sessions, journal, "
                      "log, events, log-level [LEVEL]"}
    assert [await answer(), await answer()] == [error, error]
    writer.write(b"x" * 257)    # a line that never ends is not waited for
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert "summary" in await agent.status()
    assert await agent.stop() == 0


PLACES, LISTENERS = 32, 8      # as in agent/status_socket.h


async def test_socket_has_a_place_for_newcomers(directory):
    """Clients that say nothing, and more of them than there are places, keep nobody out."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    silent = [await asyncio.open_unix_connection(str(agent.socket)) for _ in range(3 * PLACES)]
    for _ in range(10):
        assert "summary" in await agent.status()
    ends = [asyncio.create_task(reader.read()) for reader, _ in silent]
    await until(lambda: sum(end.done() for end in ends) > 2 * PLACES)
    for end in ends:
        end.cancel()
    for _, writer in silent:
        writer.close()
    assert await agent.stop() == 0
    await until(lambda: not agent.socket.exists())


async def test_socket_answers_all_who_ask(directory):
    """More clients at once than there are places, that all ask: each has its answers."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()

    async def ask():
        reader, writer = await asyncio.open_unix_connection(str(agent.socket))
        writer.write(b"devices\nnonsense\ndevices\n")
        answers = [json.loads(await reader.readline()) for _ in range(3)]
        writer.close()
        return answers
    async with asyncio.timeout(10):
        for answers in await asyncio.gather(*(ask() for _ in range(PLACES))):
            assert answers[0] == answers[2] == {"devices": []} and "error" in answers[1]
    assert await agent.stop() == 0


async def test_socket_has_a_limit_of_listeners(directory):
    """Eight listen at once; one more is told so, and may ask something else."""
    agent = Agent(directory, f"unix:path={directory}/no-bus", {})
    await agent.start()
    listeners = []
    for _ in range(LISTENERS):
        reader, writer = await asyncio.open_unix_connection(str(agent.socket))
        writer.write(b"events\n")
        first = json.loads(await asyncio.wait_for(reader.readline(), 5))
        assert first.keys() == {"time", "event", "text"} and first["event"] == "listening"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
        listeners.append(writer)
    reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    writer.write(b"events\ndevices\n")
    assert json.loads(await asyncio.wait_for(reader.readline(), 5)) == {
        "error": "too many listeners"}
    assert json.loads(await asyncio.wait_for(reader.readline(), 5)) == {"devices": []}
    writer.close()
    listeners.pop().close()

    async def listens():
        answer = await agent.ask("events")
        return answer.get("event") == "listening"
    await until(listens, what="a place for a listener")
    for writer in listeners:
        writer.close()
    assert await agent.stop() == 0
