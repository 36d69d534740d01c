# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that runs async tests.

A test here mostly waits: for a back-off, a deadline, an advert. So those that are `async def` run
beside each other in one event loop, each with a lab of its own, and a test's turn comes to mean
that its result is waited for. What blocks the loop blocks all of them.
"""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from harness import figures

AT_ONCE = 9
LONGEST_S = 300     # a test that takes longer hangs


class Runner:
    """All async tests that were selected; those marked `long` begin first."""

    def __init__(self, session: pytest.Session) -> None:
        self.durations: dict[pytest.Item, float] = {}
        self._directories = session.config._tmp_path_factory
        self._items = [i for i in session.items if is_async(i)]
        self._runner = asyncio.Runner()
        self._tasks: dict[pytest.Item, asyncio.Task[None]] = {}

    def result(self, item: pytest.Item) -> None:
        """Raise what the test raised."""
        self._runner.get_loop().run_until_complete(self._wait(item))

    def close(self) -> None:
        """Cancel what was not waited for, and let it clean up."""
        self._runner.close()

    async def _wait(self, item: pytest.Item) -> None:
        if not self._tasks:
            slots = asyncio.Semaphore(AT_ONCE)
            for i in sorted(self._items, key=lambda i: i.get_closest_marker("long") is None):
                self._tasks[i] = asyncio.create_task(self._run(i, slots), name=i.name)
        await self._tasks[item]

    async def _run(self, item: pytest.Item, slots: asyncio.Semaphore) -> None:
        async with slots:
            began = time.monotonic()
            try:
                # Names are short: a Unix socket's path has 107 bytes.
                async with asyncio.timeout(LONGEST_S):
                    await item.obj(directory=self._directories.mktemp("lab"),
                                   **getattr(item, "callspec", NO_CALLSPEC).params)
            finally:
                self.durations[item] = time.monotonic() - began


class NO_CALLSPEC:
    params: dict[str, object] = {}


runner: Runner | None = None


def is_async(item: pytest.Item) -> bool:
    return inspect.iscoroutinefunction(getattr(item, "obj", None))


@pytest.fixture
def directory() -> None:
    """Of this test alone; the runner makes it."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: waits for long deadlines, so it begins first")


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    global runner
    if not is_async(pyfuncitem):
        return None
    if runner is None:
        runner = Runner(pyfuncitem.session)
    runner.result(pyfuncitem)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Report how long the test took, not how long it was waited for."""
    if call.when == "call" and runner and item in runner.durations:
        call.duration = runner.durations[item]


def pytest_sessionfinish() -> None:
    if runner:
        runner.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have measured, which pytest would hide where they pass."""
    if figures:
        terminalreporter.section("figures")
        for figure in sorted(figures):
            terminalreporter.line(figure)
