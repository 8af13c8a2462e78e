"""Snapshots: versions of a classifier's weights, published by the trainer and read by the workers.

Immutable and monotone. The payload goes first, in chunks that expire unless the marker follows; the marker makes them
the payload of its version, and the version the latest. So of two that publish the same version at the same time one is
refused, and neither spoils the other's chunks. The last `keep` versions stay, and those that an open order names.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from nonesuch.effects import Op
from nonesuch.errors import (
    Conflict,
    IntegrityError,
    InvalidSnapshot,
    InvalidValue,
    PreconditionFailed,
    SnapshotNotFound,
)
from nonesuch.labels import ClassNames
from nonesuch.ledger import UNKNOWN, Ledger
from nonesuch.link import Call, Keys, script
from nonesuch.model import Frozen, Name
from nonesuch.offers import GeneratorInfo

CHUNK_BYTES = 4 * 2**20 - 4096
"""How many bytes of a payload one value has: with Redis' own bytes around it a value of 4 MiB would take 5, the next
size that its allocator has."""
UNPUBLISHED_TTL_MS = 600_000
MAX_VERSION = 2**53 - 1
"""The highest version: Redis sorts by floating-point numbers, which are whole up to there."""
ANY = ("*",)
"""The condition that there is a latest snapshot, whichever."""
METADATA_KEY = "nonesuch.classifier"
"""The key under which the metadata of a safetensors file holds the header of its classifier, as JSON."""

Side = Annotated[int, Field(ge=1, le=65_536)]


class SnapshotHeader(Frozen):
    """What a snapshot is. `architecture` and `args` name an entry of the classifier registry."""

    channel: Name
    version: int = Field(ge=0, le=MAX_VERSION)
    architecture: Name
    args: dict[str, int | float | str | bool] = Field(default_factory=dict)
    image_shape: tuple[Side, Side, Side]
    """(H, W, C) of the images that the classifier was trained on."""
    classes: int = Field(ge=2, le=1_000_000)
    class_names: ClassNames = ()
    """The names of the classes, by label; empty if nobody said. A generator with other names is refused."""
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)
    """Normalisation, one value for each channel, or one for all: (image / 255 - mean) / std."""
    epoch: int = Field(ge=0, le=MAX_VERSION)
    step: int = Field(ge=0, le=MAX_VERSION)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The sha256 of the payload."""
    ledger: Ledger = UNKNOWN
    """The real information that these weights learned from."""

    # A field that is invalid itself is not in `info.data`, and has its own error.
    @field_validator("class_names")
    @classmethod
    def _one_for_each_class(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if names and len(names) != info.data.get("classes", len(names)):
            raise ValueError(
                f"{len(names)} names for {info.data['classes']} classes: give one for each, or none at all"
            )
        return names

    @field_validator("mean", "std")
    @classmethod
    def _one_for_each_channel(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        channels = info.data["image_shape"][2] if "image_shape" in info.data else len(values)
        if len(values) not in (1, channels):
            raise ValueError(f"{len(values)} values for {channels} channels: give one for each, or one for all")
        return values

    @field_validator("std")
    @classmethod
    def _divides(cls, std: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if any(value <= 0 for value in std):
            raise ValueError("must be positive: images are divided by it")
        if len(std) != len(info.data.get("mean", std)):
            raise ValueError(f"{len(std)} values and {len(info.data['mean'])} of mean: give as many of each")
        return std


@dataclass(frozen=True)
class Stored:
    """A snapshot as it lies in Redis."""

    header: SnapshotHeader
    bytes: int
    """The length of the payload, in bytes."""
    chunks: int


def misfit(header: SnapshotHeader, info: GeneratorInfo) -> str | None:
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


def check_version(keys: Keys, channel: str, version: int, *, if_latest: tuple[str, ...] | None = None) -> Op[None]:
    """Refuse what `publish` would refuse whatever the payload is, so that nobody sends one in vain.

    Raises `Conflict`, `PreconditionFailed`.
    """
    if (yield Call("EXISTS", keys.snapshot(channel, version))):
        return  # with the same payload it does no harm
    latest = yield from latest_version(keys, channel)
    if if_latest is not None:
        held: bytes | None = None
        if latest is not None:
            held = yield Call("HGET", keys.snapshot(channel, latest), "sha256")
        if held is None or (if_latest != ANY and held.decode() not in if_latest):
            raise _changed(channel, latest)
    if latest is not None and version <= latest:
        raise _stale(channel, version, latest)


def publish(
    keys: Keys,
    header: SnapshotHeader,
    payload: bytes | bytearray,
    *,
    keep: int = 3,
    if_latest: tuple[str, ...] | None = None,
) -> Op[bool]:
    """Publish a safetensors payload under the header's version. Does not block; twice the same does no harm.

    Args:
        header: what it is.
        payload: safetensors.
        keep: how many versions of the channel stay, the new one included: at least 1.
        if_latest: publish only if the latest payload of the channel has one of these sha256, or `ANY`; None is no
            condition.

    Returns:
        Whether it is new: False when the same payload has this version already.

    Raises:
        InvalidValue: `keep` would leave nothing.
        InvalidSnapshot: the payload is not what the header says.
        Conflict: the version is not above the latest.
        PreconditionFailed: the latest payload is not one of `if_latest`.
    """
    if keep < 1:
        raise InvalidValue(f"keep {keep} would leave nothing of channel {header.channel!r}: 1 or more", field="keep")
    if sha256(payload).hexdigest() != header.sha256:
        raise InvalidSnapshot(f"snapshot {header.version}: the payload does not have the sha256 that its header names")
    channel, version = header.channel, header.version
    starts = range(0, len(payload), CHUNK_BYTES)
    staged = [keys.staged(channel, version, header.sha256, i) for i in range(len(starts))]
    condition = "" if if_latest is None else ",".join(if_latest) or "none"
    marker = script(
        "publish", keys, channel, version, header.model_dump_json(), len(starts), header.sha256, keep, condition
    )
    reply, latest = yield marker
    sent = False
    while reply == b"incomplete":  # its first time, or Redis was restarted between two chunks
        for key, start in zip(staged, starts, strict=True):
            yield Call("SET", key, bytes(payload[start : start + CHUNK_BYTES]), "PX", UNPUBLISHED_TTL_MS)
        sent = True
        reply, latest = yield marker
    if sent and reply != b"published":  # somebody else was faster
        yield Call("DEL", *staged)
    if reply == b"stale":
        raise _stale(channel, version, int(latest))
    if reply == b"changed":
        raise _changed(channel, int(latest) if latest else None)
    return bool(reply == b"published")


def latest_version(keys: Keys, channel: str) -> Op[int | None]:
    """The newest version, or None while there is none. Cheap: workers ask once per ticket."""
    newest: list[bytes] = yield Call("ZRANGE", keys.snapshots(channel), -1, -1)
    return int(newest[0]) if newest else None


def kept_versions(keys: Keys, channel: str) -> Op[tuple[int, ...]]:
    """Every version that can be fetched, oldest first."""
    kept: list[bytes] = yield Call("ZRANGE", keys.snapshots(channel), 0, -1)
    return tuple(int(version) for version in kept)


def find(keys: Keys, channel: str, version: int | Literal["latest"]) -> Op[Stored]:
    """A snapshot without its payload. Raises `SnapshotNotFound`."""
    if version == "latest":
        newest = yield from latest_version(keys, channel)
        if newest is None:
            raise SnapshotNotFound(f"no snapshot was published in channel {channel!r}: publish one first")
        version = newest
    document, size, chunks = yield Call("HMGET", keys.snapshot(channel, version), "header", "bytes", "chunks")
    if document is None:
        raise (yield from _not_kept(keys, channel, version))
    return Stored(SnapshotHeader.model_validate_json(document), int(size), int(chunks))


def read_header(keys: Keys, channel: str, version: int | Literal["latest"]) -> Op[SnapshotHeader]:
    """The header of a snapshot. Raises `SnapshotNotFound`."""
    return (yield from find(keys, channel, version)).header


def kept_headers(keys: Keys, channel: str) -> Op[tuple[SnapshotHeader, ...]]:
    """The header of every version that can be fetched, oldest first."""
    documents: list[bytes | None] = []
    for version in (yield from kept_versions(keys, channel)):
        documents.append((yield Call("HGET", keys.snapshot(channel, version), "header")))
    return tuple(SnapshotHeader.model_validate_json(document) for document in documents if document is not None)


def read_chunk(keys: Keys, stored: Stored, number: int) -> Op[bytes]:
    """A part of a payload, `CHUNK_BYTES` long but for the last one. Raises `SnapshotNotFound`: it went meanwhile."""
    header = stored.header
    chunk: bytes | None = yield Call("GET", keys.chunk(header.channel, header.version, number))
    if chunk is None:
        raise (yield from _not_kept(keys, header.channel, header.version))
    return chunk


def fetch(keys: Keys, channel: str, version: int) -> Op[tuple[SnapshotHeader, bytes]]:
    """A snapshot's header and safetensors payload. Raises `SnapshotNotFound`, `IntegrityError`."""
    stored = yield from find(keys, channel, version)
    parts = []
    for number in range(stored.chunks):
        parts.append((yield from read_chunk(keys, stored, number)))
    payload = b"".join(parts)
    if sha256(payload).hexdigest() != stored.header.sha256:
        raise damaged(stored.header)
    return stored.header, payload


def damaged(header: SnapshotHeader) -> IntegrityError:
    """The error of a payload that is not what its header says."""
    return IntegrityError(
        f"snapshot {header.version} of channel {header.channel!r} was damaged: its sha256 does not match"
    )


def drop_channel(keys: Keys, channel: str) -> Op[int]:
    """Forget every snapshot of a channel; returns how many versions there were."""
    dropped: int = yield script("drop_channel", keys, channel)
    return dropped


def _not_kept(keys: Keys, channel: str, version: int) -> Op[SnapshotNotFound]:
    kept = yield from kept_versions(keys, channel)
    return SnapshotNotFound(
        f"snapshot {version} of channel {channel!r} is not kept; kept are {', '.join(map(str, kept)) or 'none'}"
    )


def _stale(channel: str, version: int, latest: int) -> Conflict:
    return Conflict(
        f"snapshot version {version} of channel {channel!r} is not above the latest, {latest}: versions only go up; "
        "publish the next one"
    )


def _changed(channel: str, latest: int | None) -> PreconditionFailed:
    now = "there is none" if latest is None else f"it is version {latest}"
    return PreconditionFailed(
        f"the latest snapshot of channel {channel!r} is not the one that was expected, {now}: look, and decide anew"
    )
