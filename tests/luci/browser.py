# SPDX-License-Identifier: Apache-2.0
"""A page in headless Chromium, over its DevTools protocol.

    async with browsing(directory, url) as page:
        assert await page.run("document.title") == "…"
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets

from harness import until
from private_bus import die_with

LONGEST_ANSWER = 1 << 26
SLOTS = asyncio.Semaphore(2)    # browsers at once: each takes a core while it starts


class Page:
    """One tab. Numbers are CSS pixels."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def read(self) -> None:
        """Take answers until the browser ends."""
        async for message in self._socket:
            answer = json.loads(message)
            if waiting := self._answers.pop(answer.get("id"), None):
                waiting.set_result(answer)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(30):
            answer = await self._answers[number]
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                                 returnByValue=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def wait_for(self, script: str, timeout_s: float = 20.0) -> Any:
        """Wait until the expression is true, and return it."""
        return await until(lambda: self.run(script), timeout_s, script)

    async def go(self, url: str) -> None:
        """Load it, and wait for the view in it."""
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"location.href == {json.dumps(url)} && document.body && "
                            "document.body.dataset.ready")

    async def resize(self, width: int, height: int = 900) -> None:
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                        deviceScaleFactor=1, mobile=width < 600)

    async def text(self, selector: str = "#view") -> str:
        return await self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    async def screenshot(self, path: Path) -> None:
        """All of the page, not just what fits the window."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture["data"]))


@asynccontextmanager
async def browsing(directory: Path, url: str) -> AsyncIterator[Page]:
    """A browser with a profile of its own that shows url, and ends whatever happens."""
    async with SLOTS:
        profile = directory / "chromium"
        profile.mkdir()
        with open(directory / "chromium.log", "wb") as log:
            # No sandbox, as tests may run as root: what it shows is the test's own.
            process = subprocess.Popen(
                ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-dev-shm-usage", "--disable-background-networking",
                 "--disable-component-update", "--no-proxy-server", "--hide-scrollbars",
                 "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with(os.getpid()))
        try:
            async with _page_of(profile) as page:
                await page.resize(1280)
                await page.go(url)
                yield page
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def _page_of(profile: Path) -> AsyncIterator[Page]:
    told = profile / "DevToolsActivePort"
    port = await until(lambda: told.exists() and told.read_text().partition("\n")[2] and
                       told.read_text().split()[0], 60, "Chromium to listen")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    # The addresses in the answer are as the Host of the request.
    writer.write(f"GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    header = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in header.split(b"\r\n")
                  if line.lower().startswith(b"content-length:"))
    targets = json.loads(await reader.readexactly(length))
    writer.close()
    address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
    async with websockets.connect(address, max_size=LONGEST_ANSWER) as socket:
        page = Page(socket)
        reading = asyncio.create_task(page.read())
        try:
            yield page
        finally:
            reading.cancel()
