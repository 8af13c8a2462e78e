"""A training loop's border with the service: one ring, the orders of one epoch at a time, snapshots, a teacher.

    collect   waits for: a batch, the end of an order ── unblocked by: a commit, the end, the late policy, a stop
    poll      waits for nothing (it is called between training steps)
    others    wait for: Redis, workers ───────────────── unblocked by: their return, the end of patience, a stop

What a Redis that was restarted has forgotten is put back from here: ring, snapshots, orders less the tickets that came.
A batch that was on its way when a connection broke is unread again once the ring is reopened. So a batch may come
twice, and the intake drops the second.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TypeVar

from nonesuch.catalog import read_catalog
from nonesuch.classifiers.published import Snapshot
from nonesuch.effects import Op
from nonesuch.errors import NonesuchError, ServiceError, TakeTimeout
from nonesuch.host.stopping import check
from nonesuch.link import Link
from nonesuch.link.patience import PASSING, SAY_S, Patience, Say
from nonesuch.offers import Catalog
from nonesuch.orders import Order, cancel, place, wait_for_workers
from nonesuch.rings import Delivery, RingSpec, close_ring, open_ring, release, take, touch_ring
from nonesuch.smoothed.intake import Intake
from nonesuch.smoothed.settings import Skip, Wait
from nonesuch.smoothed.source import Came, OnProgress
from nonesuch.snapshots import publish

T = TypeVar("T")

SLICE_S = 0.5
"""How many seconds a stop has to wait for a blocked take at most."""
POLL_S = 0.05
"""Seconds between two looks into the ring while an epoch trains."""


def reach(link: Link, *, outage_s: float, stop: threading.Event, say: Say) -> tuple[Patience, Catalog]:
    """Patience with the service behind a link, and what its workers offer. Blocks until there is a worker.

    One that loads its data is waited for. Raises `Unreachable` and `Refused` at once for a Redis that is not there or
    takes no writes, `NoWorkers` after `outage_s`, `Stopped`.
    """
    patience = Patience(link, outage_s=outage_s, stop=stop, say=say)
    patience.begin()
    return patience, patience.run(partial(wait_for_workers, link.keys))


class Supply:
    """A dataset's ring and what goes through it. Every method but `close` raises what `Patience.run` raises."""

    def __init__(self, patience: Patience, ring: RingSpec, stop: threading.Event) -> None:
        self._patience, self._link, self._keys = patience, patience.link, patience.link.keys
        self._ring = ring
        self._stop = stop
        self._published: defaultdict[str, deque[Snapshot]] = defaultdict(lambda: deque(maxlen=2))
        """The last two snapshots of each channel; an open order names one of them."""
        self._intake: Intake | None = None
        self._in_doubt = False
        """Whether Redis may have forgotten something since it was last put back."""
        self._next_poll = 0.0

    def open(self) -> None:
        """Open the ring, empty. What this run has left in it when it was killed is dropped: it is minted again."""
        if self._patience.run(partial(close_ring, self._keys, self._ring.name)):
            self._patience.say(f"dropped ring {self._ring.name!r}, which a killed run had left")
        self._patience.run(partial(open_ring, self._keys, self._ring))

    def publish(self, snapshot: Snapshot) -> None:
        """Publish a snapshot on a channel of the ring. Raises `Conflict` unless its version is the highest."""
        self._published[snapshot.header.channel].append(snapshot)
        self._run(partial(self._publish, snapshot))

    def place(
        self,
        orders: Sequence[Order],
        image_shape: tuple[int, int, int],
        *,
        version: int = 0,
        soft_labels: int | None = None,
    ) -> None:
        """Place the orders of one epoch; from now on their batches are taken in. Raises what `orders.place` raises.

        Args:
            orders: for images (H, W, C) of `image_shape`.
            image_shape: (H, W, C).
            version: of the latest snapshot: what images count as aimed at that are aimed at none.
            soft_labels: K, the number of classes, if every image is to come with a teacher's probabilities.
        """
        self._intake = Intake(orders, image_shape, version, soft_labels)
        for order in orders:
            self._run(partial(place, self._keys, order))

    def withdraw(self) -> None:
        """Cancel what was placed and has not come. Does not wait for a Redis that is away."""
        intake, self._intake = self._intake, None
        with suppress(NonesuchError):
            for order in intake.open if intake else ():
                self._link.run(cancel(self._keys, order.id))

    def poll(self) -> None:
        """Take the batches that are there, so that the workers go on. Trouble that may pass is left to `collect`.

        Raises `OrderFailed`, `IntegrityError`.
        """
        intake = self._intake
        if intake is None or time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + POLL_S
        try:
            self._drain(intake)
        except PASSING as trouble:
            self._doubt()
            self._patience.say(f"training goes on without the service: {trouble}")
            self._next_poll = time.monotonic() + SAY_S  # to ask a host that is down takes seconds

    def collect(self, late: Wait | Skip, on_progress: OnProgress) -> Came:
        """Take batches until what was placed has ended; with `Skip`, until its patience is over.

        Raises:
            OrderFailed: an order ended without all of its tickets.
            IntegrityError: a batch is not what was ordered.
            TakeTimeout: nothing at all came for as long as `Wait` has patience.
        """
        intake = self._intake
        assert intake is not None, "place comes first"
        started = time.monotonic()
        next_line = started + SAY_S
        while intake.open:
            check(self._stop)
            now = time.monotonic()
            quiet = now - max(started, intake.last_at)
            left = started + late.patience_s - now if isinstance(late, Skip) else SLICE_S
            if left <= 0:
                self._give_up(intake)
                break
            if isinstance(late, Wait) and quiet >= late.patience_s:
                raise TakeTimeout(
                    f"no batch came for {quiet:.0f} s, {self._progress(intake)}: see what the workers say, or have "
                    "more patience (dataset.late.patience_s, timeout_s)"
                )
            if now >= next_line and quiet >= SAY_S:
                self._patience.say(f"no batch came for {quiet:.0f} s, {self._progress(intake)}")
                next_line = now + SAY_S
            with suppress(TakeTimeout):
                self._run(partial(self._take_one, intake, min(left, SLICE_S)))
                on_progress(intake.received, intake.wanted)
        self._intake = None
        return intake.came(waited_s=time.monotonic() - started)

    def close(self) -> None:
        """Close the ring: its orders and snapshots go with it. Does not wait for a Redis that is away."""
        for left in (1, 0):  # the first try may only find that its connection is from before a restart
            try:
                self._link.run(close_ring(self._keys, self._ring.name))
                return
            except ServiceError as error:
                if not left:
                    self._patience.say(f"ring {self._ring.name!r} is left to expire: {error}")

    def _publish(self, snapshot: Snapshot) -> Op[None]:
        yield from touch_ring(self._keys, self._ring)  # a Redis that was restarted has to get the versions in order
        yield from publish(self._keys, snapshot.header, snapshot.payload)

    def _take_one(self, intake: Intake, timeout_s: float) -> Op[None]:
        entry = yield from take(self._keys, self._ring, timeout_s=timeout_s)
        if isinstance(entry, Delivery):
            intake.add(entry)
        else:
            intake.end(entry)
        yield from release(self._keys, self._ring, entry)

    def _drain(self, intake: Intake) -> None:
        """Take in everything that is in the ring."""
        with suppress(TakeTimeout):
            while intake.open:
                self._link.run(self._whole(partial(self._take_one, intake, 0.0)))

    def _give_up(self, intake: Intake) -> None:
        """Cancel what has not come; what lies in the ring by now is still taken in."""
        orders = intake.withdraw()
        for order in orders:
            self._patience.run(partial(cancel, self._keys, order.id))
        with suppress(*PASSING):
            self._drain(intake)

    def _progress(self, intake: Intake) -> str:
        came = sum(len(tickets) for tickets in intake.tickets.values())
        workers = len(self._patience.run(partial(read_catalog, self._keys)).workers)
        wanted = sum(order.tickets for order in intake.orders)
        return f"{came} of {wanted} tickets of {intake.orders[0].id} are here, {workers} workers are connected"

    def _run(self, make: Callable[[], Op[T]]) -> T:
        return self._patience.run(partial(self._whole, make), self._doubt)

    def _doubt(self) -> None:
        self._in_doubt = True

    def _whole(self, make: Callable[[], Op[T]]) -> Op[T]:
        """An operation, after what Redis may have forgotten was put back; what it has not forgotten stays as it is."""
        if self._in_doubt:
            yield from open_ring(self._keys, self._ring)
            for snapshot in chain.from_iterable(self._published.values()):
                yield from publish(self._keys, snapshot.header, snapshot.payload)
            if self._intake is not None:
                for order in self._intake.open:
                    yield from place(self._keys, order, done=sorted(self._intake.tickets[order.id]))
            self._in_doubt = False
        return (yield from make())
