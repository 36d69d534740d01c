# SPDX-License-Identifier: Apache-2.0
"""Proves L2CAP in the simulated BlueZ with l2cap_preload.so, called here or preloaded."""
from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bluez_lab import ADDRESS, Lab, eventually, recv, run
from bluez_sim import DEVICE, Faults, preload_environment
from coc_client import (BT_RCVMTU, BT_SECURITY, BT_SNDMTU, MAIN, PUBLIC, RANDOM,
                        SECOND, SOL_BLUETOOTH, CocSocket)
from device import EchoDevice

Test = Callable[[Lab, "Radio"], Awaitable[None]]


class Radio:
    """Opens channels as a relay does."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.sockets: list[CocSocket] = []

    def socket(self, bound: bool = True) -> CocSocket:
        coc = CocSocket(self.library)
        self.sockets.append(coc)
        if bound:
            coc.bind(ADDRESS)
        return coc

    def connect(self, lab: Lab, psm: int = MAIN, rcvmtu: int = 245) -> CocSocket:
        """Begin to connect to the lab's device."""
        coc = self.socket()
        coc.set(SOL_BLUETOOTH, BT_RCVMTU, rcvmtu, 2)
        with refused(errno.EINPROGRESS):
            coc.connect(lab.peer.address, psm=psm)
        return coc

    async def open(self, lab: Lab, psm: int = MAIN) -> CocSocket:
        """Connect to the lab's device."""
        coc = self.connect(lab, psm)
        assert not coc.is_writable()
        await eventually(coc.is_writable)
        assert coc.error() == 0
        return coc


class refused:      # noqa: N801 - reads as pytest.raises does
    """The calls within have to fail with one errno."""

    def __init__(self, number: int) -> None:
        self._name = errno.errorcode[number]

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, err: BaseException | None, _trace: object) -> bool:
        assert isinstance(err, OSError) and err.errno, err
        assert errno.errorcode[err.errno] == self._name
        return True


@pytest.fixture
def l2cap(bus: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
          ) -> Iterator[Callable[[Test], None]]:
    """Runs a test with a device that takes the PSMs, connected by bluetoothd."""
    path = tmp_path / "l2cap"
    monkeypatch.setenv("BLECON_LAB_L2CAP", str(path))
    radio = Radio(programs / "l2cap_preload.so")

    def run_test(test: Test) -> None:
        async def inner(lab: Lab) -> None:
            lab.device.l2cap = True
            await lab.connected()
            await test(lab, radio)
        run(bus, inner, l2cap_path=path)
    yield run_test
    for coc in radio.sockets:
        coc.close()


def test_frames_both_ways(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        coc = await radio.open(lab)
        assert coc.sndmtu() == 245 and coc.unsent() == 0
        assert lab.device.sessions == ["opened 245"]
        assert [await recv(coc.sock) for _ in range(2)] == [b"hello", b"world"]
        frames = [os.urandom(240), b"x", os.urandom(100)]
        for frame in frames:
            coc.sock.send(frame)
        assert [await recv(coc.sock) for _ in frames] == [b"echo " + f for f in frames]
        assert lab.arrived() == frames
        assert {f.bearer for f in lab.sim.frames[lab.device.device_id]} == {"l2cap"}
        [(request, error)] = lab.sim.coc_requests
        assert request == (ADDRESS, "public", lab.peer.address, "random", MAIN, 245, 1)
        assert error == 0
        [record] = lab.sim.sessions(lab.device)
        assert record.channels == {0: "l2cap"}
        coc.sock.shutdown(socket.SHUT_RDWR)
        await eventually(lambda: lab.device.sessions[1:] == ["closed"])
        assert await lab.client.get(lab.path, DEVICE, "Connected")      # bluetoothd holds it
    l2cap(test)


def test_two_channels(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        device = EchoDevice([], echo=True)
        device.ask(b"first")
        device.ask(b"second", channel=1)
        device.l2cap = True
        lab.peer.device, lab.device = device, device    # type: ignore[assignment]
        lab.sim._by_device[id(device)] = lab.peer
        main, second = await radio.open(lab), await radio.open(lab, SECOND)
        assert await recv(main.sock) == b"first" and await recv(second.sock) == b"second"
        main.sock.send(b"to main")
        second.sock.send(b"to second")
        assert await recv(main.sock) == b"to main" and await recv(second.sock) == b"to second"
        assert device.received_on == {0: [b"to main"], 1: [b"to second"]}
        assert device.opened_channels == [("l2cap", 0), ("l2cap", 1)]
        assert device.finished
        lab.sim.send(device, b"by itself", channel=1)
        assert await recv(second.sock) == b"by itself"
    l2cap(test)


def test_refusals(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        async def outcome(coc: CocSocket) -> str:
            assert not coc.is_writable()
            await eventually(coc.is_writable)
            error = errno.errorcode[coc.error()]
            with refused(errno.ENOTCONN):
                coc.sndmtu()
            return error

        lab.device.l2cap = False
        assert await outcome(radio.connect(lab)) == "ECONNREFUSED"
        lab.device.l2cap, lab.device.channels = True, 1
        assert await outcome(radio.connect(lab, SECOND)) == "ECONNREFUSED"
        assert await outcome(radio.connect(lab, 0x80)) == "ECONNREFUSED"
        lab.peer.l2cap_refused = True
        assert await outcome(radio.connect(lab)) == "ECONNREFUSED"
        lab.peer.l2cap_refused = False
        await radio.open(lab)
        assert await outcome(radio.connect(lab)) == "ECONNREFUSED"      # taken
        for source, target, kind in (("00:AA:01:00:00:99", lab.peer.address, RANDOM),
                                     (ADDRESS, lab.peer.address, PUBLIC),
                                     (ADDRESS, "C0:00:00:00:00:01", RANDOM)):
            coc = radio.socket(bound=False)
            coc.bind(source)
            with refused(errno.EINPROGRESS):
                coc.connect(target, kind)
            assert await outcome(coc) == "EHOSTUNREACH"
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        assert await outcome(radio.connect(lab)) == "EHOSTUNREACH"
    l2cap(test)


def test_what_the_kernel_checks(l2cap: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
                                ) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        coc = radio.socket(bound=False)
        for call in (lambda: coc.connect(lab.peer.address),
                     lambda: coc.set(SOL_BLUETOOTH, BT_RCVMTU, 245, 2), coc.sndmtu,
                     lambda: coc.bind(ADDRESS, psm=MAIN), lambda: coc.bind(ADDRESS, kind=0),
                     lambda: coc.set(SOL_BLUETOOTH, BT_SECURITY, 0, 2)):
            with refused(errno.EINVAL):
                call()
        coc.bind(ADDRESS)
        with refused(errno.EBADFD):
            coc.bind(ADDRESS)
        for psm in (0, 0x100):
            with refused(errno.EINVAL):
                coc.connect(lab.peer.address, psm=psm)
        with refused(errno.ENOTCONN):
            coc.sndmtu()
        with refused(errno.EPERM):
            coc.set(SOL_BLUETOOTH, BT_SNDMTU, 245, 2)
        coc.set(SOL_BLUETOOTH, BT_RCVMTU, 300, 2)
        assert coc.get(SOL_BLUETOOTH, BT_RCVMTU, 2) == 300
        coc.set(SOL_BLUETOOTH, BT_SECURITY, 1, 2)
        assert coc.get(SOL_BLUETOOTH, BT_SECURITY, 2) == 1
        # A larger buffer, before and while it connects, makes it no more writable.
        coc.set(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000, 4)
        with refused(errno.EINPROGRESS):
            coc.connect(lab.peer.address)
        coc.set(socket.SOL_SOCKET, socket.SO_SNDBUF, 60000, 4)
        assert not coc.is_writable() and coc.error() == 0
        await eventually(coc.is_writable)
        assert coc.error() == 0 and coc.sndmtu() == 245 and coc.unsent() == 0
        with refused(errno.EISCONN):
            coc.set(SOL_BLUETOOTH, BT_RCVMTU, 245, 2)
        await lab.sim.stop()
        coc = radio.socket()
        with refused(errno.EHOSTUNREACH):
            coc.connect(lab.peer.address)
        monkeypatch.delenv("BLECON_LAB_L2CAP")
        with refused(errno.EAFNOSUPPORT):
            radio.socket()
    l2cap(test)


def test_never_answers(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        lab.peer.l2cap_never_answers = True
        coc = radio.connect(lab)
        await eventually(lambda: len(lab.sim.coc_requests) == 1)
        await lab.client.objects()
        assert coc.events() == 0 and coc.error() == 0
        assert lab.device.sessions == []
        await lab.client.call(lab.path, DEVICE, "Disconnect")
        await eventually(lambda: bool(coc.events() & select.POLLHUP))
        assert coc.error() == errno.ECONNRESET
    l2cap(test)


def fill(coc: CocSocket) -> int:
    """Send until the socket is full. How many frames it took."""
    for count in range(1000):
        try:
            coc.sock.send(bytes(240))
        except BlockingIOError:
            return count
    raise AssertionError("endless")


def test_stalled_radio_pushes_back(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        coc = await radio.open(lab)
        coc.sock.setblocking(False)
        lab.sim.stall(lab.device)
        sent = fill(coc)
        await lab.client.objects()      # the simulator had a turn
        assert fill(coc) == 0
        assert 1 < sent < 20 and not coc.is_writable() and coc.unsent() >= sent * 240
        assert lab.arrived() == []
        lab.sim.stall(lab.device, False)
        await eventually(lambda: len(lab.arrived()) == sent)
        assert coc.is_writable() and coc.unsent() == 0
        lab.sim.stall(lab.device)
        second = radio.connect(lab, SECOND)     # its request waits as well
        await eventually(lambda: len(lab.sim.coc_requests) == 2)
        assert not second.is_writable()
        lab.sim.stall(lab.device, False)
        assert second.is_writable()
    l2cap(test)


def test_closing_purges_what_was_not_sent(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        coc = await radio.open(lab)
        coc.sock.send(b"sent")
        await eventually(lambda: lab.arrived() == [b"sent"])
        lab.sim.stall(lab.device)
        await lab.client.objects()
        coc.sock.send(b"not sent")
        await lab.client.objects()
        coc.sock.shutdown(socket.SHUT_RDWR)
        lab.sim.stall(lab.device, False)
        await eventually(lambda: lab.device.sessions[1:] == ["closed"])
        assert lab.arrived() == [b"sent"]
        assert [f.data for f in lab.sim.frames[lab.device.device_id]
                if f.direction == "lost"] == [b"not sent"]
    l2cap(test)


def test_slow_radio(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        coc = await radio.open(lab)
        lab.peer.frames_per_s = 200
        start = asyncio.get_running_loop().time()
        for n in range(40):
            await asyncio.get_running_loop().sock_sendall(coc.sock, bytes([n]))
        await eventually(lambda: len(lab.arrived()) == 40)
        assert lab.arrived() == [bytes([n]) for n in range(40)]
        assert asyncio.get_running_loop().time() - start > 0.15
    l2cap(test)


def test_unread_frames_hold_the_device_back(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        lab.device.greetings = [bytes([n]) * 240 for n in range(200)]
        coc = await radio.open(lab)
        assert lab.sim.waiting(lab.device) > 180
        assert [await recv(coc.sock) for _ in range(200)] == lab.device.greetings
        assert lab.sim.waiting(lab.device) == 0
    l2cap(test)


def test_mtus(l2cap: Callable[[Test], None]) -> None:
    async def test(lab: Lab, radio: Radio) -> None:
        lab.peer.sndmtu = 100
        coc = await radio.open(lab)
        assert coc.sndmtu() == 100 and lab.device.sessions == ["opened 100"]
        coc.sock.send(bytes(101))       # the kernel would not have taken it
        await eventually(lambda: len(lab.sim.errors) == 1)
        assert "101" in str(lab.sim.errors.pop())
        assert lab.arrived() == []
        coc.sock.shutdown(socket.SHUT_RDWR)
        await eventually(lambda: lab.device.sessions[1:] == ["closed"])
        short = radio.connect(lab, rcvmtu=50)
        await eventually(short.is_writable)
        assert short.error() == 0 and lab.device.sessions[2:] == ["opened 50"]
        lab.sim.send(lab.device, bytes(51))     # breaks the channel
        assert [await recv(short.sock) for _ in range(3)] == [b"hello", b"world", b""]
    l2cap(test)


def test_ends(l2cap: Callable[[Test], None]) -> None:
    """The channel ends alone, with the link, and in the middle."""
    async def test(lab: Lab, radio: Radio) -> None:
        async def reopen() -> CocSocket:
            if not lab.peer.link:
                await lab.client.call(lab.path, DEVICE, "Connect")
            return await radio.open(lab)

        lab.peer.l2cap_closes_after_frames = 2
        coc = await reopen()
        assert [await recv(coc.sock) for _ in range(3)] == [b"hello", b"world", b""]
        assert coc.events() & select.POLLHUP and lab.peer.link
        lab.peer.l2cap_closes_after_frames = None
        lab.sim.drop_link(lab.device)
        coc = await reopen()
        lab.sim.drop_link(lab.device)
        assert coc.events() & select.POLLHUP
        lab.sim.script(lab.device, Faults(vanish_after_frames=3))
        coc = await reopen()
        coc.sock.send(b"the third")
        assert [await recv(coc.sock) for _ in range(3)] == [b"hello", b"world", b""]
        await eventually(lambda: not lab.peer.link)
        assert lab.device.sessions == ["opened 245", "closed"] * 3
        lab.sim.script(lab.device, "l2cap-refused", "ok")
        await lab.client.call(lab.path, DEVICE, "Connect")
        refusal = radio.connect(lab)
        await eventually(refusal.is_writable)
        assert refusal.error() == errno.ECONNREFUSED
    l2cap(test)


def test_both_bearers_of_a_channel(l2cap: Callable[[Test], None]) -> None:
    """GATT after a refusal is fine; beside L2CAP it is a mistake."""
    async def test(lab: Lab, radio: Radio) -> None:
        await radio.open(lab)
        await lab.client.acquire(lab.char, "AcquireNotify")
        assert "open over l2cap already" in str(lab.sim.errors.pop())
    l2cap(test)


def test_descriptors_are_reused(l2cap: Callable[[Test], None]) -> None:
    """What was closed is no L2CAP socket any more."""
    async def test(lab: Lab, radio: Radio) -> None:
        before = len(os.listdir("/proc/self/fd"))
        coc = CocSocket(radio.library)
        coc.close()
        plain = socket.socket()
        assert plain.fileno() == coc.fd
        with refused(errno.ENOPROTOOPT), plain:
            coc.set(SOL_BLUETOOTH, BT_SECURITY, 1, 2)
        assert len(os.listdir("/proc/self/fd")) == before
    l2cap(test)


def test_preloaded(l2cap: Callable[[Test], None], tmp_path: Path, programs: Path) -> None:
    """In a program that knows nothing of it."""
    async def test(lab: Lab, _radio: Radio) -> None:
        environment = preload_environment(programs, tmp_path / "l2cap")
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("coc_client.py")), ADDRESS,
            lab.peer.address, "there?", stdout=subprocess.PIPE, env={**os.environ, **environment})
        output, _ = await process.communicate()
        assert (process.returncode, output) == (0, b"245 hello\n")
        await eventually(lambda: lab.arrived() == [b"there?"])
    l2cap(test)
