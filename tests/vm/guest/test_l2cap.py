# SPDX-License-Identifier: Apache-2.0
"""L2CAP LE credit-based channels between two adapters: what the kernel does, without the agent."""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import select
import socket
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import l2cap_device
import pytest
from central import DEVICE1, connect
from frames import FrameDevice, frames_of_all_sizes
from l2cap_device import MAX_SDU, PSMS, L2capServer, send_mtu
from stack import DEVICE, HOTSPOT, Bluez, Stack, until

READ_SIZE = 512
STALLED_SECONDS = 1
OnAir = Callable[..., AbstractAsyncContextManager]


async def addresses(bluez: Bluez) -> tuple[str, str]:
    """Of the hotspot and of the device."""
    objects = await bluez.objects()
    return tuple(objects[name]["org.bluez.Adapter1"]["Address"] for name in (HOTSPOT, DEVICE))


async def open_channel(bluez: Bluez, channel: int = 0) -> socket.socket:
    return await l2cap_device.connect(*await addresses(bluez), PSMS[channel])


async def send(sock: socket.socket, frames: Sequence[bytes]) -> None:
    for frame in frames:
        await asyncio.get_running_loop().sock_sendall(sock, frame)


async def receive(sock: socket.socket, count: int) -> list[bytes]:
    return [await asyncio.get_running_loop().sock_recv(sock, READ_SIZE) for _ in range(count)]


def read(sock: socket.socket) -> bytes | int:
    """What there is at once, or the errno."""
    try:
        return sock.recv(READ_SIZE)
    except OSError as error:
        return error.errno


def events(sock: socket.socket) -> int:
    """What poll() tells."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    return sum(mask for _, mask in poll.poll(0))


async def read_after_hangup(sock: socket.socket, times: int) -> list[bytes | int]:
    """What so many reads give when the channel is gone."""
    await until(lambda: events(sock) & select.POLLHUP)
    return [read(sock) for _ in range(times)]


def option(sock: socket.socket, name: int) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, name)


def free_space(sock: socket.socket) -> int:
    """TIOCOUTQ: of Bluetooth sockets it is what is left of the send buffer, not what waits."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


async def fill(sock: socket.socket, frames: Sequence[bytes]) -> tuple[int, int]:
    """Sends until the other side gives no more credit: how many went, least free space."""
    least = free_space(sock)
    for count, frame in enumerate(frames):
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await send(sock, [frame])
        except TimeoutError:
            return count, least
        least = min(least, free_space(sock))
    raise AssertionError(f"{len(frames)} frames went though nobody reads")


async def deliver(sender: socket.socket, receiver: socket.socket, frames: Sequence[bytes]) -> None:
    """Returns when the frames wait to be read."""
    await send(sender, frames)
    await until(lambda: free_space(sender) == option(sender, socket.SO_SNDBUF))
    # They are with btvirt at least, which then takes them before it passes this one.
    await send(receiver, [b"back"])
    assert await receive(sender, 1) == [b"back"]


async def quiet(bluez: Bluez) -> None:
    """Waits until bluetoothd has asked all it asks on a new link, on both of its sides."""
    for adapter in (HOTSPOT, DEVICE):
        for path in await bluez.devices(adapter):
            await bluez.wait_property(path, DEVICE1, "ServicesResolved", True)


@asynccontextmanager
async def channel_pair(bluez: Bluez, radio_device: OnAir,
                       ) -> AsyncIterator[tuple[str, socket.socket, socket.socket]]:
    """Channel 0 with nobody at its ends: the device's path, the hotspot's and its own socket."""
    accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
    _, address = await addresses(bluez)
    server = L2capServer(address, 1, lambda _, sock, max_frame: accepted.set_result(sock))
    server.start()
    try:
        async with radio_device(FrameDevice([])):
            path = await connect(bluez)
            with await open_channel(bluez) as ours, await accepted as theirs:
                yield path, ours, theirs
    finally:
        await server.stop()


async def test_connect_is_in_progress_and_then_writable(stack: Stack, radio_device: OnAir) -> None:
    """Where the answer comes at once, connect() may also return 0: so the radio waits here."""
    async with Bluez() as bluez, radio_device(FrameDevice([b"hello"], l2cap=True)):
        await connect(bluez)
        own, peer = await addresses(bluez)
        with l2cap_device.bound_socket(own) as sock:
            with stack.radio_stopped():
                assert l2cap_device.begin_connect(sock, peer, PSMS[0]) == errno.EINPROGRESS
                assert events(sock) == 0
            await until(lambda: events(sock) & select.POLLOUT)
            assert option(sock, socket.SO_ERROR) == 0
            assert send_mtu(sock) == MAX_SDU
            assert await receive(sock, 1) == [b"hello"]


async def test_a_channel_nobody_listens_on_is_refused(stack: Stack, radio_device: OnAir) -> None:
    """The other channel, and the link, are none the worse for it."""
    device = FrameDevice([b"hello"], l2cap=True, echo=True)
    async with Bluez() as bluez, radio_device(device) as peripheral:
        await connect(bluez)
        with await open_channel(bluez) as sock:
            with pytest.raises(ConnectionRefusedError):
                await open_channel(bluez, 1)
            await send(sock, [b"still here"])
            assert await receive(sock, 2) == [b"hello", b"still here"]
            assert peripheral.linked


async def test_both_channels_keep_frames_as_they_are(stack: Stack, radio_device: OnAir) -> None:
    device = FrameDevice([b"zero"], [b"one"], l2cap=True, echo=True)
    frames = [frames_of_all_sizes(300), frames_of_all_sizes(300)]
    async with Bluez() as bluez, radio_device(device) as peripheral:
        path = await connect(bluez)
        with await open_channel(bluez) as zero, await open_channel(bluez, 1) as one:
            assert await receive(zero, 1) + await receive(one, 1) == [b"zero", b"one"]
            _, _, echo_0, echo_1 = await asyncio.gather(
                send(zero, frames[0]), send(one, frames[1]), receive(zero, 300), receive(one, 300))
            assert [echo_0, echo_1] == frames == device.received_on
            with pytest.raises(OSError) as caught:
                zero.send(bytes(MAX_SDU + 1))
            assert caught.value.errno == errno.EMSGSIZE
        # Closing its channels leaves the link: that is bluetoothd's to end.
        await until(lambda: device.closings == 1)
        assert peripheral.linked
        await bluez.call(path, f"{DEVICE1}.Disconnect")
        await until(lambda: not peripheral.linked)


async def test_1500_frames_each_way(stack: Stack, radio_device: OnAir) -> None:
    """Kernels had errors in their credits, at the 254th SDU."""
    device = FrameDevice(frames_of_all_sizes(1500), l2cap=True)
    frames = frames_of_all_sizes(1500)
    async with Bluez() as bluez, radio_device(device):
        await connect(bluez)
        with await open_channel(bluez) as sock:
            received, _ = await asyncio.gather(receive(sock, 1500), send(sock, frames))
            assert received == device.frames[0]
            await until(lambda: len(device.received_on[0]) == 1500)
            assert device.received_on[0] == frames


async def test_nothing_is_lost_where_the_hotspot_does_not_read(stack: Stack, radio_device: OnAir,
                                                               ) -> None:
    """Not reading holds the device back."""
    frames = frames_of_all_sizes(3000)
    async with Bluez() as bluez, channel_pair(bluez, radio_device) as (_, ours, theirs):
        count, _ = await fill(theirs, frames)
        received, _ = await asyncio.gather(receive(ours, len(frames)), send(theirs, frames[count:]))
        assert received == frames


async def test_free_space_of_an_idle_channel_is_its_send_buffer(stack: Stack, radio_device: OnAir,
                                                                record_property) -> None:
    """Less is free while something waits for credits or for the controller, and all of it after."""
    frames = frames_of_all_sizes(3000)
    async with Bluez() as bluez, channel_pair(bluez, radio_device) as (_, ours, theirs):
        idle = free_space(ours)
        assert idle == option(ours, socket.SO_SNDBUF)
        count, least = await fill(ours, frames)
        record_property("sent", count)
        record_property("least", least)
        assert least < idle
        assert await receive(theirs, count) == frames[:count]
        await until(lambda: free_space(ours) == idle)


async def test_what_the_controller_holds_counts_as_sent(stack: Stack, radio_device: OnAir) -> None:
    """All of the send buffer is free before anything is on the air."""
    async with Bluez() as bluez, channel_pair(bluez, radio_device) as (_, ours, theirs):
        await quiet(bluez)  # the controller has room for one packet
        idle = free_space(ours)
        with stack.radio_stopped():
            await send(ours, [b"held"])
            await until(lambda: free_space(ours) == idle, 1)
            assert read(theirs) == errno.EAGAIN
        assert await receive(theirs, 1) == [b"held"]


@pytest.mark.parametrize("by", ["hotspot", "device"])
async def test_a_lost_link_is_read_before_the_last_frames(stack: Stack, radio_device: OnAir,
                                                          by: str) -> None:
    """ECONNRESET once, then the frames; no end of file, but POLLHUP, says that there are no more.
    """
    frames = frames_of_all_sizes(40)
    async with Bluez() as bluez, channel_pair(bluez, radio_device) as (path, ours, theirs):
        await deliver(theirs, ours, frames)
        if by == "device":
            path = next(iter(await bluez.devices(DEVICE)))
        await bluez.call(path, f"{DEVICE1}.Disconnect")
        assert await read_after_hangup(ours, 41) == [errno.ECONNRESET, *frames]
        assert read(ours) == errno.EAGAIN


async def test_a_closed_channel_is_read_before_the_last_frames(stack: Stack, radio_device: OnAir,
                                                               ) -> None:
    """Nothing, which else is the end, then the frames."""
    frames = frames_of_all_sizes(40)
    async with Bluez() as bluez, channel_pair(bluez, radio_device) as (_, ours, theirs):
        await deliver(theirs, ours, frames)
        theirs.close()
        assert await read_after_hangup(ours, 42) == [b"", *frames, b""]
