"""What tests ask of rings and orders: counters that the service itself only reads all together (`nonesuch.stats`)."""

from dataclasses import dataclass

from nonesuch.effects import Op
from nonesuch.link import Call, Keys
from nonesuch.rings import ring_spec
from nonesuch.stats import read_stats


@dataclass(frozen=True)
class RingStats:
    """A ring's counters, in batches."""

    slots: int
    unread: int
    free: int
    reserved: int
    committed: int
    overwritten: int


def ring_stats(keys: Keys, name: str) -> Op[RingStats]:
    """The counters of an open ring. Raises `RingClosed`."""
    spec = yield from ring_spec(keys, name)
    reserved, committed, overwritten = yield Call("HMGET", keys.ring(name), "reserved", "committed", "overwritten")
    free: int = yield Call("LLEN", keys.free(name))
    unread: int = yield Call("LLEN", keys.ready(name))
    return RingStats(spec.slots, unread, free, int(reserved), int(committed), int(overwritten))


def open_orders(keys: Keys) -> Op[int]:
    """How many orders are open."""
    stats = yield from read_stats(keys)
    return sum(of.open for of in stats.orders.values())
