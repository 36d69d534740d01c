# SPDX-License-Identifier: Apache-2.0
"""The manual pages say all there is, and nothing else."""

import re

from harness import CTL, DAEMON, PROGRAMS, ROOT, run

MAN = ROOT / "agent/man"


def source_of(page):
    """Its mdoc with the escapes read as people see them."""
    for escape, shown in (("\\-", "-"), ("\\&", ""), ("\\(dq", '"')):
        page = page.replace(escape, shown)
    return page


def test_options_of_the_configuration():
    """Each option of the table with its default and what a change takes."""
    page = source_of((PROGRAMS / "blecon-hotspot.conf.5").read_text())
    table = (ROOT / "agent/settings_options.c").read_text().partition("settings_options[] =")[2]
    options = re.findall(r'^\t\{?(?:NUMBER|TEXT|BOOLEAN|DEGREES|LIST|OPTION)\("?([\w.]+)',
                         table, re.MULTILINE)
    assert len(options) >= 40
    documented = re.findall(r"^\.It Ic ([\w.]+)", page, re.MULTILINE)
    assert sorted(documented) == sorted(options)
    # Several options may have one text, and then it is the last one's.
    bodies = [item.partition("\n")[2] for item in re.split(r"^\.It Ic ", page, flags=re.MULTILINE)]
    assert sum("\nA change " in body for body in bodies) > 30
    assert "A change ." not in page


async def test_options_of_the_programs(directory):
    """Each option of --help is in the page, and the other way round; so are ctl's commands."""
    for program, page in ((CTL, MAN / "blecon-hotspotctl.1"), (DAEMON, MAN / "blecon-hotspotd.8")):
        usage = (await run(program, "--help")).out
        told = set(re.findall(r"--([a-z-]+)", usage))
        text = source_of(page.read_text())
        # mdoc's Fl writes the first dash itself.
        documented = {name for line in re.findall(r"^\.(?:It|Op).*Fl.*$", text, re.MULTILINE)
                      for name in re.findall(r" -([a-z-]+)", line)}
        assert told == documented, program
    usage = (await run(CTL, "--help")).out.partition("\n  -")[0]
    commands = {name for line in re.findall(r"^  ([a-z-]+(?:, [a-z]+)?)", usage, re.MULTILINE)
                for name in line.split(", ")}
    text = source_of((MAN / "blecon-hotspotctl.1").read_text())
    assert commands == set(re.findall(r"^\.It Cm ([a-z-]+)", text, re.MULTILINE))


def test_fields_of_the_status():
    """Every key that the daemon's JSON has."""
    page = source_of((MAN / "blecon-hotspot-status.7").read_text())
    documented = {name.rpartition(".")[2].removesuffix("[]")
                  for line in re.findall(r"^\.It (Li .*)$", page, re.MULTILINE)
                  for name in re.findall(r"Li ([\w.\[\]]+)", line)}
    sources = [*ROOT.glob("agent/status*.c"),
               *(ROOT / "agent" / name for name in ("json.c", "events.c", "journal_json.c"))]
    keys = set(re.findall(r'add(?:_\w+)?\(\w+,\s*"(\w+)"',
                          "".join(path.read_text() for path in sources)))
    keys |= set(re.findall(r'{"(\w+)", offsetof', (ROOT / "agent/timing.c").read_text()))
    answers = {"error", "device", "session", "queue", "last", "sessions", "devices", "journal",
               "log", "bluetooth", "uplink", "sightings", "relay", "configuration", "clock",
               "process"}
    assert len(keys) > 100
    assert keys - answers - documented == set()
    assert documented - keys - {"queue", "sessions"} == set()
