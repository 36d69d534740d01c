# SPDX-License-Identifier: Apache-2.0
"""A hub of OpenWrt as far as the init script sees one: a root that is read-only but for /var and
/tmp, busybox or dash, and rc.common's stand-in."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "packaging/openwrt/blecon-hotspot"
PROGRAMS = ROOT / os.environ["PROGRAMS"]
SHELLS = {"busybox": ["/bin/busybox", "ash"], "dash": ["/usr/bin/dash"]}
# Of unshare. In a chroot nobody has a namespace for users made, which root has no need of.
BECOME_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]

# / is mounted over itself, so that it can be made read-only; the host's programs are in there.
ENTER = """
set -e
mount --rbind "$1" "$1"
for part in bin lib lib64; do
	[ ! -e "/usr/$part" ] || mount --rbind "/usr/$part" "$1/usr/$part"
done
for part in var tmp dev; do mount --bind "$1/$part" "$1/$part"; done
mount --bind /dev/null "$1/dev/null"
mount -o remount,bind,ro "$1"
root=$1
shift
exec chroot "$root" "$@"
"""


def export(sections: list) -> str:
    """As "uci export" gives a configuration to the shell."""
    lines = []
    for kind, name, options in sections:
        lines.append(f"config {shlex.quote(kind)} {shlex.quote(name)}")
        for option, value in options.items():
            if isinstance(value, str):
                lines.append(f"option {option} {shlex.quote(value)}")
            else:
                lines += [f"list {option} {shlex.quote(item)}" for item in value]
    return "\n".join(lines) + "\n"


class Hub:
    def __init__(self, root: Path, shell: str):
        self.root = root
        self.shell = shell
        for folder in ("bin", "dev", "etc/init.d", "etc/blecon-hotspot", "sbin", "tmp", "usr/bin",
                       "usr/lib", "usr/lib64", "usr/sbin", "usr/share/blecon-hotspot", "var"):
            (root / folder).mkdir(parents=True)
        for folder in ("lib", "lib64"):
            (root / folder).symlink_to(f"usr/{folder}")
        (root / "dev/null").touch()
        shutil.copy("/bin/busybox", root / "bin")
        (root / "bin/sh").symlink_to("busybox")
        for tool in ("awk", "cat", "basename", "chmod", "grep", "ls", "mkdir", "mv", "rm", "tr"):
            (root / "bin" / tool).symlink_to("busybox")
        shutil.copy(PROGRAMS / "blecon-hotspotd", root / "usr/sbin")
        shutil.copy(PACKAGE / "files/blecon-hotspot.init", root / "etc/init.d/blecon-hotspot")
        shutil.copy(PACKAGE / "files/settings.sh", root / "usr/share/blecon-hotspot")
        shutil.copy(ROOT / "tests/openwrt/rc.common", root / "etc")
        with open(root / "usr/share/blecon-hotspot/options", "wb") as out:
            subprocess.run(["awk", "-f", PACKAGE / "files/options.awk",
                            ROOT / "configs/blecon-hotspot.conf"], stdout=out, check=True)
        self.conf = root / "var/etc/blecon-hotspot.conf"
        self.state = root / "etc/blecon-hotspot"
        # This user is root, be it in a namespace; and it owns the state already.
        (root / "tmp/uid").write_text("0")

    def configure(self, sections: list) -> None:
        (self.root / "tmp/uci.blecon-hotspot").write_text(export(sections))

    def run(self, action: str) -> list[list[str]]:
        """What the script asked procd and the system for."""
        recorded = self.root / "var/recorded"
        recorded.unlink(missing_ok=True)
        process = subprocess.run(
            ["unshare", "--mount", *BECOME_ROOT, "sh", "-c", ENTER, "enter", self.root,
             *SHELLS[self.shell], "/etc/rc.common", "/etc/init.d/blecon-hotspot", action],
            env={"PATH": "/bin:/sbin:/usr/bin:/usr/sbin"}, capture_output=True, text=True,
            timeout=60)
        assert process.stderr == "", process.stderr
        return [line.rstrip("\t").split("\t")
                for line in recorded.read_text(errors="surrogateescape").splitlines()]

    def start(self, sections: list) -> list[list[str]]:
        self.configure(sections)
        return self.run("start")

    def effective(self) -> str:
        """All options as the daemon has them. Nothing of this machine's Bluetooth is asked."""
        report = self.root / "tmp/report.tar.gz"
        subprocess.run([PROGRAMS / "blecon-hotspotctl", "-c", self.conf, "-o", report, "report"],
                       check=True, capture_output=True,
                       env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"})
        with tarfile.open(report) as tar:
            member = next(m for m in tar if m.name.endswith("configuration.conf"))
            return tar.extractfile(member).read().decode()
