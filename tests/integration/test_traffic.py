# SPDX-License-Identifier: Apache-2.0
"""What status says of the uplink's bytes, against all that passes, in the clear."""

import asyncio
import contextlib
import ssl
import struct
from collections import Counter
from contextlib import asynccontextmanager

import cbor2

from bluez_sim import Beacon
from cloud import ACCEPT, CREDIT, DATA, OPEN, SIGHTINGS, SIGHTINGS_ACK
from cloud_protocol import CLOSE
from device import EchoDevice
from harness import free_port, running_lab, show, until
from test_relay import ECHOES

BINARY, PING, PONG = 2, 9, 10       # RFC 6455, section 11.8
CLASSES = {SIGHTINGS: "sightings", SIGHTINGS_ACK: "sightings", OPEN: "relay", ACCEPT: "relay",
           DATA: "relay", CREDIT: "relay", CLOSE: "relay"}


class Recording:
    """One direction of a WebSocket: its frames with their headers, by what they are for.

    keepalive: the opcode that counts as such. A server's own pings, and what libwebsockets answers,
    do not.
    """

    def __init__(self, keepalive):
        self._keepalive = keepalive
        self.bytes, self.messages, self.opcodes = Counter(), 0, Counter()
        self._data, self._upgraded = bytearray(), False

    def add(self, data):
        self._data += data
        if not self._upgraded and b"\r\n\r\n" in self._data:
            del self._data[:self._data.index(b"\r\n\r\n") + 4]
            self._upgraded = True
        while self._upgraded and self._take():
            pass

    def _take(self):
        """Whether there was a whole frame; RFC 6455, section 5.2."""
        data = self._data
        if len(data) < 2:
            return False
        opcode, length, at = data[0] & 0x0F, data[1] & 0x7F, 2
        assert data[0] & 0x80, "a message in pieces"
        if length >= 126:
            at = 4 if length == 126 else 10
            if len(data) < at:
                return False
            length, = struct.unpack_from(">H" if at == 4 else ">Q", data, 2)
        mask = bytes(4)
        if data[1] & 0x80:
            mask = bytes(data[at:at + 4])
            at += 4
        if len(data) < at + length:
            return False
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(data[at:at + length]))
        del data[:at + length]
        self._count(opcode, payload, at + length)
        return True

    def _count(self, opcode, payload, size):
        self.opcodes[opcode] += 1
        if opcode == BINARY:
            self.messages += 1
            self.bytes[CLASSES.get(cbor2.loads(payload)[0], "control")] += size
        elif opcode == self._keepalive:
            self.bytes["keepalive"] += size


@asynccontextmanager
async def tls_ended(pair, port, to_port):
    """Ends TLS and passes all on to a cloud without; yields what goes out and what comes in."""
    out, back = Recording(PING), Recording(PONG)

    async def copy(reader, writer, recording):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                recording.add(data)
                writer.write(data)
        writer.close()

    async def serve(reader, writer):
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", to_port)
        await asyncio.gather(copy(reader, to_writer, out), copy(to_reader, writer, back))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield out, back
    finally:
        server.close()


async def test_bytes_by_class(directory):
    """Sightings, sessions, control and pings: each byte of a frame counts, where it belongs."""
    port = free_port()
    options = {"uplink": {"ping_interval_s": 1, "stats_interval_s": 2}}
    async with running_lab(directory, options, start_agent=False, cloud=ECHOES,
                           pair=lambda *_: (None, None)) as lab:
        lab.agent.options["uplink"]["url"] = f"wss://127.0.0.1:{port}/"
        async with tls_ended(lab.pair, port, lab.cloud.port) as (out, back):
            await lab.agent.start()
            await lab.working()
            for _ in range(20):
                beacon = Beacon()
                lab.sim.add_device(beacon)
                await lab.sim.advertise(beacon, count=5)
            # All the lengths there are of a header.
            device = EchoDevice([1, 90, 125, 126, 200, 244])
            lab.sim.add_device(device, interval_s=0.05)
            await until(lambda: len(device.answers) == len(device.sent) == 6)
            lab.cloud.sessions[0].close(0, "enough")
            await lab.cloud.wait_for("stats")
            await lab.all_told()
            await until(lambda: back.opcodes[PONG] >= 2, 15, "two pongs")

            async def agree():
                status = (await lab.agent.status())["uplink"]
                seen = [(r.messages, {c: r.bytes[c] for c in status["bytes_out"]})
                        for r in (out, back)]
                return seen == [(status["messages_out"], status["bytes_out"]),
                                (status["messages_in"], status["bytes_in"])] and status
            status = await until(agree, 10, f"{out.bytes}, {back.bytes}")
            assert all(status["bytes_out"].values()) and all(status["bytes_in"].values())
            assert status["bytes_out"]["keepalive"] == 6 * out.opcodes[PING]
            assert status["bytes_in"]["keepalive"] == 2 * back.opcodes[PONG]
            assert set(out.opcodes) | set(back.opcodes) == {BINARY, PING, PONG}
            show("bytes out / in: " + ", ".join(
                f"{c} {n} / {status['bytes_in'][c]}" for c, n in status["bytes_out"].items()))
            assert await lab.agent.stop() == 0
