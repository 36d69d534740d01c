# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests in the guest. A test may be a coroutine function: it gets its own loop."""

import asyncio
import inspect
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from advertiser import Advertiser, Mgmt  # noqa: E402
from radio_device import RadioDevice  # noqa: E402
from stack import DEVICE, Stack, system_bus  # noqa: E402

TEST_SECONDS = 60


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def run():
        async with asyncio.timeout(TEST_SECONDS):
            await pyfuncitem.obj(**arguments)
    asyncio.run(run())
    return True


@pytest.fixture(scope="session")
def out():
    """The directory whose files are kept."""
    return Path(os.environ["OUT"])


@pytest.fixture(scope="session")
def session_stack(out):
    stack = Stack(out)
    try:
        asyncio.run(stack.start())
        yield stack
    finally:
        asyncio.run(stack.stop())


@pytest.fixture
def stack(session_stack):
    """The Stack, with nothing left of the test before."""
    asyncio.run(session_stack.clean())
    return session_stack


@pytest.fixture
def radio_device(stack):
    """`async with radio_device(virtual_device) as peripheral:` a RadioDevice on the air."""
    @asynccontextmanager
    async def on_air(device, bus=None, **options):
        own_bus = bus or await system_bus()
        peripheral = RadioDevice(device, own_bus, DEVICE, **options)
        try:
            await peripheral.start()
            yield peripheral
        finally:
            await peripheral.stop()
            if not bus:
                own_bus.disconnect()
    return on_air


@pytest.fixture
def advertising(stack):
    """`async with advertising(data, ...):` hci1 advertises these bytes in rotation."""
    @asynccontextmanager
    async def on_air(*payloads, adapter=DEVICE, interval=0.3):
        mgmt = Mgmt(adapter)
        advertiser = Advertiser(mgmt, lambda: payloads, interval)
        try:
            await advertiser.start()
            yield advertiser
        finally:
            await advertiser.stop()
            mgmt.close()
    return on_air
