"""Replies: one order, its ring, and its batches in index order.

    reader   waits for: the next entry of the ring ── unblocked by: a commit, the order's end, the order's deadline
    keeper   waits for: a third of the ring's time to live ── unblocked by: the clock; ends with the reader

The reader holds what is ahead of its turn and gives a slot back only when its consumer comes for the next batch, so
slots bound what a reply takes of this process too. It cannot starve: tickets are claimed in order and released in
order, so the one whose turn it is always has a slot.

A reply that is left, for whatever reason, takes its order and its ring with it. If this process is killed the ring's
time to live does the same.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pyarrow as pa

from nonesuch.errors import (
    Busy,
    IntegrityError,
    NonesuchError,
    NoWorkers,
    OrderFailed,
    RingClosed,
    ServiceError,
    TakeTimeout,
)
from nonesuch.link import AsyncLink
from nonesuch.orders import place, wait_for_workers
from nonesuch.rings import Delivery, OrderEnd, close_ring, open_ring, release, take, touch_ring
from nonesuch.schema import read_batch
from nonesuch.sequencer import Sequencer
from nonesuch_gateway.plans import Plan

PATIENCE_S = 20.0
"""After so long without a batch the reader asks whether there still is a worker. Longer than a lease, so that a
worker that was lost and started again is in time."""

log = logging.getLogger(__name__)


class Replies:
    """The replies that are open in this process: at most `limit`, whose rings take at most `limit_bytes`."""

    def __init__(self, link: AsyncLink, *, limit: int, limit_bytes: int) -> None:
        self._link = link
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._open: dict[str, int] = {}  # ring → its bytes
        self._closing: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(self, plan: Plan) -> AsyncIterator["Reply"]:
        """Open a ring and place the order; both are gone afterwards, also when the task is cancelled.

        Raises `Busy` beyond the limits, and what `place` raises.
        """
        self._admit(plan)
        keeper = None
        try:
            await self._link.run(open_ring(self._link.keys, plan.ring))
            await self._link.run(place(self._link.keys, plan.order))
            keeper = asyncio.create_task(self._keep(plan))
            yield Reply(self._link, plan)
        finally:
            if keeper is not None:
                keeper.cancel()
            closing = asyncio.create_task(self._close(plan))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.shield(closing)

    async def settled(self, timeout_s: float = 5.0) -> None:
        """Wait until no reply is open, `timeout_s` at most: what is left then expires with its ring."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d replies are left to expire", len(self._open))

    def _admit(self, plan: Plan) -> None:
        if len(self._open) >= self._limit:
            raise Busy(f"{self._limit} requests are being answered, which is the limit: try again in a moment")
        if self._open and sum(self._open.values()) + plan.ring.bytes > self._limit_bytes:
            raise Busy("replies take all of the memory that they may: try again in a moment, or ask for fewer images")
        self._open[plan.ring.name] = plan.ring.bytes
        self._idle.clear()

    async def _keep(self, plan: Plan) -> None:
        """Keep the ring alive while its consumer is slow."""
        while True:
            await asyncio.sleep(plan.ring.ttl_s / 3)
            try:
                await self._link.run(touch_ring(self._link.keys, plan.ring))
            except RingClosed:
                return  # the reader finds out by itself
            except ServiceError as error:
                log.warning("order %s: %s", plan.order.id, error)

    async def _close(self, plan: Plan) -> None:
        try:
            await self._link.run(close_ring(self._link.keys, plan.ring.name))
        except NonesuchError as error:
            log.warning("order %s is left to expire with its ring: %s", plan.order.id, error)
        finally:
            self._open.pop(plan.ring.name, None)
            if not self._open:
                self._idle.set()


class Reply:
    """One open reply. `Replies.open` makes it."""

    def __init__(self, link: AsyncLink, plan: Plan) -> None:
        self.plan = plan
        self._link = link
        self._turns: Sequencer[Delivery] = Sequencer()

    @property
    def held(self) -> int:
        """How many batches are ahead of their turn."""
        return len(self._turns)

    async def batches(self) -> AsyncGenerator[pa.RecordBatch, None]:
        """Every batch of the order, in index order; the slot of one is free when the next is asked for.

        Blocks for the next ticket until the order's deadline. Raises `TakeTimeout` then, `OrderFailed`,
        `NoWorkers` when every worker was lost, `RingClosed` when Redis was restarted, `Unreachable`, and
        `IntegrityError` for a batch that is not what was ordered.
        """
        order, keys = self.plan.order, self._link.keys
        emitted = 0
        while emitted < order.tickets:
            taken = await self._take()
            for delivery in self._turns.push(taken.ticket, taken):
                yield self._checked(delivery)
                await self._link.run(release(keys, self.plan.ring, delivery))
                emitted += 1

    async def _take(self) -> Delivery:
        order, keys = self.plan.order, self._link.keys
        assert order.deadline is not None
        while True:
            left = max(0.0, order.deadline - time.time())
            try:
                taken = await self._link.run(take(keys, self.plan.ring, timeout_s=min(left, PATIENCE_S)))
            except TakeTimeout:
                if left <= PATIENCE_S:
                    raise TakeTimeout(
                        f"the deadline passed before all {order.count} images were minted: ask for fewer, or give a "
                        "longer deadline_s"
                    ) from None
                await self._check_workers()
            else:
                if isinstance(taken, Delivery):
                    return taken
                raise _failure(taken, order.count)

    async def _check_workers(self) -> None:
        try:
            await self._link.run(wait_for_workers(self._link.keys))
        except NoWorkers as error:
            raise NoWorkers(f"every worker was lost while the order was open; {error}") from None

    def _checked(self, delivery: Delivery) -> pa.RecordBatch:
        """The batch, whose rows name the recipe for their order. Copies nothing but that column."""
        order = self.plan.order
        batch = read_batch(delivery.payload)
        expected = min(order.ticket_size, order.count - delivery.ticket * order.ticket_size)
        if batch.num_rows > expected or (batch.num_rows < expected and not self.plan.may_be_short):
            raise IntegrityError(f"ticket {delivery.ticket} came with {batch.num_rows} rows instead of {expected}")
        place_of = batch.schema.get_field_index("order")
        rows = pa.array(np.zeros(batch.num_rows, np.int16))
        recipe = pa.DictionaryArray.from_arrays(rows, pa.array([self.plan.recipe]))
        return batch.set_column(place_of, batch.schema.field(place_of), recipe)


def _failure(end: OrderEnd, count: int) -> ServiceError:
    if end.state == "expired":
        return TakeTimeout(
            f"the deadline passed after {end.rows} of {count} images: ask for fewer, or give a longer deadline_s"
        )
    return OrderFailed(f"the order ended as {end.state} after {end.rows} of {count} images: {end.reason}")
