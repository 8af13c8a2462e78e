"""Replies: opening and leaving them. `reading` draws the reader.

    keeper   waits for: a third of the ring's time to live ── unblocked by: the clock; ends with the reader

A reply that is left, for whatever reason, takes its order and its ring with it; one to an order that was placed before
does so only when a batch of it was used, so that until then its reader may come again. If this process is killed the
ring's time to live does the same.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

from nonesuch.effects import Op
from nonesuch.errors import Busy, Conflict, NonesuchError, RingClosed, ServiceError
from nonesuch.link import AsyncLink, Keys
from nonesuch.orders import place
from nonesuch.readers import begin_reading, keep_reading, stop_reading
from nonesuch.rings import RingSpec, close_ring, open_ring, touch_ring
from nonesuch_gateway.recipes.plans import OrderPlan
from nonesuch_gateway.replies.reading import Reply

log = logging.getLogger(__name__)


class Replies:
    """The replies that are open in this process: at most `limit`, whose rings take at most `limit_bytes`."""

    def __init__(self, link: AsyncLink, *, limit: int, limit_bytes: int) -> None:
        self._link = link
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._open: dict[Reply, int] = {}  # to the bytes of its ring
        self._closing: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def open(self, plan: OrderPlan) -> AsyncIterator[Reply]:
        """Open a ring and place the order; both are gone afterwards, also when the task is cancelled.

        Raises `Busy` beyond the limits, and what `place` raises.
        """
        keys = self._link.keys
        reply = self._admitted(plan)
        try:
            await self._link.run(open_ring(keys, plan.ring))
            await self._link.run(place(keys, plan.checked or plan.order))
            async with self._kept(reply, partial(touch_ring, keys, plan.ring)):
                yield reply
        finally:
            await self._leave(reply, close_ring(keys, plan.ring.name))

    @asynccontextmanager
    async def read(self, plan: OrderPlan, *, ttl_s: float) -> AsyncIterator[Reply]:
        """Read an order that was placed before. Order and ring are gone afterwards if any batch was used; if not, the
        order goes on and can be read by somebody else. `ttl_s` is how long it outlives this process meanwhile.

        Raises `Busy` beyond the limits, `Conflict` when it is or was read by somebody else, and `RingClosed`.
        """
        keys, name, reader = self._link.keys, plan.ring.name, uuid.uuid4().hex
        ring = plan.ring.model_copy(update={"ttl_s": ttl_s})
        reply = self._admitted(replace(plan, ring=ring), reader)
        try:
            await self._link.run(begin_reading(keys, name, reader, lease_s=ttl_s))
            async with self._kept(reply, partial(_renew, keys, ring, reader)):
                yield reply
        finally:
            closing = close_ring(keys, name, reader=reader) if reply.begun else _put_back(keys, plan.ring, reader)
            await self._leave(reply, closing)

    async def settled(self, timeout_s: float = 5.0) -> None:
        """Wait until no reply is open, `timeout_s` at most: what is left then expires with its ring."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d replies are left to expire", len(self._open))

    def _admitted(self, plan: OrderPlan, reader: str = "") -> Reply:
        if len(self._open) >= self._limit:
            raise Busy(f"{self._limit} requests are being answered, which is the limit: try again in a moment")
        if self._open and sum(self._open.values()) + plan.ring.bytes > self._limit_bytes:
            raise Busy("replies take all of the memory that they may: try again in a moment, or ask for fewer images")
        reply = Reply(self._link, plan, reader)
        self._open[reply] = plan.ring.bytes
        self._idle.clear()
        return reply

    @asynccontextmanager
    async def _kept(self, reply: Reply, renew: Callable[[], Op[None]]) -> AsyncIterator[None]:
        keeper = asyncio.create_task(self._keep(reply.plan, renew))
        try:
            yield
        finally:
            keeper.cancel()

    async def _keep(self, plan: OrderPlan, renew: Callable[[], Op[None]]) -> None:
        """Keep the ring alive while its consumer is slow."""
        while True:
            await asyncio.sleep(plan.ring.ttl_s / 3)
            try:
                await self._link.run(renew())
            except (RingClosed, Conflict):
                return  # the reader finds out by itself
            except ServiceError as error:
                log.warning("order %s: %s", plan.order.id, error)
            except Exception:  # the reader must not go on without its keeper
                log.exception("order %s: its ring was not renewed", plan.order.id)

    async def _leave(self, reply: Reply, op: Op[object]) -> None:
        """Do the last step of a reply, also when its task is cancelled meanwhile."""
        leaving = asyncio.create_task(self._close(reply, op))
        self._closing.add(leaving)
        leaving.add_done_callback(self._closing.discard)
        await asyncio.shield(leaving)

    async def _close(self, reply: Reply, op: Op[object]) -> None:
        try:
            await self._link.run(op)
        except NonesuchError as error:
            log.warning("order %s is left to expire with its ring: %s", reply.plan.order.id, error)
        finally:
            self._open.pop(reply, None)
            if not self._open:
                self._idle.set()


def _renew(keys: Keys, ring: RingSpec, reader: str) -> Op[None]:
    yield from keep_reading(keys, ring.name, reader, lease_s=ring.ttl_s)
    yield from touch_ring(keys, ring)


def _put_back(keys: Keys, ring: RingSpec, reader: str) -> Op[None]:
    """Leave an order to its next reader."""
    if (yield from stop_reading(keys, ring.name, reader)):
        with suppress(RingClosed):
            yield from touch_ring(keys, ring)
