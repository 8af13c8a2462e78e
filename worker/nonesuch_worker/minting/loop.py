"""The ticket loop: what a worker does, without Ray.

    loop        waits for: a heartbeat of its own ─ unblocked by: the pulse, which could announce the worker
                then for:  a ticket ─────────────── unblocked by: an order, a released slot, a lost lease (bell, 1 s)
                then for:  the ticket before it ─── unblocked by: the committer, which is through with it
    committer   waits for: a minted ticket ──────── unblocked by: the loop
                then for:  its images, Redis ────── unblocked by: the device, Redis; with a full `latest` ring a release
    pulse       waits for: its interval ─────────── renews the leases in hand, announces the worker, sweeps for others

Two tickets are in hand at most, one being minted and one being delivered, so that the device goes on while the last
batch is copied out, encoded and committed. A ticket is claimed only when one can be minted, and its slot is reserved
by the claim: with two in hand, too, no worker holds a batch that nobody has room for.

A ticket that cannot be made for a reason that will not change (`InvalidValue`, `GeneratorNotFound`) ends its order; any
other error gives it back, and the order ends when it was tried too often. That goes for a missing snapshot too: when
Redis was restarted, its owner is about to publish it again. While Redis is away the loop waits, then goes on; a minted
batch is kept and committed when Redis is back, and one more is minted behind it.

No part goes on without the others. A worker whose heartbeat has lapsed, for whatever reason, claims nothing until it is
in the catalogue again; what ends the pulse or the committer ends the loop, and `run` raises it.
"""

import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from nonesuch.catalog import HEARTBEAT_S, HEARTBEAT_TTL_S, announce, withdraw
from nonesuch.errors import GeneratorNotFound, InvalidValue, ServiceError
from nonesuch.link import Link
from nonesuch.offers import WorkerInfo
from nonesuch.tickets import LEASE_S, Ticket, sweep
from nonesuch_worker.minting.committer import Committer
from nonesuch_worker.minting.hand import Hand
from nonesuch_worker.minting.minter import MintedTicket

log = logging.getLogger(__name__)

UNSEEN_S = 0.05
"""Seconds between two looks whether the worker is in the catalogue, when it is not."""


class Mints(Protocol):
    """Whatever turns a ticket into a batch (`service.MintingService`, or a fake in tests)."""

    def mint(self, ticket: Ticket) -> MintedTicket: ...


class TicketLoop:
    """Claims tickets, mints them, commits them, until `stop`. `run` blocks; the rest may be called from any thread."""

    def __init__(self, link: Link, mints: Mints, info: WorkerInfo, *, lease_s: float = LEASE_S) -> None:
        if lease_s <= HEARTBEAT_S:
            raise InvalidValue(f"a lease of {lease_s} s ends before it is renewed: give more than {HEARTBEAT_S} s")
        self._link = link
        self._mints = mints
        self._info = info
        self._generators = [g.id for g in info.generators]
        self._stop = threading.Event()
        self._through = threading.Event()
        self._hand = Hand(link, self._stop, lease_s=lease_s)
        self._committer = Committer(self._hand, self._stop)
        self._committing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="committer")
        self._delivery: Future[None] | None = None
        self._seen_until = -math.inf
        """When the last heartbeat lapses, by the monotonic clock."""
        self._pulse_error: BaseException | None = None

    def stop(self) -> None:
        """Ask `run` to return after the tickets in hand."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop`; once. Finishes the tickets in hand and leaves the catalogue on the way out.

        Raises what ended the pulse or the committer.
        """
        pulse = threading.Thread(target=self._pulse, name="pulse", daemon=True)
        pulse.start()
        try:
            while not self._stop.is_set():
                if time.monotonic() > self._seen_until:
                    self._stop.wait(UNSEEN_S)
                    continue
                ticket = self._hand.claim(self._generators)
                if ticket is not None:
                    self._work(ticket)
                elif not self._stop.is_set():
                    self._hand.wait_for_bell()
        finally:
            self._stop.set()
            self._committing.shutdown()
            self._through.set()
            pulse.join()
            self._leave()
        self._settle()
        if self._pulse_error is not None:
            raise self._pulse_error

    def _work(self, ticket: Ticket) -> None:
        try:
            minted = self._mint(ticket)
            if minted is not None:
                self._settle()
                self._delivery = self._committing.submit(self._committer.deliver, ticket, minted)
                self._delivery.add_done_callback(self._stop_if_failed)
        except BaseException:  # told to exit, or the committer has ended: the attempt does not count
            self._stop.set()
            self._hand.give_back(ticket)
            raise

    def _mint(self, ticket: Ticket) -> MintedTicket | None:
        """Mint a ticket; None if it could not be made, which its order was told."""
        try:
            return self._mints.mint(ticket)
        except (InvalidValue, GeneratorNotFound) as error:
            log.warning("%s cannot be made: %s", ticket, error)
            self._hand.fail(ticket, str(error))
        except Exception as error:
            log.exception("%s failed in attempt %d", ticket, ticket.attempt)
            self._hand.give_back(ticket, f"{type(error).__name__}: {error}")
        return None

    def _settle(self) -> None:
        """Wait for the delivery of the ticket before. Raises what ended the committer, if something did."""
        if self._delivery is not None:
            self._delivery.result()

    def _stop_if_failed(self, delivery: Future[None]) -> None:
        """A committer that cannot even give a ticket back has lost its Redis for good: `run` raises its error."""
        if delivery.exception() is not None:
            self._stop.set()

    def _pulse(self) -> None:
        while True:
            try:
                self._beat()
            except ServiceError as error:
                log.debug("no heartbeat: %s", error)
            except BaseException as error:
                log.error("no more heartbeats, so this worker ends: %s: %s", type(error).__name__, error)
                self._pulse_error = error
                self._stop.set()
                return
            if self._through.wait(HEARTBEAT_S):
                return

    def _beat(self) -> None:
        self._hand.renew()
        began = time.monotonic()
        self._link.run(announce(self._link.keys, self._info.model_copy(update=self._committer.counts())))
        self._seen_until = began + HEARTBEAT_TTL_S
        swept = self._link.run(sweep(self._link.keys))
        if swept.tickets or swept.orders or swept.rings:
            log.info("swept: %s", swept)

    def _leave(self) -> None:
        try:
            self._link.run(withdraw(self._link.keys, self._info.id))
        except ServiceError as error:
            log.debug("the heartbeat lapses by itself: %s", error)
