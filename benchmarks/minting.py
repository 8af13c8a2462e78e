"""What the service costs: images through order → ticket → Redis → consumer, against the generator in a plain loop.

    python benchmarks/minting.py [--generator fashion-mnist] [--images 4096]

Peer: the same generator in this process, called on batches of the same size with latents from `torch.randn`; its
images become uint8 and go nowhere: no Redis, no Arrow, no other process. Ours: a worker's thread and a consumer's, with
a private Redis between them. Both run in this process, in turns; the medians of the rounds are compared. The ratio is
the share of the generator's speed that reaches a consumer.
"""

import argparse
import json
import statistics
import threading
import time

import torch
from rich.console import Console
from rich.table import Table

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.host.process import ensure_cpu_settings
from nonesuch.labels import Balanced
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.offers import WorkerInfo
from nonesuch.orders import Order, default_ticket_size, place
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import batch_bytes, images_of, read_batch
from nonesuch_worker.generators.base import Generator, to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import Minter
from nonesuch_worker.minting.service import MintingService, SnapshotCache
from nonesuch_worker.strategies.registry import describe

ROUNDS = 5


def plain(generator: Generator, images: int, batch: int) -> float:
    """Images per second of the generator alone."""
    start = time.perf_counter()
    with torch.no_grad():
        for first in range(0, images, batch):
            n = min(batch, images - first)
            z = torch.randn(n, generator.info.z_dim)
            labels = torch.arange(n) % len(generator.info.class_names)
            to_uint8_NHWC(generator(z, labels, None)).numpy()
    return images / (time.perf_counter() - start)


def through_the_service(link: Link, generator: Generator, images: int, batch: int, number: int) -> float:
    """Images per second that reach a consumer, from placing the order to its end."""
    info = generator.info
    ring = RingSpec(name=f"bench{number}", slots=8, slot_bytes=batch_bytes(info, batch))
    classes = tuple(range(len(info.class_names)))
    order = Order(
        generators=(info.id,), labels=Balanced(classes=classes), count=images, sink=ring.name, ticket_size=batch
    )
    link.run(open_ring(link.keys, ring))
    start = time.perf_counter()
    link.run(place(link.keys, order))
    received = 0
    while not isinstance(taken := link.run(take(link.keys, ring)), OrderEnd):
        assert isinstance(taken, Delivery)
        received += images_of(read_batch(taken.payload)).copy().shape[0]
        link.run(release(link.keys, ring, taken))
    seconds = time.perf_counter() - start
    assert received == images
    link.run(close_ring(link.keys, ring.name))
    return images / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=4096, help="in each round, for each side")
    options = parser.parse_args()
    ensure_cpu_settings()
    generator = load_generator(options.generator)
    batch = default_ticket_size(generator.info.image_shape)
    ours, peer = [], []
    with PrivateRedis() as private, Link(RedisSettings(url=private.url)) as link:
        worker = WorkerInfo(
            id="bench", host="", pid=0, device="cpu", started=0, generators=(generator.info,), strategies=describe()
        )
        loop = TicketLoop(link, MintingService(Minter([generator]), SnapshotCache(link, generator.device)), worker)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            while not link.run(read_catalog(link.keys)).workers:
                time.sleep(0.01)
            plain(generator, options.images // 4, batch)  # warm-up
            for number in range(ROUNDS):
                peer.append(plain(generator, options.images, batch))
                ours.append(through_the_service(link, generator, options.images, batch, number))
        finally:
            loop.stop()
            thread.join()
    service, bare = statistics.median(ours), statistics.median(peer)
    table = Table("generator", "batch", "plain loop images/s", "service images/s", "service/plain")
    table.add_row(generator.info.id, str(batch), f"{bare:.0f}", f"{service:.0f}", f"{service / bare:.2f}")
    Console().print(table)
    result = {"name": "minting", "generator": generator.info.id, "ratio_vs_plain": round(service / bare, 3)}
    rows = [
        [
            f"the generator {generator.info.id}, batches of {batch}",
            f"a plain loop in one process: {bare:.0f} images/s",
            f"order → ticket → Redis → consumer: {service:.0f} images/s",
            f"{service / bare:.2f} of the generator's speed arrives",
        ]
    ]
    rates = {"images_per_second": round(service), "plain_images_per_second": round(bare)}
    print(json.dumps(result | rates | {"rows": rows}))


if __name__ == "__main__":
    main()
