# SPDX-License-Identifier: Apache-2.0
"""The status as metrics, read by Prometheus' own parser."""

import errno
import json
import os

from prometheus_client.parser import text_string_to_metric_families

from bluez_sim import Beacon
from harness import CTL, run, running_lab


def parse(text):
    """The families by name, and all samples by name and labels."""
    families = {f.name: f for f in text_string_to_metric_families(text)}
    samples = {(s.name, frozenset(s.labels.items())): s.value
               for f in families.values() for s in f.samples}
    return families, samples


async def test_values_are_those_of_the_status(directory):
    """Each sample is the field of the JSON; names, types and units are as Prometheus wants them."""
    async with running_lab(directory) as lab:
        await lab.working()
        beacon = Beacon()
        lab.sim.add_device(beacon, rssi=-60)
        await lab.sim.advertise(beacon, count=3)
        await lab.agent.wait_for_status(lambda s: s["sightings"]["reported"] == 3)
        page = await run(CTL, "-s", lab.agent.socket, "metrics")
        status = await lab.agent.status()
        assert (page.code, page.err) == (0, "")
        families, samples = parse(page.out)

        def value(name, **labels):
            return samples["blecon_hotspot_" + name, frozenset(labels.items())]
        assert value("up") == value("working") == value("uplink_up") == 1
        assert value("bluetooth_scanning") == value("adapter_scanning", adapter="hci0") == 1
        assert value("info", hotspot_id=status["hotspot_id"], version=status["version"]) == 1
        assert value("adverts_total") == value("adverts_reported_total") == 3
        assert value("adapter_adverts_total", adapter="hci0") == 3
        assert value("devices_known") == value("devices_present") == 1
        assert value("uplink_connects_total") == 1
        assert value("slots") == status["relay"]["slots"] == 4
        assert value("sessions_total", result="served") == 0
        assert value("uplink_bytes_total", direction="out", **{"class": "sightings"}) == \
            status["uplink"]["bytes_out"]["sightings"] > 0
        assert 0 < value("uplink_certificate_end_timestamp_seconds") - 1.7e9 < 1e9
        for family in families.values():
            assert family.name.startswith("blecon_hotspot_") and family.documentation
            assert family.type in ("counter", "gauge")
            assert family.samples, family.name
            for sample in family.samples:
                assert sample.name.endswith("_total") == (family.type == "counter"), sample


async def test_not_working(directory):
    """Without a cloud the hotspot is up and not working; without a daemon it is not up: exit code 1."""
    async with running_lab(directory, start_cloud=False) as lab:
        await lab.agent.wait_for_status(lambda s: "error" in s["uplink"])
        page = await run(CTL, "-s", lab.agent.socket, "metrics")
        _, samples = parse(page.out)
        assert page.code == 0
        assert samples["blecon_hotspot_up", frozenset()] == 1
        assert samples["blecon_hotspot_working", frozenset()] == 0
        assert samples["blecon_hotspot_uplink_up", frozenset()] == 0
        assert ("blecon_hotspot_uplink_rtt_seconds", frozenset()) not in samples
    page = await run(CTL, "-s", lab.agent.socket, "metrics")
    assert page.code == 1 and "is not running" in page.err
    _, samples = parse(page.out)
    assert samples == {("blecon_hotspot_up", frozenset()): 0}


async def test_file(directory):
    """-o replaces a file at once, readable for node_exporter; a folder that is not there is told."""
    async with running_lab(directory) as lab:
        await lab.working()
        file = directory / "blecon.prom"
        file.write_text("old")
        before = file.stat().st_ino
        ended = await run(CTL, "-s", lab.agent.socket, "metrics", "-o", file)
        assert ended == (0, "", "")
        assert file.stat().st_ino != before and file.stat().st_mode & 0o777 == 0o644
        _, samples = parse(file.read_text())
        assert samples["blecon_hotspot_working", frozenset()] == 1
        assert [f.name for f in directory.iterdir() if f.name.startswith("blecon.prom")] == \
            ["blecon.prom"]
        ended = await run(CTL, "-s", lab.agent.socket, "metrics", "-o", directory / "no" / "x")
        assert ended.code == 1 and f"{directory}/no/x: {os.strerror(2)}" in ended.err
        both = await run(CTL, "-s", lab.agent.socket, "--json", "metrics")
        assert json.loads(both.out)["working"] is True


async def test_no_file(directory):
    """What is no file is written to, and stays what it is: a link, a pipe, a device."""
    async with running_lab(directory) as lab:
        await lab.working()
        target, link, pipe = (directory / name for name in ("target", "link", "pipe"))
        target.write_text("old")
        link.symlink_to(target)
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        for path in (link, pipe):
            ended = await run(CTL, "-s", lab.agent.socket, "metrics", "-o", path)
            assert ended == (0, "", ""), path
        assert link.is_symlink() and pipe.is_fifo()
        for text in (target.read_text(), os.read(reader, 65536).decode()):
            _, samples = parse(text)
            assert samples["blecon_hotspot_working", frozenset()] == 1
        os.close(reader)
        device = os.stat("/dev/full")
        ended = await run(CTL, "-s", lab.agent.socket, "metrics", "-o", "/dev/full")
        assert ended.code == 1 and f"/dev/full: {os.strerror(errno.ENOSPC)}" in ended.err
        assert os.stat("/dev/full").st_rdev == device.st_rdev
