"""What Prometheus is told when it asks: what this gateway counted, and what Redis knows of the service at the moment.

scrape   waits for: Redis ── unblocked by: its answer, `TIMEOUT_S`
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nonesuch.errors import NonesuchError
from nonesuch.link import AsyncLink
from nonesuch.stats import RingInfo, Stats, read_stats

TIMEOUT_S = 2.0
"""How many seconds Redis is waited for: less than any scraper waits, so that without Redis the rest still comes."""
RING_KINDS = ("reply", "order")
"""What the names of the gateways' rings begin with; other rings are trainers'."""

log = logging.getLogger(__name__)


async def service(link: AsyncLink) -> Stats | None:
    """The numbers of the service. Blocks for `TIMEOUT_S` at most; None where Redis does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await link.run(read_stats(link.keys))
    except (NonesuchError, TimeoutError) as error:
        log.warning("metrics without those of Redis: %s", str(error) or f"no answer within {TIMEOUT_S:g} s")
        return None


async def exposition(stats: Stats | None, counted: Collector, *, streams: int, watchers: int, stopping: bool) -> bytes:
    """Everything in Prometheus' text format.

    Args:
        stats: of `service`; without them its part is left out.
        counted: what this gateway counted (`metrics.Metrics.registry`).
        streams: replies that are open.
        watchers: clients that follow orders by events.
        stopping: whether new requests are refused.
    """
    here = (
        _gauge("gateway_open_streams", "Replies that are open.", streams),
        _gauge("gateway_event_watchers", "Clients that follow orders by events.", watchers),
        _gauge("gateway_stopping", "Whether new requests are refused.", stopping),
    )
    return await asyncio.to_thread(generate_latest, _All(counted, [*here, *_service(stats)]))


class _All(Collector):
    def __init__(self, first: Collector, rest: Sequence[Metric]) -> None:
        self._first, self._rest = first, rest

    def collect(self) -> Iterable[Metric]:
        yield from self._first.collect()
        yield from self._rest


def _service(stats: Stats | None) -> Iterator[Metric]:
    yield _gauge("redis_up", "Whether Redis answered this scrape.", stats is not None)
    if stats is not None:
        yield from _redis(stats)
        yield from _workers(stats)
        yield from _generators(stats)
        yield from _rings(stats)


def _redis(stats: Stats) -> Iterator[Metric]:
    yield _gauge("redis_memory_used_bytes", "What Redis takes.", stats.redis.used_bytes)
    if stats.redis.max_bytes is not None:
        yield _gauge("redis_memory_max_bytes", "What it may take.", stats.redis.max_bytes)
    channels = stats.snapshots  # their names are their publishers', so they are no labels
    yield _gauge("snapshot_channels", "Channels of snapshots.", len(channels))
    yield _gauge("snapshots", "Snapshots that are kept.", sum(len(c.versions) for c in channels))
    yield _gauge("snapshot_bytes", "Of all their payloads.", sum(c.bytes for c in channels))


def _workers(stats: Stats) -> Iterator[Metric]:
    yield _gauge("workers", "Live workers.", len(stats.workers))
    images = CounterMetricFamily("nonesuch_worker_images", "Minted since the worker started.", labels=["worker"])
    tickets = CounterMetricFamily("nonesuch_worker_tickets", "Committed since the worker started.", labels=["worker"])
    for worker in stats.workers:
        images.add_metric([worker.id], worker.images)
        tickets.add_metric([worker.id], worker.tickets)
    yield from (images, tickets)
    kept, tried = Counter[str](), Counter[str]()
    for counted in stats.acceptance:
        kept[counted.strategy] += counted.kept
        tried[counted.strategy] += counted.tried
    ratios = {strategy: kept[strategy] / tried[strategy] for strategy in tried if tried[strategy]}
    yield _gauges("acceptance_ratio", "Latents that were kept, of those that were tried.", "strategy", ratios)


def _generators(stats: Stats) -> Iterator[Metric]:
    tickets = {"leased": stats.tickets.leased, "waiting": stats.tickets.waiting}
    yield _gauges("tickets", "Of open orders, that are not committed.", "state", tickets)
    yield _gauge("claimable_tickets", "Of those that wait, that one more worker could claim.", stats.tickets.claimable)
    orders: dict[str, float] = {name: of.open for name, of in stats.orders.items()}
    yield _gauges("open_orders", "Open orders.", "priority", orders)
    found = stats.generators
    for name, words, values in (
        ("generator_workers", "Live workers that host it.", {g.id: g.workers for g in found}),
        ("generator_open_orders", "Open orders that need it.", {g.id: g.orders for g in found}),
        ("generator_tickets", "Of these orders, that are not committed.", {g.id: g.tickets for g in found}),
    ):
        yield _gauges(name, words, "generator", values)


def _rings(stats: Stats) -> Iterator[Metric]:
    """The numbers of rings, summed by kind, because each request has a ring of its own."""
    by_kind: dict[str, list[RingInfo]] = {kind: [] for kind in (*RING_KINDS, "trainer")}
    for ring in stats.rings:
        start = ring.name.partition("-")[0]
        by_kind[start if start in RING_KINDS else "trainer"].append(ring)
    for name, words, value in (
        ("rings", "Rings.", lambda ring: 1),
        ("ring_slots", "Slots of these rings.", lambda ring: ring.slots),
        ("ring_slots_used", "Of these, that hold a batch.", lambda ring: ring.used),
        ("ring_slots_reserved", "Of these, that are kept for tickets in the making.", lambda ring: ring.reserved),
        ("ring_unread", "Entries that nobody has read.", lambda ring: ring.unread),
        ("ring_bytes", "The most that these rings take of Redis.", lambda ring: ring.bytes),
    ):
        yield _gauges(name, words, "kind", {kind: sum(map(value, rings)) for kind, rings in by_kind.items()})


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"nonesuch_{name}", words, value=value)


def _gauges(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"nonesuch_{name}", words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
