"""The committer, without a Redis: what becomes of a minted ticket, and what is counted."""

import threading
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest

from nonesuch.errors import InvalidValue
from nonesuch.schema import read_batch, write_batch
from nonesuch.tally import Tally
from nonesuch.tickets import CommitResult, Ticket
from nonesuch_worker.minting.committer import Committer
from nonesuch_worker.minting.minter import MintedTicket
from tests.helpers.fakes import order, payload

TICKET = Ticket(order("o"), 1)
TALLY = Tally(tried=Counter({1: 3}))


class FakeHand:
    """Answers commits as it is told, and remembers how tickets were parted with."""

    def __init__(self, *answers: CommitResult | Exception | None, then: Callable[[], None] = lambda: None) -> None:
        self.answers = list(answers)
        self.then = then
        """Called with every commit."""
        self.committed: list[bytes] = []
        self.parted: list[tuple[str, str]] = []

    def commit(self, ticket: Ticket, payload: bytes, rows: int, tally: Tally) -> CommitResult | None:
        assert (ticket, rows, tally) == (TICKET, 2, TALLY)
        self.then()
        self.committed.append(payload)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def give_back(self, ticket: Ticket, reason: str = "") -> None:
        self.parted.append(("given back", reason))

    def fail(self, ticket: Ticket, reason: str) -> None:
        self.parted.append(("failed", reason))

    def drop(self, ticket: Ticket) -> None:
        self.parted.append(("dropped", ""))


def minted() -> MintedTicket:
    return MintedTicket(lambda: read_batch(payload(TICKET)), TALLY)


def test_what_is_committed_is_the_encoded_batch_and_counts() -> None:
    hand = FakeHand("committed", "duplicate", "committed")
    committer = Committer(hand, threading.Event())
    for _ in range(3):
        committer.deliver(TICKET, minted())
    assert hand.committed == [write_batch(minted().batch)] * 3
    assert hand.parted == [("dropped", "")] * 3
    counts = committer.counts()
    assert (counts["tickets"], counts["images"]) == (2, 4)
    (counted,) = counts["tallies"]
    assert (counted.strategy, counted.generators) == ("random", ("fake",))
    assert Tally.from_counters(counted.counters) == TALLY + TALLY


@pytest.mark.parametrize("answer", ["duplicate", "closed", None])
def test_what_is_not_wanted_any_more_is_dropped_and_not_counted(answer: CommitResult | None) -> None:
    hand = FakeHand(answer)
    committer = Committer(hand, threading.Event())
    committer.deliver(TICKET, minted())
    assert hand.parted == [("dropped", "")]
    assert committer.counts() == {"tickets": 0, "images": 0, "tallies": ()}


def test_a_full_ring_is_tried_again() -> None:
    hand = FakeHand("full", "full", "committed")
    committer = Committer(hand, threading.Event())
    committer.deliver(TICKET, minted())
    assert len(hand.committed) == 3 and committer.counts()["tickets"] == 1


def test_a_full_ring_gets_its_ticket_back_from_a_worker_that_stops() -> None:
    stop = threading.Event()
    hand = FakeHand("full", then=stop.set)
    Committer(hand, stop).deliver(TICKET, minted())
    assert hand.parted == [("given back", ""), ("dropped", "")]  # the attempt does not count


def test_a_batch_too_large_for_its_slot_ends_the_order_with_the_remedy() -> None:
    hand = FakeHand("too large")
    Committer(hand, threading.Event()).deliver(TICKET, minted())
    (how, reason), _ = hand.parted
    assert how == "failed" and "do not fit into a slot of ring 'ring': order smaller tickets" in reason


def test_what_fails_gives_the_ticket_back_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    def lost() -> pa.RecordBatch:
        raise RuntimeError("the device is lost")

    hand = FakeHand()
    Committer(hand, threading.Event()).deliver(TICKET, MintedTicket(lost, TALLY))
    assert hand.parted == [("given back", "RuntimeError: the device is lost"), ("dropped", "")]
    assert "ticket 1 [2, 4) of order o could not be committed in attempt 1" in caplog.text

    hand = FakeHand(ValueError("no permission"))
    Committer(hand, threading.Event()).deliver(TICKET, minted())
    assert hand.parted[0] == ("given back", "ValueError: no permission")


def test_images_that_turn_out_not_to_be_finite_end_their_order() -> None:
    def overflowed() -> pa.RecordBatch:
        raise InvalidValue("1 of 2 images are not finite")

    hand = FakeHand()
    Committer(hand, threading.Event()).deliver(TICKET, MintedTicket(overflowed, TALLY))
    assert hand.parted == [("failed", "1 of 2 images are not finite"), ("dropped", "")]
