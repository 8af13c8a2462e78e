"""What a worker process needs to know. Environment variables: `NONESUCH_GENERATORS`, `NONESUCH_THREADS`."""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import Field

from nonesuch.config import RedisSettings, validated
from nonesuch.model import Frozen


class WorkerSettings(Frozen):
    """The settings of every worker of a fleet."""

    redis: RedisSettings
    generators: tuple[str, ...] = ()
    """Sources (`generators.load`): names, folders, `family:argument`. Empty: everything packaged."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of one worker; None: the machine's cores divided among its workers."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Images in one forward pass; None: the whole ticket."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises `InvalidValue` that names what cannot be used."""
        given: dict[str, object] = {"redis": RedisSettings.from_env(env)}
        if sources := env.get("NONESUCH_GENERATORS"):
            given["generators"] = tuple(s.strip() for s in sources.split(",") if s.strip())
        if threads := env.get("NONESUCH_THREADS"):
            given["threads"] = threads
        return validated(cls, given, "the environment of the worker")
