"""What a worker process needs to know.

Environment variables: `NONESUCH_GENERATORS`, `NONESUCH_THREADS`, `NONESUCH_MICRO_BATCH`.
"""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import Field

from nonesuch.config import RedisSettings, validated
from nonesuch.model import Frozen

OBJECT_STORE_BYTES = 80 * 2**20
"""The object store of each of Ray's nodes, bytes. Ray's minimum is enough: images go through Redis."""


class WorkerSettings(Frozen):
    """The settings of every worker of a fleet."""

    redis: RedisSettings
    generators: tuple[str, ...] = ()
    """Sources (`generators.load`): names, folders, `family:argument`. Empty: everything packaged."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of one worker; None: the machine's cores divided among its workers."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Images in one forward pass; None: the best for device and image size (`engine.micro_batches`). Workers whose
    images must be alike to the last bit take the same. Strategies that ask a classifier take the best in any case."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises `InvalidValue` that names what cannot be used."""
        given: dict[str, object] = {"redis": RedisSettings.from_env(env)}
        if sources := env.get("NONESUCH_GENERATORS"):
            given["generators"] = tuple(s.strip() for s in sources.split(",") if s.strip())
        if threads := env.get("NONESUCH_THREADS"):
            given["threads"] = threads
        if rows := env.get("NONESUCH_MICRO_BATCH"):
            given["micro_batch"] = rows
        return validated(cls, given, "the environment of the worker")
