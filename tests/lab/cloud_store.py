# SPDX-License-Identifier: Apache-2.0
"""What the lab's cloud keeps: the sightings and device keys, on disk or not, and its own key."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import e2e
from cloud_protocol import LOST, Sighting


class _Log:
    """JSON lines in a file, on the disk when append() returns. A torn last line is cut off."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        os.ftruncate(self._fd, end)
        self.entries = [json.loads(line) for line in data[:end].splitlines()]

    def append(self, entry: dict[str, Any]) -> None:
        """Write one entry."""
        line = memoryview(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        while line:
            line = line[os.write(self._fd, line):]
        os.fsync(self._fd)

    def close(self) -> None:
        """No more entries."""
        os.close(self._fd)


@dataclass
class Spotted:
    """What the cloud knows of a device by its adverts."""

    count: int = 0              # adverts, all hotspots
    reports: int = 0
    state: int = LOST
    service_data: bytes = b""
    rssi: int = 127             # dBm, 127 for not available
    hotspot_id: uuid.UUID | None = None     # of the last report

    @property
    def flags(self) -> int:
        """The first byte of the service data."""
        return self.service_data[0] if self.service_data else 0


class Store:
    """Sightings and device keys; without a directory they last as long as the object."""

    def __init__(self, directory: Path | None) -> None:
        self.devices: dict[uuid.UUID, Spotted] = {}
        self.device_keys: dict[uuid.UUID, bytes] = {}
        self._last: dict[tuple[uuid.UUID, bytes], int] = {}     # batch, by hotspot and run
        self._sightings_log = self._keys_log = None
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            self._sightings_log = _Log(directory / "sightings.jsonl")
            self._keys_log = _Log(directory / "device-keys.jsonl")
            for entry in self._sightings_log.entries:
                self._count(uuid.UUID(entry["hotspot_id"]), bytes.fromhex(entry["run"]),
                            entry["batch"], map(_sighting_of_json, entry["sightings"]))
            for entry in self._keys_log.entries:
                key = bytes.fromhex(entry["public_key"])
                self.device_keys[uuid.UUID(entry["device_id"])] = key

    def add_batch(self, hotspot_id: uuid.UUID, run: bytes, batch: int,
                  sightings: list[Sighting]) -> bool:
        """Store a batch; False if it is there already, as all are up to the last."""
        if batch <= self._last.get((hotspot_id, run), 0):
            return False
        if self._sightings_log:
            self._sightings_log.append({
                "hotspot_id": str(hotspot_id), "run": run.hex(), "batch": batch,
                "received_ms": int(time.time() * 1000),
                "sightings": [_json_of_sighting(s) for s in sightings]})
        self._count(hotspot_id, run, batch, sightings)
        return True

    def _count(self, hotspot_id: uuid.UUID, run: bytes, batch: int,
               sightings: Iterable[Sighting]) -> None:
        self._last[hotspot_id, run] = batch
        for sighting in sightings:
            device = self.devices.setdefault(sighting.device_id, Spotted())
            device.count += sighting.count
            device.reports += 1
            device.state = sighting.state
            device.service_data = sighting.service_data
            device.rssi = sighting.rssi_last
            device.hotspot_id = hotspot_id

    def add_device_key(self, device_id: uuid.UUID, public_key: bytes) -> None:
        """Register a device's key, for good."""
        self.device_keys[device_id] = public_key
        if self._keys_log:
            self._keys_log.append({"device_id": str(device_id), "public_key": public_key.hex()})

    def close(self) -> None:
        """Close its files."""
        for log in (self._sightings_log, self._keys_log):
            if log:
                log.close()


def _json_of_sighting(sighting: Sighting) -> dict[str, Any]:
    return {**vars(sighting), "device_id": str(sighting.device_id),
            "service_data": sighting.service_data.hex()}


def _sighting_of_json(entry: dict[str, Any]) -> Sighting:
    return Sighting(**(entry | {"device_id": uuid.UUID(entry["device_id"]),
                                "service_data": bytes.fromhex(entry["service_data"])}))


def load_device_key(path: Path | None) -> X25519PrivateKey:
    """The key in a file of 64 hex digits, which is made if it is not there."""
    if path is None:
        return X25519PrivateKey.generate()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = e2e.private_bytes(X25519PrivateKey.generate()).hex() + "\n"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))
