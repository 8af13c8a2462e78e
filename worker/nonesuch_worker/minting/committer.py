"""What becomes of a minted ticket: it is encoded and committed, whatever it takes."""

import logging
import threading

from nonesuch.errors import InvalidValue
from nonesuch.offers import Counted
from nonesuch.orders import Order
from nonesuch.schema import write_batch
from nonesuch.tally import NOTHING, Tally
from nonesuch.tickets import Ticket
from nonesuch_worker.minting.hand import Hand
from nonesuch_worker.minting.minter import MintedTicket

log = logging.getLogger(__name__)

FULL_S = 0.01
"""Seconds before a commit is tried again that found every slot of a `latest` ring in its consumer's hands."""


class Committer:
    """Delivers minted tickets, one at a time, and counts them. The counts may be read in any thread."""

    def __init__(self, hand: Hand, stop: threading.Event) -> None:
        self._hand = hand
        self._stop = stop
        self._tickets = 0
        self._images = 0
        self._tallies: dict[tuple[str, tuple[str, ...]], Tally] = {}

    def deliver(self, ticket: Ticket, minted: MintedTicket) -> None:
        """Part with a ticket, in one way or another: it is committed, dropped, or given back.

        Blocks until its images are on the host, while Redis is away, and while every slot of a `latest` ring is in its
        consumer's hands. Raises nothing of the ticket's: what fails gives it back, and the attempt counts; images that
        turn out not to be finite end its order.
        """
        try:
            batch = minted.batch
            self._commit(ticket, write_batch(batch), batch.num_rows, minted.tally)
        except InvalidValue as error:
            log.warning("%s cannot be made: %s", ticket, error)
            self._hand.fail(ticket, str(error))
        except Exception as error:
            log.exception("%s could not be committed in attempt %d", ticket, ticket.attempt)
            self._hand.give_back(ticket, f"{type(error).__name__}: {error}")
        finally:
            self._hand.drop(ticket)

    def counts(self) -> dict[str, object]:
        """What was committed so far, as fields of `WorkerInfo`."""
        tallies = tuple(
            Counted(strategy=strategy, generators=generators, counters=tally.counters())
            for (strategy, generators), tally in self._tallies.items()
        )
        return {"tickets": self._tickets, "images": self._images, "tallies": tallies}

    def _commit(self, ticket: Ticket, payload: bytes, rows: int, tally: Tally) -> None:
        while (result := self._hand.commit(ticket, payload, rows, tally)) == "full":
            if self._stop.wait(FULL_S):
                self._hand.give_back(ticket)
                return
        if result == "committed":
            self._tickets += 1
            self._images += rows
            self._count(ticket.order, tally)
        elif result == "too large":
            reason = f"{len(payload)} bytes do not fit into a slot of ring {ticket.order.sink!r}: order smaller tickets"
            self._hand.fail(ticket, reason)
        elif result is None:
            log.warning("%s is lost with this worker, which stops while Redis is away: another will make it", ticket)
        else:
            log.info("%s was dropped: %s", ticket, result)

    def _count(self, order: Order, tally: Tally) -> None:
        if tally:
            key = (order.strategy, order.generators)
            # A new dict: the pulse reads it from its own thread.
            self._tallies = {**self._tallies, key: self._tallies.get(key, NOTHING) + tally}
