"""Where a `SmoothedDataset` gets its images: from a gateway (`over_http`), or from Redis (`over_redis`)."""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from nonesuch.catalog import Catalog
from nonesuch.config import RedisSettings, validated
from nonesuch.smoothed.resident import LabelledImages
from nonesuch.smoothed.settings import Orders
from nonesuch.smoothed.supply import OnProgress
from nonesuch.snapshots import SnapshotHeader


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A classifier to aim at."""

    header: SnapshotHeader
    """Its channel is the source's to say."""
    payload: bytes


@dataclass(frozen=True, eq=False)
class Minted:
    """What came of some orders."""

    images: LabelledImages
    short: Counter[int]
    """Images by label that their strategy could not make."""


class Source(Protocol):
    """Images for one dataset. One thread at a time calls it, but for `close`, which any thread may call."""

    @property
    def catalog(self) -> Catalog:
        """What could be had when the source was opened."""

    def mint(self, orders: Orders, epoch: int, snapshot: Snapshot | None, on_progress: OnProgress) -> Minted:
        """The images of an epoch: all of them for epoch 0, otherwise those that are fresh, aimed at the snapshot.

        Blocks until they are there.

        Raises:
            Unreachable, NoWorkers, Busy, RingClosed: the service was away for longer than the source's patience.
            TakeTimeout: no image came for so long.
            OrderFailed: some could not be made.
            InvalidOrder, InvalidSnapshot, GeneratorNotFound, SnapshotNotFound: they cannot be ordered.
            IntegrityError: what came is not what was ordered.
            Stopped: the source was closed.
        """

    def close(self) -> None:
        """Withdraw what was asked for. `mint` ends soon after."""


def open_source(url: str | None, stop: threading.Event, *, token: str | None, timeout_s: float) -> Source:
    """The source at a URL: redis://, rediss:// and unix:// is Redis, anything else a gateway.

    `timeout_s` is how long it waits when nothing comes; `stop` ends every wait. Raises `Unreachable`, `NoWorkers`, and
    `InvalidValue` for a URL that cannot be one.
    """
    if url is not None and urlsplit(url).scheme in ("redis", "rediss", "unix"):
        from nonesuch.smoothed.over_redis import RedisSource

        settings = RedisSettings.from_env()
        named = validated(RedisSettings, {**settings.model_dump(), "url": url}, "the URL of Redis")
        return RedisSource(named, timeout_s=timeout_s, stop=stop)
    from nonesuch.smoothed.over_http import HttpSource

    return HttpSource(url, token=token, timeout_s=timeout_s, stop=stop)
