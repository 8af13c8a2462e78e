"""What the service is doing at one moment.

`read_stats` is for dashboards and programs, in two steps whatever there is; `read_load` is what a fleet needs to know
to grow and to shrink. Ages are by the clock of Redis, so they do not depend on whose clock is right.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from nonesuch.catalog import HEARTBEAT_TTL_S
from nonesuch.effects import Op
from nonesuch.link import Call, Keys, script
from nonesuch.model import Frozen
from nonesuch.offers import Catalog, WorkerInfo
from nonesuch.orders import Priority


class RedisMemory(Frozen):
    """Bytes."""

    used_bytes: int
    max_bytes: int | None = Field(description="What it may take; null: as much as there is.")


class WorkerStats(Frozen):
    """One worker, as its last heartbeat has it."""

    id: str
    host: str
    device: str
    threads: int | None = Field(description="Of its tensor work on the CPU; null: it does not say.")
    generators: tuple[str, ...]
    tickets: int = Field(description="Committed since it started.")
    images: int = Field(description="Minted since it started.")
    age_s: float = Field(description="Since it started.")
    heartbeat_age_s: float = Field(description="Since it last showed that it is there.")


class TicketStats(Frozen):
    """The tickets of the open orders."""

    open: int = Field(description="Not committed: leased or waiting.")
    leased: int = Field(description="In the hands of a worker.")
    waiting: int = Field(description="In nobody's: for a worker, or for room in their ring.")
    claimable: int = Field(description="Of these, those that one more worker could claim now.")


class OrderStats(Frozen):
    """The open orders of one priority. How an order ended is in its ring only."""

    open: int
    claimable: int = Field(
        description="Of these, those that workers look through for a ticket; the others have none left to claim."
    )


class GeneratorStats(Frozen):
    """One generator: who can make its images, and what is asked of it."""

    id: str
    workers: int = Field(description="Live ones that host it.")
    orders: int = Field(description="Open ones that need it; one of a mixture counts for each of its generators.")
    tickets: int = Field(description="Of these orders, that are not committed.")


class RingInfo(Frozen):
    """One ring; counts are of batches."""

    name: str
    policy: Literal["queue", "latest"]
    slots: int
    used: int = Field(description="Slots that hold a batch, unread or in its consumer's hands.")
    reserved: int = Field(description="Slots that are kept for tickets in the making.")
    unread: int = Field(description="Entries, among them the ends of orders.")
    committed: int = Field(description="Since it was opened.")
    overwritten: int = Field(description="Batches that nobody had read when a newer one took their slot.")
    bytes: int = Field(description="The most that it takes of Redis.")
    age_s: float = Field(description="Since it was opened.")
    expires_s: float = Field(description="Until it is deleted, unless its consumer shows up.")


class StrategyStats(Frozen):
    """What a strategy that rejects has tried with the same generators, since the live workers started."""

    strategy: str
    generators: tuple[str, ...]
    tried: int
    kept: int
    short: int = Field(description="Images that were given up.")
    acceptance: float | None = Field(description="Kept over tried; null while nothing was tried.")


class ChannelStats(Frozen):
    """The snapshots of one channel."""

    channel: str
    versions: tuple[int, ...] = Field(description="Those that are kept, oldest first.")
    bytes: int = Field(description="Of all their payloads.")
    age_s: float = Field(description="Since the latest was published.")


class Stats(Frozen):
    """The service at this moment."""

    at: float = Field(description="Unix time in seconds, by the clock of Redis.")
    redis: RedisMemory
    workers: tuple[WorkerStats, ...] = Field(description="Sorted by id.")
    tickets: TicketStats
    orders: dict[Priority, OrderStats] = Field(description="By priority.")
    generators: tuple[GeneratorStats, ...] = Field(description="Hosted or needed ones, sorted by id.")
    rings: tuple[RingInfo, ...] = Field(description="Sorted by name.")
    acceptance: tuple[StrategyStats, ...] = Field(description="/v1/acceptance has it by class.")
    snapshots: tuple[ChannelStats, ...] = Field(description="Sorted by channel.")


def read_stats(keys: Keys) -> Op[Stats]:
    """The service at this moment. Does not block."""
    now_ms, leased, claimable, rings, priorities, channels, heartbeats, needed = yield script("stats", keys)
    memory: dict[str, int] = yield Call("INFO", "memory")
    workers = [(WorkerInfo.model_validate_json(document), left_ms) for document, left_ms in heartbeats]
    unfinished = sum(left for *_, left in priorities)
    return Stats(
        at=now_ms / 1000,
        redis=RedisMemory(used_bytes=int(memory["used_memory"]), max_bytes=int(memory["maxmemory"]) or None),
        workers=tuple(sorted((_worker(w, left_ms, now_ms) for w, left_ms in workers), key=lambda w: w.id)),
        tickets=TicketStats(open=unfinished, leased=leased, waiting=max(0, unfinished - leased), claimable=claimable),
        orders={name.decode(): OrderStats(open=n, claimable=claimable) for name, n, claimable, _ in priorities},
        generators=_generators([w for w, _ in workers], needed),
        rings=tuple(sorted((_ring(now_ms, *ring) for ring in rings), key=lambda r: r.name)),
        acceptance=_acceptance(Catalog(workers=tuple(w for w, _ in workers))),
        snapshots=tuple(sorted((_channel(now_ms, *channel) for channel in channels), key=lambda c: c.channel)),
    )


def _worker(worker: WorkerInfo, left_ms: int, now_ms: int) -> WorkerStats:
    return WorkerStats(
        id=worker.id,
        host=worker.host,
        device=worker.device,
        threads=worker.threads,
        generators=tuple(g.id for g in worker.generators),
        tickets=worker.tickets,
        images=worker.images,
        age_s=max(0.0, now_ms / 1000 - worker.started),
        heartbeat_age_s=max(0.0, HEARTBEAT_TTL_S - left_ms / 1000),
    )


def _generators(workers: list[WorkerInfo], needed: list[tuple[bytes, int, int]]) -> tuple[GeneratorStats, ...]:
    hosts = Counter(generator.id for worker in workers for generator in worker.generators)
    asked = {name.decode(): (orders, tickets) for name, orders, tickets in needed}
    return tuple(
        GeneratorStats(id=name, workers=hosts[name], orders=orders, tickets=tickets)
        for name in sorted({*hosts, *asked})
        for orders, tickets in [asked.get(name, (0, 0))]
    )


def _ring(now_ms: int, name: bytes, counters: list[Any], expires_ms: bytes, free: int, unread: int) -> RingInfo:
    policy, *numbers = counters
    slots, slot_bytes, reserved, committed, overwritten, opened_ms = map(int, numbers)
    return RingInfo(
        name=name.decode(),
        policy=policy.decode(),
        slots=slots,
        used=slots - free,
        reserved=reserved,
        unread=unread,
        committed=committed,
        overwritten=overwritten,
        bytes=slots * slot_bytes,
        age_s=(now_ms - opened_ms) / 1000,
        expires_s=max(0.0, (float(expires_ms) - now_ms) / 1000),
    )


def _channel(now_ms: int, channel: bytes, versions: list[bytes], size: int, published_ms: bytes) -> ChannelStats:
    return ChannelStats(
        channel=channel.decode(),
        versions=tuple(int(version) for version in versions),
        bytes=size,
        age_s=(now_ms - int(published_ms)) / 1000,
    )


def _acceptance(catalog: Catalog) -> tuple[StrategyStats, ...]:
    return tuple(
        StrategyStats(
            strategy=strategy,
            generators=generators,
            tried=tally.tried.total(),
            kept=tally.kept.total(),
            short=tally.short.total(),
            acceptance=tally.acceptance() if tally.tried else None,
        )
        for (strategy, generators), tally in sorted(catalog.tallies.items())
    )


@dataclass(frozen=True)
class Load:
    """The work of all workers of a Redis, whoever started them."""

    workers: int
    """How many workers are there, by their heartbeats."""
    leased: int
    """Tickets in the hands of a worker, of which one has two at most."""
    claimable: int
    """Tickets that one more worker could claim; those that wait for room in their ring are not among them."""


def read_load(keys: Keys) -> Op[Load]:
    """The load at this moment. Does not block; takes Redis a few steps for each worker, ring and open order."""
    workers, leased, claimable = yield script("load", keys)
    return Load(workers, leased, claimable)
