"""The tickets that a worker has in hand: claimed, and neither committed nor given back."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from nonesuch.effects import Op
from nonesuch.errors import ServiceError
from nonesuch.link import Link
from nonesuch.tally import Tally
from nonesuch.tickets import LEASE_S, CommitResult, Ticket, claim, commit, fail_order, give_back, renew, wait_for_bell

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_S = 0.5
"""Seconds between two tries while Redis is away."""


class Hand:
    """Claims tickets and parts with them, and waits for Redis while it is away: every call blocks as long.

    Once `stop` is set, nothing waits any more: what Redis does not hear then is left to the lease, which runs out. May
    be used from several threads.
    """

    def __init__(self, link: Link, stop: threading.Event, *, lease_s: float = LEASE_S) -> None:
        self._link = link
        self._keys = link.keys
        self._stop = stop
        self._lease_s = lease_s
        self._tickets: list[Ticket] = []
        # Held while leases are renewed: a ticket that was given back meanwhile would be taken from its next worker.
        self._lock = threading.Lock()

    def claim(self, generators: Sequence[str]) -> Ticket | None:
        """Take the next ticket of orders for these generators into the hand. None if there is none now."""
        ticket = self._patiently(lambda: claim(self._keys, generators, lease_s=self._lease_s))
        if ticket is not None:
            with self._lock:
                self._tickets.append(ticket)
        return ticket

    def wait_for_bell(self) -> None:
        """Block until there may be something to claim, 1 s at most."""
        self._patiently(lambda: wait_for_bell(self._keys))

    def renew(self) -> None:
        """Renew the leases in hand. The one call that does not wait: raises `ServiceError` while Redis is away."""
        with self._lock:
            for ticket in self._tickets:
                self._link.run(renew(self._keys, ticket, lease_s=self._lease_s))

    def commit(self, ticket: Ticket, payload: bytes, rows: int, tally: Tally) -> CommitResult | None:
        """Commit a batch, as `tickets.commit` does; None if Redis could not be asked before the worker had to stop."""
        return self._patiently(lambda: commit(self._keys, ticket, payload, rows, tally))

    def drop(self, ticket: Ticket) -> None:
        """Part with a ticket: its lease is not renewed any more. Does nothing if it is not in hand."""
        with self._lock:
            self._tickets = [t for t in self._tickets if t is not ticket]

    def give_back(self, ticket: Ticket, reason: str = "") -> None:
        """Part with a ticket that another worker shall make. With a reason it was a failure, and the attempt counts."""
        self.drop(ticket)
        self._patiently(lambda: give_back(self._keys, ticket, reason))

    def fail(self, ticket: Ticket, reason: str) -> None:
        """Part with a ticket that no worker could ever make, and end its order."""
        self.drop(ticket)
        self._patiently(lambda: fail_order(self._keys, ticket, reason))

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
