# SPDX-License-Identifier: Apache-2.0
"""The relay is blind: what a device and its cloud say to each other is nowhere in it."""

import asyncio
import base64
import contextlib
import json
import os
import sys
import uuid

from harness import HERE, Recorder, memory_of, messages, running_lab, stopped, until

DATA = 22


def forms_of(canary):
    """What a canary would look like: as it is, in hex, in base64 at each of its alignments.

    A part of it is enough: it is repeated, so each frame of some length has all of it.
    """
    part = canary[:24]
    forms = [part, part.hex().encode(), part.hex().upper().encode()]
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + part)
        # Without the characters that depend on what stands before and after.
        forms += [text[4 * bool(shift):-4], text[4 * bool(shift):-4].replace(b"+", b"-")
                  .replace(b"/", b"_")]
    return forms


def found(haystacks, needles):
    """Those of needles that are anywhere, and the number of bytes searched."""
    size, hits = 0, set()
    for haystack in haystacks:
        size += len(haystack)
        hits |= {needle for needle in needles if needle in haystack}
    return hits, size


def search_memory(pid, needles):
    with stopped(pid):
        return found(memory_of(pid), needles)


def test_forms():
    """A canary is found in each of its forms, wherever it stands."""
    canary = os.urandom(64)
    for offset in range(7):
        text = os.urandom(offset) + canary * 3
        for form in (text, text.hex().encode(), text.hex().upper().encode(),
                     base64.b64encode(text), base64.urlsafe_b64encode(text)):
            assert found([b"x" * offset + form], forms_of(canary))[0]
    assert not found([os.urandom(1 << 20)], forms_of(canary))[0]


@contextlib.asynccontextmanager
async def radio(lab):
    """The device in a process of its own; the process, and a function for its next line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "radio.py", lab.bus.address, lab.cloud.device_public_key.hex(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24)

    async def line():
        return json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
    try:
        yield process, line
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        finally:
            if process.returncode is None:
                process.kill()


async def test_blind(directory):
    """Request and answer are in no memory, log or wire of the relay, during a session and after.

    That the search would find them is shown where they have to be: in the device's memory. That
    the agent's memory is searched is shown by what it has to know: the Device ID, and a frame.
    """
    answer_canary = os.urandom(64)
    async with running_lab(directory, start_sim=False, start_agent=False, cloud={
            "handler": lambda request: answer_canary * 64}) as lab:
        async with Recorder(lab.cloud.port) as recorder, radio(lab) as (process, line):
            port = recorder.port
            lab.agent.options["uplink"]["url"] = f"wss://localhost:{port}/"
            hello = await line()
            request_canary = bytes.fromhex(hello["canary"])
            device_id = uuid.UUID(hello["device_id"])
            forms = forms_of(request_canary) + forms_of(answer_canary)
            await lab.agent.start()
            request = await lab.cloud.wait_for("request", 10)
            assert request["data"] == request_canary * 64
            assert bytes.fromhex((await line())["answer"]) == answer_canary * 64
            assert lab.cloud.find("hello")[0]["authority"] == f"localhost:{port}"

            # During the session.
            assert len((await lab.agent.status())["relay"]["sessions"]) == 1
            frames = [m[3] for d in ("in", "out") for m in messages(lab, d, DATA)]
            assert sum(map(len, frames)) > 2 * 4096
            proof = [device_id.bytes, *(frame[:32] for frame in frames[-3:])]
            hits, size = search_memory(lab.agent.process.pid, forms + proof)
            assert size > 1 << 20
            assert device_id.bytes in hits and hits & set(proof[1:])
            assert not hits & set(forms)
            hits, _ = search_memory(process.pid, forms + proof)
            assert {request_canary[:24], answer_canary[:24]} <= hits

            # After it.
            [session] = lab.cloud.sessions
            session.close(0, "")
            await lab.agent.wait_for_status(lambda s: s["relay"]["served"] == 1)
            hits, _ = search_memory(lab.agent.process.pid, forms + proof)
            assert device_id.bytes in hits
            assert not hits & set(forms)

            # All that it wrote, and all that passed through it.
            log = lab.agent.log_path.read_bytes()
            assert str(device_id).encode() in log
            assert not found([log], forms)[0]
            process.stdin.close()
            on_air = [bytes.fromhex(f) for f in (await line())["frames"]]
            assert sorted(map(bytes, on_air)) == sorted(
                m[3] for d in ("in", "out") for m in messages(lab, d, DATA))
            assert not found([b"".join(on_air), *on_air], forms)[0]
            websocket = [m for _, m in lab.cloud.raw]
            assert found(websocket, proof)[0] == set(proof)
            assert not found([b"".join(websocket), *websocket], forms)[0]
            assert await lab.agent.stop() == 0
            await until(lambda: not lab.cloud.hotspots)
            tcp = b"".join(recorder.recorded)
            assert len(tcp) > sum(map(len, websocket))
            assert not found([tcp, *recorder.recorded], forms + proof)[0]
            # And on its disk.
            for path in (p for p in (directory / "state").rglob("*") if p.is_file()):
                assert not found([path.read_bytes()], forms + proof)[0]
