"""The loop and its committer: one ticket is minted while the one before is delivered, and none is lost on the way."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis.exceptions import ResponseError

from nonesuch.catalog import announce, read_catalog
from nonesuch.config import RedisSettings
from nonesuch.errors import Unreachable
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.orders import place
from nonesuch.rings import Delivery, open_ring, take
from nonesuch.schema import read_batch
from nonesuch.tickets import Ticket, claim
from nonesuch_worker.minting import loop as loop_module
from nonesuch_worker.minting.hand import RETRY_S
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import MintedTicket
from tests.helpers.counters import ring_stats
from tests.helpers.fakes import WORKER, order, payload, ring
from tests.helpers.loops import RING, Minting, Watched, collect, working

WAIT_S = 10.0


class Gate:
    """Holds one operation of a link, the first of its name, until it is opened."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, name: str) -> None:
        if name == self.name and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(WAIT_S)


class Running:
    """A loop in a thread, and what it raised."""

    def __init__(self, loop: TicketLoop) -> None:
        self.loop = loop
        self.raised: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.raised = error

    def join(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def watched(redis_url: str) -> Iterator[Watched]:
    """A link to a Redis in which the ring is open and a worker has announced itself."""
    with Watched(RedisSettings(url=redis_url), lambda name: None) as link:
        link.run(announce(link.keys, WORKER))
        link.run(open_ring(link.keys, RING))
        yield link


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def leases(link: Link) -> int:
    def count():
        return (yield Call("ZCARD", link.keys.leases))

    return link.run(count())


def test_the_next_ticket_is_minted_before_the_commit_of_the_last_has_ended(link: Link, watched: Watched) -> None:
    begun = threading.Event()
    minting = Minting(lambda ticket: begun.set() if ticket.number == 1 else None)
    seen = []

    def before(name: str) -> None:
        if name == "commit" and not seen:
            seen.append(begun.wait(WAIT_S))

    watched.before = before
    with working(watched, minting):
        link.run(place(link.keys, order("o")))
        assert collect(link)[1].state == "done"
    assert seen == [True]


def test_a_commit_that_is_held_up_stops_the_loop_after_one_further_ticket(link: Link, watched: Watched) -> None:
    gate = watched.before = Gate("commit")
    minting = Minting()
    with working(watched, minting):
        link.run(place(link.keys, order("o")))
        until(lambda: minting.tickets == [0, 1])
        time.sleep(0.2)
        assert minting.tickets == [0, 1] and leases(link) == 2
        assert link.run(ring_stats(link.keys, "ring")).reserved == 2
        gate.opened.set()
        batches, end = collect(link)
    assert end.state == "done" and list(batches) == minting.tickets == [0, 1, 2, 3, 4]  # in their order


def test_a_full_ring_leaves_its_tickets_unclaimed(link: Link) -> None:
    minting = Minting()
    link.run(open_ring(link.keys, RING))
    with working(link, minting):
        link.run(place(link.keys, order("o", count=20)))
        until(lambda: link.run(ring_stats(link.keys, "ring")).unread == RING.slots)
        time.sleep(0.2)
        assert minting.tickets == [0, 1, 2, 3] and leases(link) == 0
        assert collect(link)[1].state == "done"


def test_stopping_during_a_commit_delivers_both_tickets(link: Link, watched: Watched) -> None:
    gate = watched.before = Gate("commit")
    minting = Minting()
    link.run(place(link.keys, order("o")))
    running = Running(TicketLoop(watched, minting, WORKER))
    until(lambda: minting.tickets == [0, 1])
    running.loop.stop()
    gate.opened.set()
    running.join()
    assert running.raised is None and minting.tickets == [0, 1]
    assert link.run(ring_stats(link.keys, "ring")).unread == 2 and leases(link) == 0
    assert link.run(read_catalog(link.keys)).workers == ()


def test_stopping_gives_both_tickets_back_that_a_latest_ring_has_no_slot_for(link: Link) -> None:
    newest = ring("newest", policy="latest", slots=1)
    link.run(announce(link.keys, WORKER))
    link.run(open_ring(link.keys, newest))
    link.run(place(link.keys, order("o", sink="newest")))
    taken = threading.Event()

    def once_it_was_taken(ticket: Ticket) -> None:
        if ticket.number:
            assert taken.wait(WAIT_S)

    minting = Minting(once_it_was_taken)
    running = Running(TicketLoop(link, minting, WORKER))
    first = link.run(take(link.keys, newest, timeout_s=WAIT_S))
    assert isinstance(first, Delivery) and first.ticket == 0
    taken.set()
    until(lambda: minting.tickets == [0, 1, 2])
    running.loop.stop()
    running.join()
    assert running.raised is None and leases(link) == 0
    again = [link.run(claim(link.keys, ["fake"])) for _ in range(2)]
    assert [(t.number, t.attempt) for t in again if t] == [(1, 1), (2, 1)]


def test_both_tickets_keep_their_leases_and_a_stopping_worker_s_too(
    link: Link, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "HEARTBEAT_S", 0.05)
    gate = watched.before = Gate("commit")
    second = threading.Event()

    def before(ticket: Ticket) -> None:
        if ticket.number:
            second.set()
            time.sleep(0.6)

    slowly = Minting(before)
    link.run(place(link.keys, order("o", count=4)))
    running = Running(TicketLoop(watched, slowly, WORKER, lease_s=0.2))
    assert gate.reached.wait(WAIT_S) and second.wait(WAIT_S)
    running.loop.stop()
    idle = Minting()
    other = Running(TicketLoop(link, idle, WORKER.model_copy(update={"id": "w1"}), lease_s=0.2))
    until(lambda: slowly.tickets == [0, 1])
    gate.opened.set()
    running.join()
    assert collect(link)[1].state == "done"
    other.loop.stop()
    other.join()
    assert idle.tickets == [] and running.raised is None


def test_while_redis_is_away_what_was_minted_is_kept_and_little_more_is_minted(link: Link, watched: Watched) -> None:
    away = threading.Event()
    away.set()

    def before(name: str) -> None:
        if name == "commit" and away.is_set():
            raise Unreachable("no answer")

    watched.before = before
    minting = Minting()
    with working(watched, minting):
        link.run(place(link.keys, order("o")))
        until(lambda: watched.operations.count("commit") >= 2)
        assert minting.tickets == [0, 1]
        away.clear()
        batches, end = collect(link)
    assert end.state == "done" and list(batches) == minting.tickets == [0, 1, 2, 3, 4]  # none was made twice


def test_a_worker_that_must_stop_while_redis_is_away_leaves_its_tickets_to_the_lease(
    link: Link, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    def before(name: str) -> None:
        if name == "commit":
            raise Unreachable("no answer")

    watched.before = before
    minting = Minting()
    link.run(place(link.keys, order("o")))
    running = Running(TicketLoop(watched, minting, WORKER))
    until(lambda: minting.tickets == [0, 1])
    running.loop.stop()
    running.join()
    assert running.raised is None and leases(link) == 2
    for number in (0, 1):
        assert f"ticket {number} " in caplog.text
    assert caplog.text.count("another will make it") == 2


def test_a_batch_whose_order_was_lost_with_redis_is_dropped_and_the_loop_goes_on() -> None:
    with PrivateRedis() as private, Watched(RedisSettings(url=private.url), Gate("commit")) as watched:
        assert isinstance(watched.before, Gate)
        minting = Minting()
        with Link(watched.settings) as link, working(watched, minting):
            link.run(open_ring(link.keys, RING))
            link.run(place(link.keys, order("o")))
            until(lambda: minting.tickets == [0, 1])
            private.kill()
            watched.before.opened.set()
            time.sleep(RETRY_S / 2)
            private.start()
            until(lambda: bool(link.run(read_catalog(link.keys)).workers))
            link.run(open_ring(link.keys, RING))
            link.run(place(link.keys, order("again")))
            batches, end = collect(link)
    assert (end.order, end.state) == ("again", "done") and sorted(batches) == [0, 1, 2, 3, 4]
    assert all(read_batch(batch).column("order")[0].as_py() == "again" for batch in batches.values())


@pytest.mark.parametrize("told", [KeyboardInterrupt, SystemExit])
def test_being_told_to_exit_gives_a_ticket_back_and_delivers_the_other(
    link: Link, watched: Watched, told: type[BaseException]
) -> None:
    gate = watched.before = Gate("commit")

    def interrupted(ticket: Ticket) -> None:
        if ticket.number == 1:
            raise told

    link.run(place(link.keys, order("o")))
    running = Running(TicketLoop(watched, Minting(interrupted), WORKER))
    until(lambda: "give_back" in watched.operations)
    gate.opened.set()
    running.join()
    assert isinstance(running.raised, told)
    assert link.run(ring_stats(link.keys, "ring")).unread == 1 and leases(link) == 0
    again = link.run(claim(link.keys, ["fake"]))
    assert again is not None and (again.number, again.attempt) == (1, 1)
    assert link.run(read_catalog(link.keys)).workers == ()


def test_a_batch_that_cannot_be_joined_costs_its_ticket_an_attempt(link: Link) -> None:
    failures = iter(["the device is lost", "the device is lost"])

    class Breaking(Minting):
        def mint(self, ticket: Ticket) -> MintedTicket:
            def join():
                if ticket.number == 1 and (why := next(failures, None)):
                    raise RuntimeError(why)
                return read_batch(payload(ticket))

            self.tickets.append(ticket.number)
            return MintedTicket(join, self.tally)

    minting = Breaking()
    link.run(open_ring(link.keys, RING))
    with working(link, minting):
        link.run(place(link.keys, order("o")))
        batches, end = collect(link)
    assert end.state == "done" and sorted(batches) == [0, 1, 2, 3, 4]
    assert minting.tickets.count(1) == 3


def test_what_ends_the_committer_ends_the_loop_which_gives_the_other_ticket_back(link: Link, watched: Watched) -> None:
    broken = iter(["commit", "give_back"])
    expected = next(broken)
    begun = threading.Event()

    def before(name: str) -> None:
        nonlocal expected
        if name == expected:
            if name == "commit":
                assert begun.wait(WAIT_S)
            expected = next(broken, "")
            raise ResponseError(f"no permission to {name}")

    watched.before = before
    link.run(place(link.keys, order("o")))
    running = Running(TicketLoop(watched, Minting(lambda ticket: begun.set() if ticket.number else None), WORKER))
    running.join()
    assert isinstance(running.raised, ResponseError) and str(running.raised) == "no permission to give_back"
    assert leases(link) == 1  # of the first, which runs out
    again = link.run(claim(link.keys, ["fake"]))
    assert again is not None and (again.number, again.attempt) == (1, 1)
    assert link.run(read_catalog(link.keys)).workers == ()


def test_a_committer_that_ended_while_the_loop_is_idle_is_noticed(link: Link, watched: Watched) -> None:
    def before(name: str) -> None:
        if name in ("commit", "give_back"):
            raise ResponseError(f"no permission to {name}")

    watched.before = before
    link.run(place(link.keys, order("o", count=2)))
    running = Running(TicketLoop(watched, Minting(), WORKER))
    running.join()
    assert isinstance(running.raised, ResponseError)
