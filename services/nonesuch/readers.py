"""Rings that several processes can reach: who reads one, and what a look at it shows.

A trainer's ring has one consumer. The ring of an order that was placed over HTTP belongs to whichever gateway its
client asks next, so readers take turns: one at a time, each for as long as it renews a lease. What a reader released
is gone, so another one may follow only on a reader that released nothing.

A lease is nothing that its holder can be sure of: it may have been paused when it ran out. So whatever a reader asks
for carries its name, `rings.take`, `release` and `close_ring` too, and Redis refuses all but the one that began last.
"""

from dataclasses import dataclass

from nonesuch.effects import Op
from nonesuch.errors import Conflict, RingClosed
from nonesuch.link import Call, Keys, script
from nonesuch.rings import OrderEnd, RingSpec, end_in, fenced_off, ring_spec


def begin_reading(keys: Keys, name: str, reader: str, *, lease_s: float) -> Op[None]:
    """Become the only reader of a ring; what an earlier one took and never released is unread again. Does not block.

    Raises `RingClosed`, and `Conflict` when another reader is there, or an earlier one released batches.
    """
    reply: bytes = yield script("read_ring", keys, name, reader, int(lease_s * 1000))
    match reply.decode():
        case "gone":
            raise _gone(name)
        case "taken":
            raise Conflict("the results are being read by another client: they can be read once")
        case "begun":
            raise Conflict(
                "a client that went away has read a part of the results: they can be read once. Place the order "
                "again with the same seed, which makes the same images"
            )


def keep_reading(keys: Keys, name: str, reader: str, *, lease_s: float) -> Op[None]:
    """Renew a reader's lease. Raises `RingClosed`, and `Conflict` when another reader has begun."""
    reply: bytes = yield script("keep_reading", keys, name, reader, int(lease_s * 1000))
    match reply.decode():
        case "gone":
            raise _gone(name)
        case "fenced":
            raise fenced_off(name)


def _gone(name: str) -> RingClosed:
    return RingClosed(f"ring {name!r} is gone: it was closed, it expired, or Redis was restarted")


def stop_reading(keys: Keys, name: str, reader: str) -> Op[bool]:
    """Let another reader begin at once, instead of when the lease runs out. False if it was not the reader."""
    stopped: int = yield script("stop_reading", keys, name, reader)
    return bool(stopped)


@dataclass(frozen=True)
class Look:
    """What a look at the ring of one order shows. Nothing is taken by it."""

    spec: RingSpec
    committed: int
    """How many batches were ever delivered to the ring."""
    begun: bool
    """Whether a reader has released some of the batches."""
    end: OrderEnd | None
    """How the ring's order ended; None while it is open."""


def look(keys: Keys, name: str) -> Op[Look]:
    """Look at a ring. Raises `RingClosed`."""
    spec = yield from ring_spec(keys, name)
    newest: bytes | None = None
    for entries in (keys.ready(name), keys.in_hand(name)):
        newest = newest or (yield Call("LINDEX", entries, -1))
    free: int = yield Call("LLEN", keys.free(name))
    committed = int((yield Call("HGET", keys.ring(name), "committed")) or 0)
    return Look(spec, committed, committed > spec.slots - free, None if newest is None else end_in(newest))
