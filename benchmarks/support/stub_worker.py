"""A worker that mints nothing: it commits the same pictures for every ticket, as fast as Redis takes them.

    python benchmarks/support/stub_worker.py REDIS_URL

It has two generators of one class each: `pictures`, 128 × 128 × 3, and `thumbnails`, 28 × 28 × 1.
"""

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonesuch.catalog import announce
from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.offers import GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.schema import Rows, make_batch, write_batch
from nonesuch.tickets import Ticket, claim, commit, sweep, wait_for_bell

SHAPES = {"pictures": (128, 128, 3), "thumbnails": (28, 28, 1)}
GENERATORS = {
    name: GeneratorInfo(id=name, family="stub", sha256="0" * 64, image_shape=shape, class_names=("cloud",), z_dim=2)
    for name, shape in SHAPES.items()
}
RANDOM = StrategyInfo(name="random", schema={"type": "object"})
WORKER = WorkerInfo(
    id="stub", host="", pid=0, device="cpu", started=0, generators=tuple(GENERATORS.values()), strategies=(RANDOM,)
)


@cache
def pictures(n: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(n, H, W, C): clouds with a little grain, which PNG makes about as small as photographs."""
    h, w, c = shape
    rng = np.random.default_rng(0)
    coarse = rng.normal(0.0, 60.0, (n, 5, 5, c))
    ys, xs = np.linspace(0, 3.999, h), np.linspace(0, 3.999, w)
    rows = _between(coarse, ys, axis=1)
    smooth = _between(rows, xs, axis=2)
    return np.clip(128 + smooth + rng.normal(0.0, 3.0, smooth.shape), 0, 255).astype(np.uint8)


def _between(values: NDArray[Any], places: NDArray[Any], *, axis: int) -> NDArray[Any]:
    """Linear interpolation along an axis."""
    low = places.astype(int)
    weight = np.expand_dims(places - low, tuple(i for i in range(values.ndim - axis) if i))
    return np.take(values, low, axis) * (1 - weight) + np.take(values, low + 1, axis) * weight


class Payloads:
    """The wire form of tickets: made once for each order and size, and given the ticket's indices in place."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[bytearray, int]] = {}

    def of(self, ticket: Ticket) -> bytes:
        n = len(ticket.indices)
        key = (ticket.order.id, n)
        if key not in self._known:
            self._known = {key: self._make(ticket, n)}
        payload, place = self._known[key]
        payload[place : place + 8 * n] = ticket.indices.astype(np.int64).tobytes()
        return bytes(payload)

    @staticmethod
    def _make(ticket: Ticket, n: int) -> tuple[bytearray, int]:
        generator = GENERATORS[ticket.order.generators[0]]
        marks = np.arange(n, dtype=np.int64) + 0x0123_4567_89AB_CD  # nothing else looks like that
        rows = Rows(
            pictures(n, generator.image_shape), np.zeros(n, np.int32), marks, np.zeros(n, np.int32), sigma=1.0
        )  # fmt: skip
        batch = make_batch(
            rows, order=ticket.order.id, seed=ticket.order.seed, strategy="random", generators=[generator]
        )
        payload = bytearray(write_batch(batch))
        return payload, payload.index(marks.tobytes())


def main(url: str) -> None:
    """Claim and commit until killed."""
    payloads = Payloads()
    with Link(RedisSettings(url=url)) as link:
        while True:
            link.run(announce(link.keys, WORKER))
            while (ticket := link.run(claim(link.keys, list(SHAPES)))) is not None:
                link.run(commit(link.keys, ticket, payloads.of(ticket), len(ticket.indices)))
            link.run(sweep(link.keys))
            link.run(wait_for_bell(link.keys, timeout_s=1.0))


if __name__ == "__main__":
    main(sys.argv[1])
