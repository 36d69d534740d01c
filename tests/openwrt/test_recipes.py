# SPDX-License-Identifier: Apache-2.0
"""The recipes, as far as they can be looked at without a buildroot: GNU make reads them, with a
stand-in for its rules."""

import re
import subprocess

import pytest

from hub import PROGRAMS, ROOT

FEED = ROOT / "packaging/openwrt"
# Which package of OpenWrt has the library; None are part of the C library.
LIBRARIES = {"libwebsockets": "libwebsockets-mbedtls", "libmbedtls": "libmbedtls",
             "libmbedx509": "libmbedtls", "libmbedcrypto": "libmbedtls", "libconfig": "libconfig",
             "libcbor": "libcbor", "libjson-c": "libjson-c", "libsystemd": "basu",
             "libbasu": "basu", "libc": None, "libm": None, "ld-linux-x86-64": None}
# What is no library: who has the radio, and who verifies the cloud.
PROGRAMS_NEEDED = {"bluez-daemon", "dbus", "ca-bundle"}


@pytest.fixture(name="buildroot")
def _buildroot(tmp_path):
    for name in ("rules.mk", "include/package.mk", "include/meson.mk"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / "tests/openwrt/package.mk")

    def make(package, *arguments):
        process = subprocess.run(
            ["make", "-s", "--warn-undefined-variables", "-C", FEED / package,
             f"TOPDIR={tmp_path}", f"INCLUDE_DIR={tmp_path}/include", *arguments],
            capture_output=True, text=True, check=True)
        return process.stdout
    return make


@pytest.fixture(name="show")
def _show(buildroot):
    def show(package, *arguments):
        pairs = [line.split("=", 1)
                 for line in buildroot(package, "show", *arguments).splitlines() if line]
        shown = {key: value for key, value in pairs if key != "conffile"}
        shown["conffiles"] = [value for key, value in pairs if key == "conffile"]
        return shown
    return show


@pytest.fixture(name="installed")
def _installed(buildroot, tmp_path):
    """The package's files, out of those of "make install"."""
    built, package = tmp_path / "built", tmp_path / "package"
    subprocess.run(["make", "-s", "-C", ROOT, f"KIND={PROGRAMS.name}", "install",
                    f"DESTDIR={built}", "PREFIX=/usr", "SYSCONFDIR=/etc"],
                   check=True, capture_output=True)
    buildroot("blecon-hotspot", "install", f"PKG_INSTALL_DIR={built}", f"PKG_BUILD_DIR={ROOT}",
              f"TO={package}")
    return package


def needed(program):
    """Names of the libraries it is linked with, without their versions."""
    text = subprocess.run(["readelf", "-d", program], capture_output=True, text=True,
                          check=True).stdout
    return {re.sub(r"\.so.*", "", name)
            for name in re.findall(r"\(NEEDED\).*\[(.*)\]", text)}


def depends(shown):
    words = [word for word in shown["DEPENDS"].split() if word != "\\"]
    assert all(word.startswith("+") for word in words)
    return {word[1:] for word in words}


def test_version(show):
    """The recipe's is the program's."""
    said = subprocess.run([PROGRAMS / "blecon-hotspotd", "--version"], capture_output=True,
                          text=True, check=True).stdout
    assert said == f"blecon-hotspotd {show('blecon-hotspot')['PKG_VERSION']}\n"


@pytest.mark.parametrize("package", ["blecon-hotspot", "basu"])
def test_definitions(show, package):
    """What both ipk and apk are made from. apk takes only versions of digits and dots."""
    shown = show(package)
    assert shown["PKG_NAME"] == package
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)*", shown["PKG_VERSION"])
    assert re.fullmatch(r"[0-9]+", shown["PKG_RELEASE"])
    for name in ("PKG_LICENSE", "PKG_LICENSE_FILES", "PKG_SOURCE_URL", "TITLE", "SECTION",
                 "CATEGORY", "URL", "DEPENDS"):
        assert shown[name], name


def test_from_a_checkout(show):
    """Then nothing is downloaded."""
    assert show("blecon-hotspot")["PKG_SOURCE_PROTO"] == "git"
    assert show("blecon-hotspot", f"HOTSPOT_SOURCE={ROOT}")["PKG_SOURCE_PROTO"] == ""


def test_depends(show):
    """Every library that the programs are linked with, and nothing that nobody needs."""
    libraries = needed(PROGRAMS / "blecon-hotspotd") | needed(PROGRAMS / "blecon-hotspotctl")
    # Debian's libwebsockets is built on these, OpenWrt's is not.
    libraries -= {"libssl", "libcrypto"}
    assert libraries - LIBRARIES.keys() == set()
    packages = {LIBRARIES[name] for name in libraries} - {None}
    assert depends(show("blecon-hotspot")) == packages | PROGRAMS_NEEDED
    assert depends(show("basu")) == {"libcap"}


def test_files(installed):
    """Where things are, and who may read or run them."""
    modes = {str(path.relative_to(installed)): path.lstat().st_mode & 0o777
             for path in installed.rglob("*") if path.is_symlink() or not path.is_dir()}
    link = 0o777
    ctl = installed / "usr/bin/blecon-hotspotctl"
    assert modes == {
        "usr/sbin/blecon-hotspotd": 0o755,
        "usr/bin/blecon-hotspotctl": link if ctl.is_symlink() else 0o755,
        "usr/share/blecon-hotspot/options": 0o644,
        "usr/share/blecon-hotspot/settings.sh": 0o644,
        "etc/config/blecon-hotspot": 0o600,
        "etc/init.d/blecon-hotspot": 0o755,
        "etc/blecon-hotspot.conf": link,
        "lib/upgrade/keep.d/blecon-hotspot": 0o644}
    assert (installed / "etc/blecon-hotspot").stat().st_mode & 0o777 == 0o700
    assert str((installed / "etc/blecon-hotspot.conf").readlink()) == \
        "/var/etc/blecon-hotspot.conf"
    version = subprocess.run([ctl, "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("blecon-hotspotctl ")


def test_kept(show, installed):
    """The configuration and the state survive an upgrade, of the package and of the system."""
    conffiles = show("blecon-hotspot")["conffiles"]
    assert conffiles == ["/etc/config/blecon-hotspot", "/etc/blecon-hotspot/"]
    for path in conffiles:
        assert (installed / path.strip("/")).exists()
    assert (installed / "lib/upgrade/keep.d/blecon-hotspot").read_text() == \
        "/etc/blecon-hotspot/\n"


def test_places(show, installed):
    """The init script finds what the package has, and the package makes the user it wants."""
    script = (installed / "etc/init.d/blecon-hotspot").read_text()
    names = dict(re.findall(r"(?m)^([A-Z_]+)=(\S+)", script))
    assert (installed / names["PROGRAM"].strip("/")).exists()
    assert (installed / names["STATE"].strip("/")).is_dir()
    assert show("blecon-hotspot")["USERID"] == f"{names['OWNER']}:{names['OWNER']}"
    # bluetoothd is 62 there.
    assert int(names["START"]) > 62
    assert (installed / "usr/share/blecon-hotspot/settings.sh").exists()
    settings = (installed / "usr/share/blecon-hotspot/settings.sh").read_text()
    assert "HOTSPOT_OPTIONS=/usr/share/blecon-hotspot/options\n" in settings


def test_options(installed):
    """All options there are, each with a kind."""
    lines = (installed / "usr/share/blecon-hotspot/options").read_text().splitlines()
    table = (ROOT / "agent/settings_options.c").read_text()
    known = set(re.findall(r'(?m)^\t(?:TEXT|NUMBER|BOOLEAN|DEGREES)\(([a-z_.]+),', table))
    known |= set(re.findall(r'(?m)^\t(?:LIST\(|\{OPTION\()"([a-z_.]+)",', table))
    names = [line.split()[0].removeprefix("main.") for line in lines]
    assert sorted(names) == sorted(known)
    kinds = dict(line.split() for line in lines)
    assert set(kinds.values()) == {"string", "list", "int", "number", "bool"}
