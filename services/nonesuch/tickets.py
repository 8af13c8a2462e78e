"""Tickets: the unit of work, seen from the worker.

claim ──► mint ──► commit            the ticket's lease is renewed all the while
  ▲         └─ error, stop ─► give back ─┐
  └──────────────────────────────────────┘
a worker that is lost does not renew: `sweep` gives its ticket back
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonesuch.effects import Op
from nonesuch.link import Call, Keys, script
from nonesuch.orders import Order
from nonesuch.tally import NOTHING, Tally

LEASE_S = 15.0
"""A ticket whose worker has not renewed its lease for so many seconds is made by another."""

MINTED_MS = 10_000
"""How many ms a batch waits in Redis for its commit, which follows at once; what a killed worker left is gone then."""

CommitResult = Literal["committed", "duplicate", "closed", "too large", "full"]


@dataclass(frozen=True)
class Ticket:
    """The slice `[start, stop)` of an order's indices. What it contains is a function of the order and the slice."""

    order: Order
    number: int
    attempt: int = 1

    @property
    def start(self) -> int:
        return self.number * self.order.ticket_size

    @property
    def stop(self) -> int:
        return min(self.start + self.order.ticket_size, self.order.count)

    @property
    def indices(self) -> NDArray[np.int64]:
        """The indices of the ticket, (stop - start,) int64."""
        return np.arange(self.start, self.stop, dtype=np.int64)

    def __str__(self) -> str:
        return f"ticket {self.number} [{self.start}, {self.stop}) of order {self.order.id}"


def claim(keys: Keys, generators: Sequence[str], *, lease_s: float = LEASE_S) -> Op[Ticket | None]:
    """Lease the next ticket whose generators are hosted here and whose ring has room. Does not block."""
    reply = yield script("claim", keys, int(lease_s * 1000), ",".join(generators))
    if reply is None:
        return None
    spec, number, attempt = reply
    return Ticket(Order.model_validate_json(spec), number, attempt)


def wait_for_bell(keys: Keys, *, timeout_s: float = 1.0) -> Op[None]:
    """Block until there may be something to claim, `timeout_s` at most."""
    yield Call("BLPOP", keys.bell, f"{timeout_s:.3f}")


def renew(keys: Keys, ticket: Ticket, *, lease_s: float = LEASE_S) -> Op[bool]:
    """Prolong a lease. False when the ticket is no longer wanted."""
    wanted: int = yield script("renew", keys, ticket.order.id, ticket.number, int(lease_s * 1000))
    return bool(wanted)


def commit(keys: Keys, ticket: Ticket, payload: bytes, rows: int, tally: Tally = NOTHING) -> Op[CommitResult]:
    """Deliver a minted ticket, once: a second copy is dropped, and its tally with it. Does not block.

    "full" comes from rings of policy `latest` only, when the consumer holds every slot: try again.
    """
    counted = list(chain.from_iterable(tally.counters().items()))
    while True:
        yield Call("SET", keys.minted(ticket.order.id, ticket.number), payload, "PX", MINTED_MS)
        reply: bytes = yield script("commit", keys, ticket.order.id, ticket.number, rows, *counted)
        if reply != b"late":
            result: CommitResult = reply.decode()  # type: ignore[assignment]
            return result


def give_back(keys: Keys, ticket: Ticket, reason: str = "") -> Op[None]:
    """Hand a ticket out again. With a reason it was a failure, and the attempt counts."""
    yield script("give_back", keys, ticket.order.id, ticket.number, reason)


def fail_order(keys: Keys, ticket: Ticket, reason: str) -> Op[None]:
    """End the order of a ticket that no worker could ever make."""
    yield script("cancel", keys, ticket.order.id, "failed", reason)


@dataclass(frozen=True)
class Swept:
    """What a sweep did."""

    tickets: int
    orders: int
    rings: int


def sweep(keys: Keys) -> Op[Swept]:
    """Hand out tickets of lost workers, end orders past their deadline, delete abandoned rings. Does not block."""
    tickets, orders, rings = yield script("sweep", keys)
    return Swept(tickets, orders, rings)
