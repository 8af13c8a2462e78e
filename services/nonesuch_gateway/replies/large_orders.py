"""What gateways remember of an order whose images are fetched later, and how far it is.

    POST ──► open ──► done ──► results read ──► gone
              │──► failed, expired ───────────► gone when nobody has asked for `order_ttl_s`
              └──► DELETE ────────────────────► gone

Everything about an order is in its ring: its batches, how it ended, and a note of what was ordered. So any gateway can
answer for it, and it leaves nothing when the ring goes. Every question renews the ring's time to live.
"""

import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nonesuch.effects import Op
from nonesuch.errors import Busy, NonesuchError, OrderNotFound, RingClosed
from nonesuch.link import Keys
from nonesuch.model import Frozen
from nonesuch.order_status import OrderStatus, Tickets
from nonesuch.orders import Progress, place, progress_of
from nonesuch.readers import Look, look
from nonesuch.rings import close_ring, open_ring, touch_ring
from nonesuch.tickets import sweep
from nonesuch_gateway.recipes.plans import OrderPlan, Terms, order_of
from nonesuch_gateway.recipes.recipe import Recipe

_ID = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{16}")


class Note(Frozen):
    """What must be known of an order to answer for it, also when its keys are gone because it ended."""

    recipe: Recipe
    deadline: float
    """When the order expires, in seconds of Unix time."""
    may_be_short: bool
    format: str | None
    """The format that the request named; None: none."""
    owner: str
    """The id of the token by which the order was placed."""


@dataclass(frozen=True)
class Kept:
    """An order as it was found."""

    id: str
    note: Note
    ring: Look
    progress: Progress | None
    """How far the order is; None when it has ended."""

    def plan(self) -> OrderPlan:
        """The plan by which the order was placed."""
        ring = self.ring.spec
        order = order_of(self.note.recipe, self.id, ring.name, "bulk", self.note.deadline)
        return OrderPlan(self.note.recipe, order, ring, self.note.may_be_short, ring.slot_bytes * order.tickets)

    def status(self, root: str) -> OrderStatus:
        """The order's status, for the client; links begin with `root`."""
        content, end = self.note.recipe.content, self.ring.end
        delivered = self.progress.delivered if self.progress else 0
        here = f"{root}/v1/orders/{self.id}"
        return OrderStatus(
            id=self.id,
            state="open" if end is None else end.state,
            reason="" if end is None else end.reason,
            order=self.note.recipe.digest,
            seed=content.seed,
            count=content.count,
            images=delivered if end is None else end.rows,
            tickets=Tickets(made=self.ring.committed, of=content.tickets),
            results="begun" if self.ring.begun else "unread",
            deadline=datetime.fromtimestamp(self.note.deadline, UTC),
            links={"self": here, "events": f"{here}/events", "results": f"{here}/results"},
        )


def keep(
    keys: Keys, planned: OrderPlan, terms: Terms, *, named_format: str | None, owner: str, at_most: int
) -> Op[None]:
    """Open the ring of an order of the token `owner` and place it. Does not block.

    Raises `Busy` when there are `at_most` such orders, and what `place` raises.
    """
    assert planned.order.deadline is not None
    note = Note(
        recipe=planned.recipe,
        deadline=planned.order.deadline,
        may_be_short=planned.may_be_short,
        format=named_format,
        owner=owner,
    )
    ring = planned.ring.model_copy(update={"note": note.model_dump_json()})
    try:
        yield from open_ring(keys, ring, kind=terms.kind, at_most=at_most)
    except Busy:
        yield from sweep(keys)  # rings of the dead may stand in the way, if no worker is there to sweep
        yield from open_ring(keys, ring, kind=terms.kind, at_most=at_most)
    try:
        yield from place(keys, planned.checked or planned.order)
    except NonesuchError:
        yield from close_ring(keys, ring.name)
        raise


def find(keys: Keys, order_id: str, terms: Terms, *, owner: str | None = None) -> Op[Kept]:
    """An order, whose time to live begins anew unless its results are being read. Raises `OrderNotFound`, also for an
    order of another owner than the one that is named.
    """
    missing = OrderNotFound(
        f"there is no order {order_id[:64]!r}: its results were read, it was cancelled, nobody asked for it for "
        f"{terms.ttl_s:g} s, or it never was"
    )
    if not _ID.fullmatch(order_id):
        raise missing
    try:
        progress, ring = yield from _look(keys, order_id, terms)
        note = Note.model_validate_json(ring.spec.note)
        if owner not in (None, note.owner):
            raise missing
        if progress is not None and note.deadline <= time.time():
            yield from sweep(keys)  # workers do it too, if there are any
            progress, ring = yield from _look(keys, order_id, terms)
        if progress is None and ring.end is None:
            raise missing
        if not ring.begun:
            yield from touch_ring(keys, ring.spec.model_copy(update={"ttl_s": terms.ttl_s}))
    except RingClosed:
        raise missing from None
    spec = ring.spec.model_copy(update={"ttl_s": terms.ttl_s})
    return Kept(order_id, note, replace(ring, spec=spec), progress)


def _look(keys: Keys, order_id: str, terms: Terms) -> Op[tuple[Progress | None, Look]]:
    # In this order: an order is gone when its end comes into the ring, so one of the two is seen.
    progress = yield from progress_of(keys, order_id)
    return progress, (yield from look(keys, terms.kind + order_id))


def drop(keys: Keys, order_id: str, terms: Terms, *, owner: str | None = None) -> Op[Kept]:
    """End an order and forget it, with the batches that nobody read. Returns it as it was; raises what `find` does."""
    kept = yield from find(keys, order_id, terms, owner=owner)
    yield from close_ring(keys, kept.ring.spec.name)
    return kept
