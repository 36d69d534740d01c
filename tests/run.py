#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs groups of tests and ends with how many passed, failed and were skipped.

    run.py --programs build/cc [unit] [sim] [lab] [integration] [interop] [musl] [openwrt]
           [luci] [vm] [package]

Each group is a folder beside this file. A group that ran no test has failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Count(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:  # type: ignore[override]
        return Count(*(a + b for a, b in zip(self, other)))


def read_report(path: Path) -> Count:
    """Count the test cases of a JUnit report; a missing or broken one counts as a failure."""
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as err:
        print(f"{path.name}: no report: {err}")
        return Count(failed=1)
    failed = sum(any(c.find(k) is not None for k in ("failure", "error")) for c in cases)
    skipped = sum(c.find("skipped") is not None for c in cases)
    return Count(len(cases) - failed - skipped, failed, skipped)


def run(command: list[str | Path], report: Path, out: IO[str] | None = None,
        **environment: str) -> Count:
    """Run something that writes a JUnit report; what it says goes to out, or where ours goes."""
    report.unlink(missing_ok=True)
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, stdout=out,
                          stderr=subprocess.STDOUT if out else None,
                          stdin=subprocess.DEVNULL).returncode
    count = read_report(report)
    if code != 0 and count.failed == 0:
        print(f"{report.stem}: ended with {code} though no test failed")
        count += Count(failed=1)
    if sum(count) == 0:
        print(f"{report.stem}: ran no test")
        count += Count(failed=1)
    return count


def run_cmocka(folder: str, programs: Path, reports: Path) -> Count:
    """Each cmocka program, one on each core; those that wrote no report have crashed."""
    def run_one(source: Path) -> tuple[str, Count]:
        report, output = reports / f"{source.stem}.xml", reports / f"{source.stem}.out"
        with open(output, "w+", errors="replace") as out:
            count = run([programs / "tests" / folder / source.stem], report, out,
                        CMOCKA_MESSAGE_OUTPUT="XML", CMOCKA_XML_FILE=str(report))
            out.seek(0)
            return out.read(), count

    total = Count()
    sources = sorted((ROOT / "tests" / folder).glob("test_*.c"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, (output, count) in zip(sources, pool.map(run_one, sources)):
            print(output, end="")
            print(f"{source.stem}: {count.passed} passed" +
                  (f", {count.failed} failed" if count.failed else ""), flush=True)
            total += count
    return total if sources else Count(failed=1)


def run_pytest(group: str, programs: Path, reports: Path) -> Count:
    report = reports / f"{group}.xml"
    return run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5",
                f"--junitxml={report}", ROOT / "tests" / group], report, PROGRAMS=str(programs))


def run_vm(programs: Path, reports: Path) -> Count:
    """The tests in tests/vm/guest, by the guest's pytest."""
    out = reports / "vm"
    command = (f"PROGRAMS={programs.relative_to(ROOT)} exec {sys.executable} -m pytest -q -s "
               "-p no:cacheprovider --durations=5 -o junit_family=xunit1 --junitxml=$OUT/vm.xml "
               "tests/vm/guest")
    return run([ROOT / "tests/vm/run", "--timeout", "600", "--out", out, "--", "sh", "-c", command],
               out / "vm.xml")


def run_package(reports: Path) -> Count:
    """The newest package of build/deb in a booted Debian, by the guest's pytest."""
    out = reports / "package"
    packages = [p for p in (ROOT / "build/deb").glob("blecon-hotspot_*.deb")
                if p.stem.endswith(f"_{native()}")]
    if not packages:
        print("package: build/deb has none: make deb")
        return Count(failed=1)
    newest = max(packages, key=lambda p: p.stat().st_mtime)
    return run([ROOT / "tests/package/vm", newest, out], out / "package.xml")


def native() -> str:
    """Debian's name of this machine's architecture."""
    return subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, required=True, help="where they were built")
    parser.add_argument("groups", nargs="+",
                        choices=["unit", "sim", "lab", "integration", "interop", "musl",
                                 "openwrt", "luci", "vm", "package"])
    args = parser.parse_args()
    programs = ROOT / args.programs
    reports = programs / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    total = Count()
    for group in args.groups:
        print(f"--- {group}", flush=True)
        began = time.monotonic()
        if group in ("unit", "sim"):
            count = run_cmocka(group, programs, reports)
        elif group == "vm":
            count = run_vm(programs, reports)
        elif group == "package":
            count = run_package(reports)
        else:
            count = run_pytest(group, programs, reports)
        print(f"{group}: {count.passed} passed, {count.failed} failed, {count.skipped} skipped "
              f"in {time.monotonic() - began:.0f} s", flush=True)
        total += count
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
