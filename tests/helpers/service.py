"""The whole service, every process of it, with a generator that costs nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.labels import Balanced
from nonesuch.link import Call, Link
from nonesuch.local.service import LocalService
from nonesuch.offers import WorkerInfo
from nonesuch.orders import Order
from nonesuch.rings import RingSpec

ANALYTIC = "analytic:classes=10,size=16"
RING = RingSpec(name="test", slots=8, slot_bytes=262_144)


@contextmanager
def serving(redis: RedisSettings, logs: Path, **options: object) -> Iterator[tuple[LocalService, Link]]:
    """The service on the test's Redis."""
    given = {"port": None, "generators": (ANALYTIC,), **options}
    with LocalService(logs=logs, redis=redis, **given) as service, Link(redis) as link:  # type: ignore[arg-type]
        yield service, link


def workers(link: Link) -> tuple[WorkerInfo, ...]:
    return link.run(read_catalog(link.keys)).workers


def order(order_id: str = "o", **given: object) -> Order:
    defaults = {
        "generators": ("analytic",),
        "labels": Balanced(classes=tuple(range(10))),
        "count": 1000,
        "sink": "test",
    }
    return Order.model_validate({"id": order_id, **defaults, **given})


def eventually(what: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def keys_of(link: Link) -> set[str]:
    """Every key of the service but the bell, which no order owns."""

    def scan():
        return (yield Call("KEYS", link.keys.pattern))

    return {key.decode() for key in link.run(scan())} - {link.keys.bell}
