"""The plan: what is to run, as far as its memory depends on it. `sizing` says what it takes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from nonesuch.config import validated
from nonesuch.model import Frozen

MIB = 2**20


@dataclass(frozen=True)
class Known:
    """What sizes depend on, of a generator that is known here."""

    side: int
    """Images are side × side."""
    channels: int
    classes: int
    z_dim: int
    weights_mb: float
    """The size of the generator's file, in MB."""


KNOWN = {
    "fashion-mnist": Known(28, 1, 10, 96, 3.0),
    "biggan-deep-128": Known(128, 3, 1000, 128, 210.8),
    "biggan-deep-256": Known(256, 3, 1000, 128, 234.4),
}


class MemoryLimits(Frozen):
    """The gateway's settings that bound memory, with its names and defaults: the gateway itself need not be here."""

    max_streams: int = Field(default=128, ge=1)
    max_reply_bytes: int = Field(default=512 * MIB, ge=1)
    buffer_bytes: int = Field(default=8 * MIB, ge=0)
    order_bytes: int = Field(default=32 * MIB, ge=1)
    max_orders: int = Field(default=8, ge=1)
    max_uploads: int = Field(default=2, ge=1)
    max_snapshot_bytes: int = Field(default=256 * MIB, ge=1024)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read `NONESUCH_GATEWAY_*`. Raises `InvalidValue` that names the variables."""
        names = {field: f"NONESUCH_GATEWAY_{field.upper()}" for field in cls.model_fields}
        given = {field: env[name] for field, name in names.items() if env.get(name)}
        return validated(cls, given, "the environment (" + ", ".join(names[f] for f in given) + ")")


class Setup(Frozen):
    """What is to run. Where `side`, `channels`, `classes` and `weights_mb` are None they are the generator's."""

    generator: str = "fashion-mnist"
    side: int | None = Field(default=None, ge=1, le=4096)
    channels: int | None = Field(default=None, ge=1, le=4)
    classes: int | None = Field(default=None, ge=2, le=1_000_000)
    weights_mb: float | None = Field(default=None, ge=0)
    workers: int = Field(default=1, ge=1)
    gateways: int = Field(default=1, ge=1)
    trainers: int = Field(default=1, ge=0)
    """Runs at a time, `SmoothedDataset`s included: each has a ring and a channel of snapshots."""
    ring_slots: int = Field(default=16, ge=1, le=4096)
    images: int = Field(default=4000, ge=2)
    """N, how many images a trainer's resident dataset has."""
    replacement: float = Field(default=0.5, ge=0, le=1)
    """r, the replacement fraction of a resident dataset."""
    soft_labels: bool = False
    snapshot_mb: float = Field(default=2.9, gt=0)
    """The size of one classifier's weights, in MB; that of a ResNet-18 of width 16 by default."""
    snapshots_kept: int = Field(default=3, ge=1)
    limits: MemoryLimits = MemoryLimits()

    @model_validator(mode="after")
    def _generator_is_known(self) -> Self:
        if self.generator not in KNOWN and None in (self.side, self.channels, self.classes, self.weights_mb):
            raise ValueError(
                f"generator {self.generator!r} is none of {', '.join(KNOWN)}: give its side, channels, classes and "
                "weights_mb"
            )
        return self

    @property
    def facts(self) -> Known:
        """What sizes depend on: the generator's facts, but for those that were given in their place."""
        known = KNOWN.get(self.generator, KNOWN["biggan-deep-256"])
        side, channels = self.side or known.side, self.channels or known.channels
        weights = known.weights_mb if self.weights_mb is None else self.weights_mb
        return Known(side, channels, self.classes or known.classes, known.z_dim, weights)
