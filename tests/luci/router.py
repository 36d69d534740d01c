# SPDX-License-Identifier: Apache-2.0
"""What a router with LuCI does for the pages: serves them as the menu says, and answers ubus.

The object of the package is answered by its rpcd plugin, run as rpcd runs it. Only what the package's
access list grants is answered, or LuCI's own to everyone who is logged in: the calls of `uci`, and
these only for configurations that the list names.
"""

from __future__ import annotations

import asyncio
import html
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness import CTL, HERE as INTEGRATION, ROOT

PACKAGE = ROOT / "packaging/openwrt/luci-app-blecon-hotspot"
PLUGIN = PACKAGE / "root/usr/libexec/rpcd/blecon-hotspot"
HERE = INTEGRATION.parent / "luci"

TOOLS = ["awk", "head", "mktemp", "rm", "sed", "sort", "tr"]    # that the plugin may use

Section = dict[str, Any]

# Of rpcd's object `uci`: what asks and what changes.
UCI_READS, UCI_WRITES = {"get"}, {"add", "set", "delete"}
UCI_SESSION = {"apply", "confirm"}      # of all that the session has changed

ACCESS_DENIED = {"code": -32002, "message": "Access denied"}
NOT_FOUND = {"code": -32000, "message": "Object not found"}

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/theme.css"><script>window.TRANSLATE = {translate};</script>
<script src="/runtime.js"></script></head>
<body><div id="notice"></div><div id="view"></div>
<script>show({view});</script></body></html>
"""


def read_json(folder: str) -> dict[str, Any]:
    [path] = (PACKAGE / folder).glob("*.json")
    return json.loads(path.read_text())


MENU = read_json("root/usr/share/luci/menu.d")
[GRANTS] = read_json("root/usr/share/rpcd/acl.d").values()


def parse_uci(text: str) -> dict[str, Section]:
    """The sections of an UCI file, by name."""
    sections: dict[str, Section] = {}
    section: Section = {}
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["config"]:
            name = words[2] if len(words) > 2 else f"cfg{len(sections):06x}"
            section = sections[name] = {".type": words[1], ".name": name,
                                        ".anonymous": len(words) < 3, ".index": len(sections)}
        elif words[:1] == ["option"]:
            section[words[1]] = words[2]
        elif words[:1] == ["list"]:
            section.setdefault(words[1], []).append(words[2])
    return sections


class Router:
    """The calls it got are in `calls`, with whether they were granted."""

    def __init__(self, directory: Path, config: Path, uci: str = "") -> None:
        self.sections = parse_uci(uci)
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.denied: list[tuple[str, str, dict[str, Any]]] = []
        self.has_plugin = True
        self.url = ""
        self._path = directory / "path"
        self._write_ctl(config)

    def _write_ctl(self, config: Path) -> None:
        """As on a hub: the tools are busybox's, and ctl finds its configuration by itself."""
        self._path.mkdir()
        for tool in TOOLS:
            (self._path / tool).symlink_to("/bin/busybox")
        ctl = self._path / "blecon-hotspotctl"
        ctl.write_text(f'#!/bin/busybox sh\nexec {CTL} --config {config} "$@"\n')
        ctl.chmod(0o755)

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        """What was asked of `uci` to change."""
        return [(method, {k: v for k, v in params.items() if k != "config"})
                for what, method, params in self.calls if what == "uci" and method in UCI_WRITES]

    def address(self, page: str) -> str:
        return f"{self.url}/cgi-bin/luci/admin/services/blecon-hotspot/{page}"

    # --- ubus ---

    def _granted(self, what: str, method: str, params: dict[str, Any]) -> bool:
        read, write = GRANTS["read"], GRANTS["write"]
        if what == "uci" and method in UCI_SESSION:
            return True
        if what == "uci" and method in UCI_READS:
            return params.get("config") in read["uci"]
        if what == "uci" and method in UCI_WRITES:
            return params.get("config") in write["uci"]
        return any(method in grants.get("ubus", {}).get(what, []) for grants in (read, write))

    async def plugin(self, *arguments: str) -> tuple[int, Any]:
        """Run as rpcd does: the arguments of the call as JSON on its standard input."""
        # A file, as the plugin need not read them.
        with open(self._path / "arguments", "w+b") as given:
            given.write(b"{}")
            given.seek(0)
            process = await asyncio.create_subprocess_exec(
                "/bin/busybox", "sh", PLUGIN, *arguments, stdin=given,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env={"PATH": str(self._path)})
        out, err = await asyncio.wait_for(process.communicate(), 30)
        if process.returncode != 0:
            return process.returncode, err.decode()
        assert not err, err
        return 0, json.loads(out.decode(errors="replace"))

    def _uci(self, method: str, params: dict[str, Any]) -> list[Any]:
        if method == "get":
            return [0, {"values": self.sections}]
        if method == "add":
            self.sections[params["name"]] = {".type": params["type"], ".name": params["name"],
                                             **params["values"]}
        elif method == "set":
            self.sections[params["section"]].update(params["values"])
        elif method == "delete":
            for option in params["options"]:
                del self.sections[params["section"]][option]
        return [0]

    async def _call(self, what: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((what, method, params))
        if not self._granted(what, method, params):
            self.denied.append((what, method, params))
            return {"error": ACCESS_DENIED}
        if what == "uci":
            return {"result": self._uci(method, params)}
        if not self.has_plugin:
            return {"error": NOT_FOUND}
        code, answer = await self.plugin("call", method)
        return {"result": [0, answer] if code == 0 else [9]}

    # --- HTTP ---

    async def _answer(self, method: str, path: str, body: bytes) -> tuple[str, bytes] | None:
        if (method, path) == ("POST", "/ubus"):
            asked = json.loads(body)
            _, what, name, params = asked["params"]
            reply = await self._call(what, name, params)
            return "application/json", json.dumps({"jsonrpc": "2.0", "id": asked["id"],
                                                   **reply}).encode()
        path, _, query = path.partition("?")
        if path in ("/runtime.js", "/theme.css"):
            kind = "text/javascript" if path.endswith("js") else "text/css"
            return kind, (HERE / path[1:]).read_bytes()
        if path.startswith("/luci-static/"):
            return "text/javascript", (PACKAGE / "htdocs" / path[1:]).read_bytes()
        if node := MENU.get(path.removeprefix("/cgi-bin/luci/")):
            return "text/html", PAGE.format(title=html.escape(node["title"]),
                                            view=json.dumps(node["action"]["path"]),
                                            translate=json.dumps(query == "translate")).encode()
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            lengths = [int(line.split(":")[1]) for line in head.split("\r\n")
                       if line.lower().startswith("content-length:")]
            body = await reader.readexactly(lengths[0]) if lengths else b""
            kind, data = await self._answer(method, path, body) or ("", b"")
            status = "200 OK" if kind else "404 Not Found"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\n"
                         f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass    # a browser opens connections that it may not use
        finally:
            writer.close()


@asynccontextmanager
async def routing(directory: Path, config: Path, uci: str = "") -> AsyncIterator[Router]:
    """A router on localhost whose agent has this configuration. What was denied fails the test."""
    router = Router(directory, config, uci)
    server = await asyncio.start_server(router.serve, "127.0.0.1", 0)
    router.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield router
    finally:
        server.close()
    assert not router.denied, router.denied
