"""Rings: where batches go. Bounded in batches and in bytes, so Redis memory is known before the first image.

    worker   claim ── waits for: a free slot that no other ticket has reserved ── unblocked by: release
             commit ─ waits for nothing: its slot was reserved by the claim
    consumer take ─── waits for: an unread entry ── unblocked by: commit, the end of an order, the timeout

The trainer's ring outlives its orders; a reply is a ring that lives as long as its one order. Policy `queue` loses
nothing: a full ring leaves its tickets unclaimed, and the workers turn to other orders. Policy `latest` overwrites
the oldest unread batch and counts it.
"""

import json
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from nonesuch.effects import Op
from nonesuch.errors import Busy, Conflict, InvalidValue, RingClosed, TakeTimeout
from nonesuch.link import Call, Keys, script
from nonesuch.model import Frozen, Name
from nonesuch.tally import NOTHING, Tally

SLICE_S = 1.0
"""A blocking take asks Redis in slices of so many seconds, so that a ring that was lost is noticed."""


class RingSpec(Frozen):
    """A ring's limits. It takes at most `slots * slot_bytes` bytes of Redis memory, and small change."""

    name: Name
    policy: Literal["queue", "latest"] = "queue"
    slots: int = Field(default=8, ge=1, le=4096)
    slot_bytes: int = Field(default=4 * 2**20, ge=1024, le=64 * 2**20)
    ttl_s: float = Field(default=3600.0, gt=0)
    """A ring whose consumer has neither taken nor touched for so many seconds is deleted with its orders."""
    channels: tuple[Name, ...] = ()
    """The channels of snapshots that belong to the ring's consumer: deleted with the ring."""
    note: str = ""
    """What the ring's consumers want to remember. It lives as long as the ring."""

    @property
    def bytes(self) -> int:
        return self.slots * self.slot_bytes


@dataclass(frozen=True)
class Delivery:
    """One committed ticket, in the consumer's hands until released."""

    order: str
    ticket: int
    rows: int
    payload: bytes
    """The batch as an Arrow IPC stream; see `schema.read_batch`."""
    entry: bytes


@dataclass(frozen=True)
class OrderEnd:
    """How an order ended. It follows the order's last batch."""

    order: str
    state: Literal["done", "failed", "cancelled", "expired"]
    reason: str
    rows: int
    """How many images were delivered."""
    entry: bytes
    tally: Tally = NOTHING
    """What became of the latents that the order's strategy tried, where it tried several."""


def open_ring(keys: Keys, spec: RingSpec, *, kind: str = "", at_most: int = 0) -> Op[bool]:
    """Open a ring, or take over the one of that name: what its last consumer had in hand is unread again.

    `at_most` bounds how many rings there are whose names start with `kind`; 0 stands for any number. Returns whether
    the ring was there. Raises `InvalidValue` when it is there with another policy or size, and `Busy` at the bound.
    """
    reply: bytes = yield script(
        "open_ring", keys, spec.name, spec.policy, spec.slots, spec.slot_bytes, int(spec.ttl_s * 1000),
        ",".join(spec.channels), spec.note, kind, at_most,
    )  # fmt: skip
    if reply == b"full":
        raise Busy(
            f"there are {at_most} rings {kind}*, which is the limit: take the results of their orders, cancel some, "
            "or try again later"
        )
    if reply == b"differs":
        raise InvalidValue(
            f"ring {spec.name!r} is open with another policy or size than {spec.policy}, {spec.slots} slots of "
            f"{spec.slot_bytes} bytes: choose another name, or close it first"
        )
    return reply == b"reopened"


def close_ring(keys: Keys, name: str, *, reader: str = "") -> Op[bool]:
    """Delete a ring, what is in it, its snapshots, and the orders that deliver to it. False if there was none.

    With a `reader` only while that is the ring's (see `readers`); False if it is not.
    """
    closed: int = yield script("close_ring", keys, name, reader)
    return bool(closed)


def touch_ring(keys: Keys, spec: RingSpec) -> Op[None]:
    """Show that the consumer is alive. Raises `RingClosed` when it is too late."""
    touched: int = yield script("touch_ring", keys, spec.name, int(spec.ttl_s * 1000))
    if not touched:
        raise _gone(spec.name)


def _gone(name: str) -> RingClosed:
    return RingClosed(f"ring {name!r} is gone: it expired, or Redis was restarted")


def ring_spec(keys: Keys, name: str) -> Op[RingSpec]:
    """The limits of an open ring. Raises `RingClosed`."""
    policy, slots, slot_bytes, note = yield Call("HMGET", keys.ring(name), "policy", "slots", "slot_bytes", "note")
    if policy is None:
        raise RingClosed(f"ring {name!r} is not open: open it before placing orders that deliver to it")
    return RingSpec(
        name=name, policy=policy.decode(), slots=int(slots), slot_bytes=int(slot_bytes), note=(note or b"").decode()
    )


def take(keys: Keys, spec: RingSpec, *, timeout_s: float = 60.0, reader: str = "") -> Op[Delivery | OrderEnd]:
    """Take the oldest unread entry. Blocks up to `timeout_s`; release the entry when done with it.

    It shows that the consumer is alive. `reader` is who takes it, of a ring that several processes can reach (see
    `readers`). Raises `TakeTimeout`, `RingClosed` when the ring is gone, and `Conflict` when another reader has begun.
    """
    ready = keys.ready(spec.name)
    end = time.monotonic() + timeout_s
    while True:
        entry: bytes | None = yield script("take", keys, spec.name, int(spec.ttl_s * 1000), reader)
        if entry == b"gone":
            raise _gone(spec.name)
        if entry == b"fenced":
            raise fenced_off(spec.name)
        if entry is not None:
            break
        wait = min(SLICE_S, end - time.monotonic())
        if wait <= 0.001:
            raise TakeTimeout(f"no batch came into ring {spec.name!r} within {timeout_s:g} s")
        # Waits and takes nothing, as the head stays where it is: only the script knows whose it is by then.
        yield Call("BLMOVE", ready, ready, "LEFT", "LEFT", f"{wait:.3f}")
    if how := end_in(entry):
        return how
    head = json.loads(entry)
    payload: bytes | None = yield Call("GET", keys.slot(spec.name, head["slot"]))
    if payload is None:
        raise RingClosed(f"ring {spec.name!r} was closed while a batch was being read from it")
    if reader and (yield Call("HGET", keys.ring(spec.name), "reader")) != reader.encode():
        raise fenced_off(spec.name)  # and the slot may have another batch by now
    return Delivery(head["order"], head["ticket"], head["rows"], payload, entry)


def end_in(entry: bytes) -> OrderEnd | None:
    """How an order ended, if that is what an entry says; None for a batch."""
    head = json.loads(entry)
    if "end" not in head:
        return None
    tally = Tally.from_counters(head.get("tally", {}))
    return OrderEnd(head["order"], head["end"], head["reason"], head["rows"], entry, tally)


def release(keys: Keys, spec: RingSpec, taken: Delivery | OrderEnd, *, reader: str = "") -> Op[None]:
    """Give back the slot of an entry that was taken. Does not block; once is enough, twice does no harm.

    `reader` is who took it. Raises `Conflict` when another one has begun since.
    """
    released: int = yield script("release", keys, spec.name, taken.entry, reader)
    if released < 0:
        raise fenced_off(spec.name)


def fenced_off(name: str) -> Conflict:
    """What a reader is told that was away for longer than its lease, and whose ring another one reads now."""
    return Conflict(f"ring {name!r} is read by another client since the lease of this one ran out: leave it to that")
