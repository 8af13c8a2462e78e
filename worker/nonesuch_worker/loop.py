"""The ticket loop: what a worker does, without Ray.

    loop    waits for: a ticket ───────── unblocked by: an order, a released slot, a lost lease (bell, 1 s at most)
    pulse   waits for: its interval ───── renews the lease in hand, announces the worker, sweeps for the others

The loop holds one ticket at a time. A ticket that cannot be made for a reason that will not change (`InvalidValue`,
`GeneratorNotFound`) ends its order; any other error gives it back, and the order ends when it was tried too often.
That goes for a missing snapshot too: when Redis was restarted, its owner is about to publish it again. While Redis is
away the loop waits, then goes on; a minted batch is kept and committed when Redis is back.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from nonesuch.catalog import HEARTBEAT_S, Counted, WorkerInfo, announce, withdraw
from nonesuch.errors import GeneratorNotFound, InvalidValue, ServiceError, Unreachable
from nonesuch.link import Link, Op
from nonesuch.orders import Order
from nonesuch.schema import write_batch
from nonesuch.tally import NOTHING, Tally
from nonesuch.tickets import (
    LEASE_S,
    CommitResult,
    Ticket,
    claim,
    commit,
    fail_order,
    give_back,
    renew,
    sweep,
    wait_for_bell,
)
from nonesuch_worker.minter import MintedTicket

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_S = 0.5
"""Between two tries while Redis is away."""
FULL_S = 0.01
"""Before a commit is tried again that found every slot of a `latest` ring in its consumer's hands."""


class Mints(Protocol):
    """Whatever turns a ticket into a batch (`service.MintingService`, or a fake in tests)."""

    def mint(self, ticket: Ticket) -> MintedTicket: ...


class TicketLoop:
    """Claims tickets, mints them, commits them, until `stop`. `run` blocks; the rest may be called from any thread."""

    def __init__(self, link: Link, mints: Mints, info: WorkerInfo, *, lease_s: float = LEASE_S) -> None:
        if lease_s <= HEARTBEAT_S:
            raise InvalidValue(f"a lease of {lease_s} s ends before it is renewed: give more than {HEARTBEAT_S} s")
        self._link = link
        self._keys = link.keys
        self._mints = mints
        self._info = info
        self._lease_s = lease_s
        self._generators = [g.id for g in info.generators]
        self._stop = threading.Event()
        self._in_hand: Ticket | None = None
        self._tickets = 0
        self._images = 0
        self._tallies: dict[tuple[str, tuple[str, ...]], Tally] = {}

    def stop(self) -> None:
        """Ask `run` to return after the ticket in hand."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`. Leaves the catalogue on the way out."""
        pulse = threading.Thread(target=self._pulse, name="pulse", daemon=True)
        pulse.start()
        try:
            while not self._stop.is_set():
                ticket = self._patiently(lambda: claim(self._keys, self._generators, lease_s=self._lease_s))
                if ticket is not None:
                    self._work(ticket)
                elif not self._stop.is_set():
                    self._patiently(lambda: wait_for_bell(self._keys))
        finally:
            self._stop.set()
            pulse.join()
            self._leave()

    def _work(self, ticket: Ticket) -> None:
        self._in_hand = ticket
        try:
            minted = self._mints.mint(ticket)
        except (InvalidValue, GeneratorNotFound) as error:
            log.warning("%s cannot be made: %s", ticket, error)
            reason = str(error)
            self._patiently(lambda: fail_order(self._keys, ticket, reason))
        except Exception as error:
            log.exception("%s failed in attempt %d", ticket, ticket.attempt)
            reason = f"{type(error).__name__}: {error}"
            self._patiently(lambda: give_back(self._keys, ticket, reason))
        except BaseException:  # told to exit: the ticket goes back without counting the attempt
            with suppress(ServiceError):
                self._link.run(give_back(self._keys, ticket))
            raise
        else:
            self._commit(ticket, minted)
        finally:
            self._in_hand = None

    def _commit(self, ticket: Ticket, minted: MintedTicket) -> None:
        payload, rows = write_batch(minted.batch), minted.batch.num_rows

        def delivered() -> Op[CommitResult]:
            return commit(self._keys, ticket, payload, rows, minted.tally)

        while (result := self._patiently(delivered)) == "full":
            if self._stop.wait(FULL_S):
                self._patiently(lambda: give_back(self._keys, ticket))
                return
        if result == "committed":
            self._tickets += 1
            self._images += rows
            self._count(ticket.order, minted.tally)
        elif result == "too large":
            reason = f"{len(payload)} bytes do not fit into a slot of ring {ticket.order.sink!r}: order smaller tickets"
            self._patiently(lambda: fail_order(self._keys, ticket, reason))
        else:
            log.info("%s was dropped: %s", ticket, result)

    def _count(self, order: Order, tally: Tally) -> None:
        if tally:
            key = (order.strategy, order.generators)
            # A new dict: the pulse reads it from its own thread.
            self._tallies = {**self._tallies, key: self._tallies.get(key, NOTHING) + tally}

    def _patiently(self, operation: Callable[[], Op[T]]) -> T | None:
        """Run an operation, waiting for Redis while it is away. None if told to stop meanwhile."""
        away = False
        while True:
            try:
                result = self._link.run(operation())
            except ServiceError as error:
                if not away:
                    log.warning("waiting for Redis: %s", error)
                away = True
                if self._stop.wait(RETRY_S):
                    return None
            else:
                if away:
                    log.info("Redis is back")
                return result

    def _pulse(self) -> None:
        while True:
            try:
                self._beat()
            except ServiceError as error:
                log.debug("no heartbeat: %s", error)
            if self._stop.wait(HEARTBEAT_S):
                return

    def _beat(self) -> None:
        ticket = self._in_hand
        if ticket is not None:
            self._link.run(renew(self._keys, ticket, lease_s=self._lease_s))
        tallies = tuple(
            Counted(strategy=strategy, generators=generators, counters=tally.counters())
            for (strategy, generators), tally in self._tallies.items()
        )
        counted = {"tickets": self._tickets, "images": self._images, "tallies": tallies}
        self._link.run(announce(self._keys, self._info.model_copy(update=counted)))
        swept = self._link.run(sweep(self._keys))
        if swept.tickets or swept.orders or swept.rings:
            log.info("swept: %s", swept)

    def _leave(self) -> None:
        try:
            self._link.run(withdraw(self._keys, self._info.id))
        except Unreachable:
            log.debug("Redis is away: the heartbeat lapses by itself")
