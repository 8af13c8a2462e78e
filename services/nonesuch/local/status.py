"""What the service is doing, for people: a table of workers and rings, or one line."""

import time
from dataclasses import dataclass

from rich.table import Table

from nonesuch.catalog import read_catalog
from nonesuch.effects import Op
from nonesuch.link import Call, Keys
from nonesuch.offers import Catalog
from nonesuch.orders import open_orders
from nonesuch.rings import RingStats, ring_stats


@dataclass(frozen=True)
class Status:
    """A moment of the service."""

    at: float
    """When it was, in seconds of the monotonic clock."""
    catalog: Catalog
    orders: int
    rings: dict[str, RingStats]
    redis_bytes: int

    @property
    def images(self) -> int:
        """Images that the live workers have minted since they started."""
        return sum(w.images for w in self.catalog.workers)

    def rate(self, before: "Status | None") -> float:
        """Images per second since an earlier status; 0 when there is none, or workers changed."""
        if before is None or self.at <= before.at:
            return 0.0
        return max(0.0, (self.images - before.images) / (self.at - before.at))


def read_status(keys: Keys) -> Op[Status]:
    """The service at this moment."""
    catalog = yield from read_catalog(keys)
    orders = yield from open_orders(keys)
    names: list[bytes] = yield Call("ZRANGE", keys.rings, 0, -1)
    rings = {}
    for name in names:
        rings[name.decode()] = yield from ring_stats(keys, name.decode())
    memory: dict[str, int] = yield Call("INFO", "memory")
    return Status(time.monotonic(), catalog, orders, rings, int(memory["used_memory"]))


def one_line(status: Status, rate: float) -> str:
    """The status as one line, for logs and pipes."""
    rings = " ".join(f"{name}={s.unread}/{s.slots}" for name, s in status.rings.items()) or "none"
    return (
        f"workers={len(status.catalog.workers)} images={status.images} rate={rate:.0f}/s orders={status.orders} "
        f"rings: {rings} redis={status.redis_bytes / 2**20:.0f} MiB"
    )


def as_table(status: Status, rate: float, title: str) -> Table:
    """The status as a table, for a terminal."""
    table = Table(title=title, title_justify="left", caption=one_line(status, rate), caption_justify="left")
    for column in ("worker", "device", "generators", "tickets", "images"):
        table.add_column(column, justify="right" if column in ("tickets", "images") else "left")
    for worker in status.catalog.workers:
        generators = ", ".join(g.id for g in worker.generators)
        table.add_row(worker.id, worker.device, generators, str(worker.tickets), str(worker.images))
    return table
