# SPDX-License-Identifier: Apache-2.0
"""How the simulated BlueZ copes with many devices."""
from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time

import pytest
from dbus_fast import Message, MessageType, Variant

from bluez_lab import ALL_SIGNALS, HCI0, RELAY, Client, eventually, lab_on, recv
from bluez_sim import ADAPTER, DBUS, DEVICE, FD0D, PROPERTIES, Beacon, BluezSim
from device import EchoDevice


class Reader(threading.Thread):
    """A subscriber that only counts the signals it gets: it costs the least a relay could."""

    MEMBER = b"PropertiesChanged"

    def __init__(self, address: str, expected: int) -> None:
        super().__init__()
        self._expected = expected
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(10)
        self._sock.connect(address.split("path=")[1].split(",")[0])
        self._sock.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode()
                           + b"\r\nBEGIN\r\n")
        rule = f"type='signal',sender='org.bluez',interface='{PROPERTIES}'"
        for serial, (member, *args) in enumerate([("Hello",), ("AddMatch", rule)], 1):
            self._sock.sendall(Message(
                destination=DBUS, path="/org/freedesktop/DBus", interface=DBUS, member=member,
                signature="s" * len(args), body=args, serial=serial)._marshall(False))

    def run(self) -> None:
        tail, count = b"", 0
        while count < self._expected:
            data = tail + self._sock.recv(1 << 18)
            count += data.count(self.MEMBER)
            tail = data[1 - len(self.MEMBER):]
        self._sock.close()


def test_rate(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    """How fast 500 devices can be told; reported, not required."""
    async def measure(wanted: dict[str, Variant], rounds: int = 8) -> float:
        async with lab_on(bus) as lab:
            devices = [Beacon() for _ in range(500)]
            for device in devices:
                lab.sim.add_device(device)
            await lab.client.discover(wanted)
            await asyncio.gather(*(lab.sim.advertise(d) for d in devices))
            lab.client.bus.remove_message_handler(lab.client._on_message)
            await lab.client.call("/org/freedesktop/DBus", DBUS, "RemoveMatch", "s",
                                  ALL_SIGNALS, destination=DBUS)
            reader = Reader(bus, rounds * len(devices))
            await lab.client.objects()
            start = time.monotonic()
            reader.start()
            for _ in range(rounds):
                await asyncio.gather(*(lab.sim.advertise(d) for d in devices))
            await asyncio.to_thread(reader.join)
            return rounds * len(devices) / (time.monotonic() - start)

    plain = asyncio.run(measure(RELAY))
    data = asyncio.run(measure({**RELAY, "DuplicateData": Variant("b", True)}))
    with capsys.disabled():
        print(f"\n500 devices: {plain:.0f} signals/s, {data:.0f} with service data in each")


class Relay:
    """Serves the devices that ask over GATT, one attempt and a few links at once."""

    MAX_LINKS = 5

    def __init__(self, client: Client) -> None:
        self._client = client
        self._attempt = asyncio.Lock()
        self._links = asyncio.Semaphore(self.MAX_LINKS)
        self._resolved: dict[str, asyncio.Event] = {}
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        client.bus.remove_message_handler(client._on_message)
        client.bus.add_message_handler(self._on_message)

    def _on_message(self, msg: Message) -> None:
        if msg.message_type is not MessageType.SIGNAL or not msg.body:
            return
        path, props = msg.path, {}
        if msg.member == "InterfacesAdded":
            path, props = msg.body[0], msg.body[1].get(DEVICE, {})
        elif msg.member == "PropertiesChanged" and msg.body[0] == DEVICE:
            props = msg.body[1]
        if "ServicesResolved" in props and props["ServicesResolved"].value:
            self._resolved[path].set()
        if "ServiceData" in props and path not in self._busy:
            if props["ServiceData"].value[FD0D].value[0] & 1:
                self._busy.add(path)
                task = asyncio.create_task(self._serve(path))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, path: str) -> None:
        char = f"{path}/service0010/char0011"
        resolved = self._resolved[path] = asyncio.Event()
        async with self._links:
            async with self._attempt:
                await self._client.call(path, DEVICE, "Connect")
            await asyncio.wait_for(resolved.wait(), 5)
            notify = await self._client.acquire(char, "AcquireNotify")
            write = await self._client.acquire(char, "AcquireWrite")
            for _ in range(5):
                write.send(await recv(notify))
            await self._client.call(path, DEVICE, "Disconnect")
            await self._client.call(HCI0, ADAPTER, "RemoveDevice", "o", path)
            notify.close()
            write.close()
        self._busy.discard(path)


def relay(bus: str, end: threading.Event) -> None:
    """Another thread's work, so that what the simulator costs is seen apart."""
    async def serve() -> None:
        client = await Client.connect(bus)
        Relay(client)
        await client.discover()
        while not end.is_set():
            await asyncio.sleep(0.02)
        client.bus.disconnect()
    asyncio.run(serve())


def test_fifty_of_five_hundred_ask(bus: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is served once, five at a time, attempts one after the other; the CPU it took."""
    async def test() -> None:
        sim = BluezSim(bus)
        adapter = sim.add_adapter(0, "00:AA:01:00:00:00")
        await sim.start()
        devices = [EchoDevice() for _ in range(500)]
        for device in devices:
            sim.add_device(device, interval_s=1).resolve_delay_s = 0.4     # so links overlap
        end = threading.Event()
        thread = threading.Thread(target=relay, args=(bus, end))
        thread.start()
        try:
            await eventually(lambda: len(sim.delivered) == 500, 5)
            cpu, start = time.thread_time(), time.monotonic()
            for device in devices[::10]:
                for size in range(20, 25):
                    device.ask(bytes(size))
                await asyncio.sleep(0.02 * random.random())
            await eventually(lambda: all(d.finished for d in devices), 20)
            await eventually(lambda: all(c.end for c in sim.connections))
            load = (time.thread_time() - cpu) / (time.monotonic() - start)
        finally:
            end.set()
            thread.join()
            await sim.stop()
        assert [d.sessions for d in devices] == [1, *[0] * 9] * 50
        assert all(len(sim.sessions(d)) == d.sessions for d in devices)
        assert len(sim.connections) == 50 and {c.end for c in sim.connections} == {"client"}
        assert adapter.peak_connecting == 1 and adapter.peak_connected == Relay.MAX_LINKS
        assert sim.errors == [] and sim.skipped == 0
        with capsys.disabled():
            print(f"\n500 devices, 50 served: {100 * load:.0f} % of a core")
        assert load < 0.5
    asyncio.run(test())
