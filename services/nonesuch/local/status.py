"""What the service is doing, for people: a table of workers and rings, or one line."""

from rich.table import Table

from nonesuch.stats import Stats


def images_in(stats: Stats) -> int:
    """How many images the live workers have minted since they started."""
    return sum(worker.images for worker in stats.workers)


def rate_of(now: Stats, before: Stats | None) -> float:
    """Images per second since an earlier moment; 0 when there is none, or workers changed."""
    if before is None or now.at <= before.at:
        return 0.0
    return max(0.0, (images_in(now) - images_in(before)) / (now.at - before.at))


def one_line(stats: Stats, rate: float) -> str:
    """The service as one line, for logs and pipes."""
    rings = " ".join(f"{ring.name}={ring.unread}/{ring.slots}" for ring in stats.rings) or "none"
    return (
        f"workers={len(stats.workers)} images={images_in(stats)} rate={rate:.0f}/s "
        f"orders={sum(of.open for of in stats.orders.values())} rings: {rings} "
        f"redis={stats.redis.used_bytes / 2**20:.0f} MiB"
    )


def as_table(stats: Stats, rate: float, title: str) -> Table:
    """The service as a table, for a terminal."""
    table = Table(title=title, title_justify="left", caption=one_line(stats, rate), caption_justify="left")
    for column in ("worker", "device", "generators", "tickets", "images"):
        table.add_column(column, justify="right" if column in ("tickets", "images") else "left")
    for worker in stats.workers:
        table.add_row(worker.id, worker.device, ", ".join(worker.generators), str(worker.tickets), str(worker.images))
    return table
