"""What the ring costs: batches through claim → commit → take → release, against bare SET and GET of the same bytes.

    python benchmarks/ring.py [--seconds 3]

Peer: a Redis client that writes and reads the same payloads with two plain commands: no order, no lease, no bound, no
exactly-once. Both sides run in this process on one private Redis, in turns; the medians of 5 rounds are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from nonesuch.catalog import announce
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.labels import Balanced
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.offers import GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.orders import Order, cancel, place
from nonesuch.rings import Delivery, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import Rows, batch_bytes, make_batch, write_batch
from nonesuch.tickets import claim, commit

ROUNDS = 5
SHAPES = {"28 px, 64 images": (64, (28, 28, 1)), "128 px, 64 images": (64, (128, 128, 3))}


def describe(shape: tuple[int, int, int]) -> GeneratorInfo:
    return GeneratorInfo(
        id="bench", family="bench", sha256="0" * 64, image_shape=shape, class_names=("a", "b"), z_dim=128
    )


def payload_of(info: GeneratorInfo, rows: int) -> bytes:
    images = np.random.default_rng(0).integers(0, 256, (rows, *info.image_shape), dtype=np.uint8)
    columns = Rows(images, np.zeros(rows, np.int32), np.arange(rows), np.zeros(rows, np.int32), sigma=1.0)
    return write_batch(make_batch(columns, order="bench", seed=0, strategy="random", generators=[info]))


def bare(payload: bytes) -> Op[None]:
    yield Call("SET", "bare", payload)
    yield Call("GET", "bare")


def rate(step: Callable[[], None], seconds: float) -> float:
    """Calls per second."""
    start = time.perf_counter()
    calls = 0
    while time.perf_counter() - start < seconds:
        step()
        calls += 1
    return calls / (time.perf_counter() - start)


def measure(link: Link, rows: int, shape: tuple[int, int, int], seconds: float) -> tuple[int, float, float]:
    """Bytes of a batch, batches/s through the ring, batches/s bare: medians."""
    info = describe(shape)
    payload = payload_of(info, rows)
    ring = RingSpec(name="bench", slots=4, slot_bytes=batch_bytes(info, rows))
    worker = WorkerInfo(id="bench", host="", pid=0, device="cpu", started=0, generators=(info,), strategies=(RANDOM,))
    link.run(open_ring(link.keys, ring))

    def through_the_ring() -> None:
        ticket = link.run(claim(link.keys, ["bench"]))
        assert ticket is not None
        assert link.run(commit(link.keys, ticket, payload, rows)) == "committed"
        taken = link.run(take(link.keys, ring))
        assert isinstance(taken, Delivery)
        assert len(taken.payload) == len(payload)
        link.run(release(link.keys, ring, taken))

    ours, peers = [], []
    for number in range(ROUNDS):
        link.run(announce(link.keys, worker))
        order = Order(
            id=f"o{number}", generators=("bench",), labels=Balanced(classes=(0, 1)), count=10_000_000,
            sink="bench", ticket_size=rows,
        )  # fmt: skip
        link.run(place(link.keys, order))
        ours.append(rate(through_the_ring, seconds / ROUNDS))
        link.run(cancel(link.keys, order.id))
        link.run(release(link.keys, ring, link.run(take(link.keys, ring))))
        peers.append(rate(lambda: link.run(bare(payload)), seconds / ROUNDS))
    link.run(close_ring(link.keys, ring.name))
    return len(payload), statistics.median(ours), statistics.median(peers)


RANDOM = StrategyInfo(name="random", schema={"type": "object"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each side, for each size")
    seconds = parser.parse_args().seconds
    table = Table("batch", "MB", "ring batches/s", "ring MB/s", "bare MB/s", "ring/bare")
    ratios = {}
    rows = []
    with PrivateRedis() as private, Link(RedisSettings(url=private.url)) as link:
        for name, (images, shape) in SHAPES.items():
            size, ours, peer = measure(link, images, shape, seconds)
            mb = size / 1e6
            ratios[name] = ours / peer
            rows.append(
                [
                    f"batches of {mb:.2f} MB",
                    f"bare SET and GET: {peer * mb:.0f} MB/s",
                    f"claim, commit, take, release: {ours * mb:.0f} MB/s ({ours:.0f} batches/s)",
                    f"{ours / peer:.2f}",
                ]
            )
            table.add_row(
                name, f"{mb:.2f}", f"{ours:.0f}", f"{ours * mb:.0f}", f"{peer * mb:.0f}", f"{ours / peer:.2f}"
            )
    Console().print(table)
    rounded = {name: round(ratio, 3) for name, ratio in ratios.items()}
    print(json.dumps({"name": "ring", "ratio_vs_bare": rounded, "rows": rows}))


if __name__ == "__main__":
    main()
