# SPDX-License-Identifier: Apache-2.0
"""One booted Debian for all tests here, which are steps of one story and run in the order they have.

A test may be a coroutine function: it gets its own loop.
"""

import asyncio
import inspect
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/lab"), str(ROOT / "tests/vm/guest")]

from hub import Hub  # noqa: E402

TEST_SECONDS = 240


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run():
        async with asyncio.timeout(TEST_SECONDS):
            await pyfuncitem.obj(**arguments)
    asyncio.run(run())
    return True


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """The machine; what it has to be without in the end is noted before anything is installed."""
    machine = Hub(tmp_path_factory.mktemp("hub"))
    machine.start_radio()
    yield machine
    machine.stop_radio()
