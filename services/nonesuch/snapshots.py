"""Snapshots: versions of a classifier's weights, published by the trainer and read by the workers.

Immutable and monotone. The payload goes first, in chunks that expire unless the marker follows; the marker makes the
version the latest. The last `keep` versions stay, and those that an open order names.
"""

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from nonesuch.errors import IntegrityError, InvalidSnapshot, SnapshotNotFound
from nonesuch.keys import Keys
from nonesuch.ledger import UNKNOWN, Ledger
from nonesuch.link import Call, Op, script
from nonesuch.model import Frozen, Name

if TYPE_CHECKING:
    from nonesuch.catalog import GeneratorInfo

CHUNK_BYTES = 4 * 2**20
UNPUBLISHED_TTL_MS = 600_000


class SnapshotHeader(Frozen):
    """What a snapshot is. `architecture` and `args` name an entry of the classifier registry."""

    channel: Name
    version: int = Field(ge=0)
    architecture: Name
    args: dict[str, int | float | str | bool] = Field(default_factory=dict)
    image_shape: tuple[int, int, int]
    """(H, W, C) of the images it was trained on."""
    classes: int = Field(ge=2)
    class_names: tuple[str, ...] = ()
    """By label; empty if nobody said. A generator with other names is refused."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Normalisation, one value for each channel: (image / 255 - mean) / std."""
    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the payload."""
    ledger: Ledger = UNKNOWN
    """The real information that these weights learned from."""


def misfit(header: SnapshotHeader, info: "GeneratorInfo") -> str | None:
    """Why a classifier cannot look at a generator's images, and the remedy; None if it can."""
    ours, theirs = info.class_names, header.class_names
    if header.image_shape != info.image_shape:
        return (
            f"takes images of {header.image_shape} and generator {info.id!r} makes {info.image_shape}: name a "
            "classifier of the same images"
        )
    if header.classes != len(ours) or theirs not in ((), ours):
        named = ", ".join(theirs[:3]) or f"{header.classes} without names"
        return (
            f"has other classes ({header.classes}: {named}, …) than generator {info.id!r} "
            f"({len(ours)}: {', '.join(ours[:3])}, …): name a classifier of the same classes"
        )
    return None


def publish(keys: Keys, header: SnapshotHeader, payload: bytes, *, keep: int = 3) -> Op[None]:
    """Publish a safetensors payload under the header's version. Does not block; twice the same does no harm.

    Raises `InvalidSnapshot` when the version is not above the latest, or the payload is not what the header says.
    """
    if sha256(payload).hexdigest() != header.sha256:
        raise InvalidSnapshot(f"snapshot {header.version}: the payload does not have the sha256 that its header names")
    chunks = [payload[i : i + CHUNK_BYTES] for i in range(0, len(payload), CHUNK_BYTES)]
    channel, version = header.channel, header.version
    marker = script("publish", keys, channel, version, header.model_dump_json(), len(chunks), header.sha256, keep)
    reply, latest = yield marker
    while reply == b"incomplete":  # its first time, or Redis was restarted between two chunks
        for i, chunk in enumerate(chunks):
            yield Call("SET", keys.chunk(channel, version, i), chunk, "PX", UNPUBLISHED_TTL_MS)
        reply, latest = yield marker
    if reply == b"stale":
        raise InvalidSnapshot(
            f"snapshot version {version} of channel {channel!r} is not above the latest, {latest.decode()}: "
            "versions only go up; publish the next one"
        )


def latest_version(keys: Keys, channel: str) -> Op[int | None]:
    """The newest version, or None while there is none. Cheap: workers ask once per ticket."""
    newest: list[bytes] = yield Call("ZRANGE", keys.snapshots(channel), -1, -1)
    return int(newest[0]) if newest else None


def kept_versions(keys: Keys, channel: str) -> Op[tuple[int, ...]]:
    """Every version that can be fetched, oldest first."""
    kept: list[bytes] = yield Call("ZRANGE", keys.snapshots(channel), 0, -1)
    return tuple(int(version) for version in kept)


def read_header(keys: Keys, channel: str, version: int | Literal["latest"]) -> Op[SnapshotHeader]:
    """The header of a snapshot, without its payload. Raises `SnapshotNotFound`."""
    if version == "latest":
        newest = yield from latest_version(keys, channel)
        if newest is None:
            raise SnapshotNotFound(f"no snapshot was published in channel {channel!r}: publish one first")
        version = newest
    document: bytes | None = yield Call("HGET", keys.snapshot(channel, version), "header")
    if document is None:
        raise (yield from _not_kept(keys, channel, version))
    return SnapshotHeader.model_validate_json(document)


def fetch(keys: Keys, channel: str, version: int) -> Op[tuple[SnapshotHeader, bytes]]:
    """A snapshot's header and safetensors payload. Raises `SnapshotNotFound`, `IntegrityError`."""
    document, count = yield Call("HMGET", keys.snapshot(channel, version), "header", "chunks")
    parts: list[bytes | None] = []
    for i in range(int(count or 0)):
        parts.append((yield Call("GET", keys.chunk(channel, version, i))))
    if document is None or None in parts:
        raise (yield from _not_kept(keys, channel, version))
    header = SnapshotHeader.model_validate(json.loads(document))
    payload = b"".join(p for p in parts if p is not None)
    if sha256(payload).hexdigest() != header.sha256:
        raise IntegrityError(f"snapshot {version} of channel {channel!r} was damaged: its sha256 does not match")
    return header, payload


def _not_kept(keys: Keys, channel: str, version: int) -> Op[SnapshotNotFound]:
    kept = yield from kept_versions(keys, channel)
    return SnapshotNotFound(
        f"snapshot {version} of channel {channel!r} is not kept; kept are {', '.join(map(str, kept)) or 'none'}"
    )


def drop_channel(keys: Keys, channel: str) -> Op[int]:
    """Forget every snapshot of a channel; returns how many versions there were."""
    dropped: int = yield script("drop_channel", keys, channel)
    return dropped
