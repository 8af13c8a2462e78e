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
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Literal, TypeVar

from pydantic import Field

from nonesuch.catalog import read_catalog
from nonesuch.effects import Op
from nonesuch.errors import TakeTimeout, Unreachable
from nonesuch.host.stopping import check
from nonesuch.link.patience import PASSING, SAY_S, Patience
from nonesuch.model import Frozen
from nonesuch.orders import cancel, place
from nonesuch.rings import Delivery, RingSpec, close_ring, open_ring, release, take, touch_ring
from nonesuch.smoothed.intake import Intake
from nonesuch.snapshots import SnapshotHeader, publish

T = TypeVar("T")
OnProgress = Callable[[int, int], None]
"""Told how many images have come, and of how many."""

SLICE_S = 0.5
"""How long a stop has to wait for a blocked take at most."""
POLL_S = 0.05
"""Between two looks into the ring while an epoch trains."""


class Wait(Frozen):
    """Wait for every image that was ordered."""

    kind: Literal["wait"] = "wait"
    patience_s: float = Field(default=600.0, gt=0)
    """It ends with `TakeTimeout` when no batch at all comes for this long."""


class Skip(Frozen):
    """Go on with what has come, and report it: r is then smaller than asked for."""

    kind: Literal["skip"]
    patience_s: float = Field(default=5.0, ge=0)
    """How long an epoch that is trained waits for its images."""


class Supply:
    """A run's ring and what goes through it. Every method but `close` raises what `Patience.run` raises."""

    def __init__(self, patience: Patience, ring: RingSpec, stop: threading.Event) -> None:
        self._patience, self._link, self._keys = patience, patience.link, patience.link.keys
        self._ring = ring
        self._stop = stop
        self._published: defaultdict[str, deque[tuple[SnapshotHeader, bytes]]] = defaultdict(lambda: deque(maxlen=2))
        """By channel; an open order names one of them."""
        self._intake: Intake | None = None
        self._in_doubt = False
        """Whether Redis may have forgotten something since it was last put back."""
        self._next_poll = 0.0

    def open(self) -> None:
        """Open the ring, empty. What this run has left in it when it was killed is dropped: it is minted again."""
        if self._patience.run(partial(close_ring, self._keys, self._ring.name)):
            self._patience.say(f"dropped ring {self._ring.name!r}, which a killed run had left")
        self._patience.run(partial(open_ring, self._keys, self._ring))

    def publish(self, header: SnapshotHeader, payload: bytes) -> None:
        """Publish a snapshot on a channel of the ring. Raises `Conflict` unless its version is the highest."""
        self._published[header.channel].append((header, payload))
        self._run(partial(self._publish, header, payload))

    def place(self, intake: Intake) -> None:
        """Place an intake's orders; from now on it gets their batches. Raises what `orders.place` raises."""
        self._intake = intake
        for order in intake.orders:
            self._run(partial(place, self._keys, order))

    def poll(self) -> None:
        """Take what is there, so that the workers go on. Trouble that may pass is left to `collect`.

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

    def collect(self, late: Wait | Skip, on_progress: OnProgress) -> None:
        """Take batches until the intake's orders have ended; with `Skip`, until its patience is over.

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
                self._withdraw(intake)
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

    def close(self) -> None:
        """Close the ring: its orders and snapshots go with it. Does not wait for a Redis that is away."""
        for left in (1, 0):  # the first try may only find that its connection is from before a restart
            try:
                self._link.run(close_ring(self._keys, self._ring.name))
                return
            except Unreachable as error:
                if not left:
                    self._patience.say(f"ring {self._ring.name!r} is left to expire: {error}")

    def _publish(self, header: SnapshotHeader, payload: bytes) -> Op[None]:
        yield from touch_ring(self._keys, self._ring)  # a Redis that was restarted has to get the versions in order
        yield from publish(self._keys, header, payload)

    def _take_one(self, intake: Intake, timeout_s: float) -> Op[None]:
        entry = yield from take(self._keys, self._ring, timeout_s=timeout_s)
        if isinstance(entry, Delivery):
            intake.add(entry)
        else:
            intake.end(entry)
        yield from release(self._keys, self._ring, entry)

    def _drain(self, intake: Intake) -> None:
        """Take what is in the ring."""
        with suppress(TakeTimeout):
            while intake.open:
                self._link.run(self._whole(partial(self._take_one, intake, 0.0)))

    def _withdraw(self, intake: Intake) -> None:
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
            for header, payload in chain.from_iterable(self._published.values()):
                yield from publish(self._keys, header, payload)
            if self._intake is not None:
                for order in self._intake.open:
                    yield from place(self._keys, order, done=sorted(self._intake.tickets[order.id]))
            self._in_doubt = False
        return (yield from make())
