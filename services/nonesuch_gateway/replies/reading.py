"""The batches of one order, in index order, out of its ring.

    reader   waits for: the next entry of the ring ── unblocked by: a commit, the order's end, the order's deadline

The reader holds what is ahead of its turn and gives a slot back only when its consumer comes for the next batch, so
slots bound what a reply takes of this process too. It cannot starve: tickets are claimed in order and released in
order, so the one whose turn it is always has a slot.
"""

import time
from collections.abc import AsyncGenerator

import numpy as np
import pyarrow as pa

from nonesuch.errors import IntegrityError, NoWorkers, OrderFailed, ServiceError, TakeTimeout
from nonesuch.link import AsyncLink
from nonesuch.orders import wait_for_workers
from nonesuch.rings import Delivery, OrderEnd, release, take
from nonesuch.schema import read_batch
from nonesuch.sequencer import Sequencer
from nonesuch_gateway.recipes.plans import OrderPlan

PATIENCE_S = 20.0
"""How many seconds the reader goes without a batch before it asks whether there still is a worker. Longer than a lease,
so that a worker that was lost and started again is in time."""


class Reply:
    """One open reply. `opening.Replies` makes it."""

    def __init__(self, link: AsyncLink, plan: OrderPlan, reader: str = "") -> None:
        self.plan = plan
        self._reader = reader
        self._link = link
        self._turns: Sequencer[Delivery] = Sequencer()
        self.begun = False
        """Whether a batch was used, so that nobody else can read all of the order."""
        self.images = 0
        """How many images are in the batches that were used."""

    @property
    def held(self) -> int:
        """How many batches are held because they are ahead of their turn."""
        return len(self._turns)

    async def batches(self) -> AsyncGenerator[pa.RecordBatch, None]:
        """Every batch of the order, in index order; the slot of one is free when the next is asked for.

        Blocks for the next ticket until the order's deadline. Raises `TakeTimeout` then, `OrderFailed`,
        `NoWorkers` when every worker was lost, `RingClosed` when Redis was restarted, `Unreachable`, `Conflict` when
        another reader has begun since this one's lease ran out, and `IntegrityError` for a batch that is not what was
        ordered.
        """
        order, keys = self.plan.order, self._link.keys
        emitted = 0
        while emitted < order.tickets:
            taken = await self._take()
            for delivery in self._turns.push(taken.ticket, taken):
                batch = self._checked(delivery)
                yield batch
                self.begun = True
                self.images += batch.num_rows
                await self._link.run(release(keys, self.plan.ring, delivery, reader=self._reader))
                emitted += 1

    async def _take(self) -> Delivery:
        order, keys = self.plan.order, self._link.keys
        assert order.deadline is not None
        while True:
            left = max(0.0, order.deadline - time.time())
            try:
                taking = take(keys, self.plan.ring, timeout_s=min(left, PATIENCE_S), reader=self._reader)
                taken = await self._link.run(taking)
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
                raise failure(taken, order.count)

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
        recipe = pa.DictionaryArray.from_arrays(rows, pa.array([self.plan.recipe.digest]))
        return batch.set_column(place_of, batch.schema.field(place_of), recipe)


def failure(end: OrderEnd, count: int) -> ServiceError:
    """The error of an order that ended early."""
    if end.state == "expired":
        return TakeTimeout(
            f"the deadline passed after {end.rows} of {count} images: ask for fewer, or give a longer deadline_s"
        )
    return OrderFailed(f"the order ended as {end.state} after {end.rows} of {count} images: {end.reason}")
