"""Orders and tickets: each index exactly once, whatever happens to the workers."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonesuch.errors import Busy, GeneratorNotFound, InvalidOrder, NoWorkers, RingClosed, SnapshotNotFound
from nonesuch.link import Call, Link
from nonesuch.orders import Progress, cancel, check_order, place, progress_of
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import read_batch
from nonesuch.tally import Tally
from nonesuch.tickets import claim, commit, fail_order, give_back, renew, sweep
from tests.helpers.counters import open_orders, ring_stats
from tests.helpers.fakes import CATALOG, order, payload, ring


def all_keys(link: Link) -> set[str]:
    def scan():
        return (yield Call("KEYS", link.keys.pattern))

    return {key.decode() for key in link.run(scan())}


def drain(link: Link, spec: RingSpec) -> tuple[list[int], list[OrderEnd]]:
    """Take everything that is unread: the indices in the order of their arrival, and the ends."""
    indices: list[int] = []
    ends: list[OrderEnd] = []
    while link.run(ring_stats(link.keys, spec.name)).unread:
        taken = link.run(take(link.keys, spec, timeout_s=1))
        if isinstance(taken, Delivery):
            indices += read_batch(taken.payload).column("index").to_pylist()
        else:
            ends.append(taken)
        link.run(release(link.keys, spec, taken))
    return indices, ends


def test_an_order_arrives_once_and_leaves_nothing(service: Link) -> None:
    spec = ring()
    before = all_keys(service)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o", count=9)))
    arrived: list[int] = []
    ends: list[OrderEnd] = []
    while ticket := service.run(claim(service.keys, ["fake"])):
        assert service.run(commit(service.keys, ticket, payload(ticket), len(ticket.indices))) == "committed"
        more, ended = drain(service, spec)
        arrived += more
        ends += ended
    assert arrived == list(range(9))
    assert [(e.order, e.state, e.rows) for e in ends] == [("o", "done", 9)]
    assert service.run(open_orders(service.keys)) == 0
    service.run(close_ring(service.keys, "ring"))
    assert all_keys(service) - {service.keys.bell} == before


def test_a_full_ring_leaves_its_tickets_unclaimed_and_other_orders_go_on(service: Link) -> None:
    service.run(open_ring(service.keys, ring(slots=2)))
    service.run(open_ring(service.keys, ring("other", slots=2)))
    service.run(place(service.keys, order("slow")))
    claimed = [service.run(claim(service.keys, ["fake"])) for _ in range(3)]
    assert [t.number for t in claimed[:2] if t] == [0, 1]
    assert claimed[2] is None  # two slots, both reserved
    service.run(place(service.keys, order("quick", sink="other", priority="interactive")))
    other = service.run(claim(service.keys, ["fake"]))
    assert other is not None and other.order.id == "quick"


def test_interactive_goes_before_bulk_and_equals_take_turns(service: Link) -> None:
    service.run(open_ring(service.keys, ring(slots=64)))
    service.run(place(service.keys, order("bulk")))
    service.run(place(service.keys, order("a", priority="interactive", count=4)))
    service.run(place(service.keys, order("b", priority="interactive", count=4)))
    seen = []
    while ticket := service.run(claim(service.keys, ["fake"])):
        seen.append(ticket.order.id)
    assert sorted(seen[:2]) == ["a", "b"] and sorted(seen[2:4]) == ["a", "b"]
    assert seen[4:] == ["bulk"] * 5


def test_a_worker_claims_only_what_it_hosts(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    service.run(place(service.keys, order("o")))
    assert service.run(claim(service.keys, ["flat"])) is None
    assert service.run(claim(service.keys, ["flat", "fake"])) is not None


def test_a_lost_workers_ticket_is_made_by_another(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o", count=2)))
    lost = service.run(claim(service.keys, ["fake"], lease_s=0.01))
    assert lost is not None
    assert service.run(claim(service.keys, ["fake"])) is None
    time.sleep(0.02)
    assert service.run(sweep(service.keys)).tickets == 1
    again = service.run(claim(service.keys, ["fake"]))
    assert again is not None and (again.number, again.attempt) == (lost.number, 2)
    assert service.run(commit(service.keys, again, payload(again), 2)) == "committed"
    assert service.run(commit(service.keys, lost, payload(lost), 2)) == "closed"  # late, and no longer wanted
    assert drain(service, spec)[0] == [0, 1]


def test_a_second_copy_is_dropped(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    ticket = service.run(claim(service.keys, ["fake"]))
    assert ticket is not None
    assert service.run(commit(service.keys, ticket, payload(ticket), 2)) == "committed"
    assert service.run(commit(service.keys, ticket, payload(ticket), 2)) == "duplicate"
    assert service.run(ring_stats(service.keys, "ring")).unread == 1
    assert not service.run(renew(service.keys, ticket))


def test_the_tally_of_an_order_grows_with_its_commits_and_comes_with_its_end(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o", count=4)))
    one = Tally(tried=Counter({0: 5, 1: 2}), wrong_label=Counter({0: 3}), below_threshold=Counter({0: 1}))
    other = Tally(tried=Counter({1: 7}), wrong_label=Counter({1: 7}), short=Counter({1: 1}))
    first, second = (service.run(claim(service.keys, ["fake"])) for _ in range(2))
    assert first is not None and second is not None
    service.run(commit(service.keys, first, payload(first), 2, one))
    service.run(commit(service.keys, first, payload(first), 2, one))  # a second copy counts for nothing
    progress = service.run(progress_of(service.keys, "o"))
    assert progress == Progress(tickets_left=1, delivered=2, tally=one)
    service.run(commit(service.keys, second, payload(second), 1, other))
    (end,) = drain(service, spec)[1]
    assert end.tally == one + other
    assert end.tally.kept == Counter({0: 1, 1: 2}) and end.tally.acceptance(1) == 2 / 9
    assert service.run(progress_of(service.keys, "o")) is None
    assert service.keys.tally("o") not in all_keys(service)


def test_a_renewed_lease_is_not_swept(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    service.run(place(service.keys, order("o")))
    ticket = service.run(claim(service.keys, ["fake"], lease_s=0.01))
    assert ticket is not None
    assert service.run(renew(service.keys, ticket))
    time.sleep(0.02)
    assert service.run(sweep(service.keys)).tickets == 0


def test_a_ticket_that_keeps_failing_fails_its_order_with_the_reason(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    for attempt in range(1, 6):
        ticket = service.run(claim(service.keys, ["fake"]))
        assert ticket is not None and ticket.attempt == attempt
        service.run(give_back(service.keys, ticket, "the generator exploded"))
    (end,) = drain(service, spec)[1]
    assert end.state == "failed" and "the generator exploded" in end.reason and "5 times" in end.reason
    assert service.run(ring_stats(service.keys, "ring")).reserved == 0


def test_stopping_workers_do_not_use_up_attempts(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    service.run(place(service.keys, order("o")))
    for _ in range(12):
        ticket = service.run(claim(service.keys, ["fake"]))
        assert ticket is not None and ticket.attempt == 1
        service.run(give_back(service.keys, ticket))


def test_cancelling_withdraws_tickets_and_gives_back_reservations(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    ticket = service.run(claim(service.keys, ["fake"]))
    assert ticket is not None
    assert service.run(cancel(service.keys, "o"))
    assert not service.run(cancel(service.keys, "o"))
    assert service.run(commit(service.keys, ticket, payload(ticket), 2)) == "closed"
    stats = service.run(ring_stats(service.keys, "ring"))
    assert (stats.reserved, stats.free) == (0, 4)
    assert [e.state for e in drain(service, spec)[1]] == ["cancelled"]


def test_an_order_expires_at_its_deadline(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o", deadline=time.time() + 0.05)))
    service.run(sweep(service.keys))
    assert service.run(open_orders(service.keys)) == 1
    time.sleep(0.06)
    assert service.run(sweep(service.keys)).orders == 1
    assert [e.state for e in drain(service, spec)[1]] == ["expired"]


def test_placing_twice_is_placing_once_and_an_id_stands_for_one_order(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    for _ in range(2):
        service.run(place(service.keys, order("o")))
    assert service.run(open_orders(service.keys)) == 1
    with pytest.raises(InvalidOrder, match="taken by an order with other contents"):
        service.run(place(service.keys, order("o", seed=1)))


def test_tickets_that_are_done_are_not_made_again(service: Link) -> None:
    spec = ring(slots=8)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o"), done=[0, 3]))
    numbers = []
    while ticket := service.run(claim(service.keys, ["fake"])):
        numbers.append(ticket.number)
        service.run(commit(service.keys, ticket, payload(ticket), 2))
    assert numbers == [1, 2, 4]
    assert [e.state for e in drain(service, spec)[1]] == ["done"]


def test_an_unmakeable_ticket_ends_its_order(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    ticket = service.run(claim(service.keys, ["fake"]))
    assert ticket is not None
    service.run(fail_order(service.keys, ticket, "never"))
    assert [(e.state, e.reason) for e in drain(service, spec)[1]] == [("failed", "never")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generators": ("nobody",)}, "no worker hosts a generator 'nobody'; hosted now: fake, flat, twin"),
        ({"strategy": "magic"}, "unknown strategy 'magic': the workers know choosy, mined, mixed, random"),
        (
            {"params": {"sigma": -1}},
            "strategy 'random': sigma -1 cannot be used: give a number above 0",
        ),
        ({"params": {"sigma": 3.0}}, "sigma 3.0 is beyond what generator 'fake' allows"),
        ({"labels": {"kind": "balanced", "classes": [7]}}, "class 7 is unknown"),
        ({"strategy": "mined"}, "needs a snapshot"),
        ({"strategy": "mined", "snapshot": {"version": 3}, "generators": ("flat",)}, "follows gradients"),
        (
            {"strategy": "mined", "snapshot": {"version": 3}},
            "snapshot 3 of channel 'default' is not kept; kept are none",
        ),
        ({"strategy": "mined", "snapshot": {"version": "latest"}}, "no snapshot was published in channel 'default'"),
        ({"strategy": "choosy"}, "choosy needs a teacher"),
        ({"snapshot": {"version": 3}, "teacher": {"version": 3}}, "both version 3 of channel 'default'"),
        ({"params": {"verify": True}}, "random with verify needs a teacher.*or leave verify out"),
        ({"generators": ("fake", "twin")}, "'random' uses one generator and the order names 2.*'mixture'"),
        (
            {"strategy": "mixed", "generators": ("fake", "twin"), "params": {"weights": [1]}},
            "1 weights are given for 2",
        ),
        ({"deadline": 1.0}, "has passed"),
        ({"ticket_size": 1024, "count": 1024}, "order smaller tickets"),
        ({"sink": "nowhere"}, "ring 'nowhere' is not open"),
    ],
)
def test_what_no_worker_could_fill_is_refused_with_the_remedy(service: Link, change: dict, message: str) -> None:
    service.run(open_ring(service.keys, ring()))
    with pytest.raises((InvalidOrder, GeneratorNotFound, SnapshotNotFound, RingClosed), match=message):
        service.run(place(service.keys, order("o", **change)))
    assert service.run(open_orders(service.keys)) == 0


def test_without_workers_an_order_is_refused(link: Link) -> None:
    with pytest.raises(NoWorkers, match="nonesuch worker"):
        link.run(place(link.keys, order("o")))


def test_there_is_a_limit_of_open_orders(service: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nonesuch.orders.MAX_OPEN_ORDERS", 2)
    service.run(open_ring(service.keys, ring()))
    for name in ("a", "b"):
        service.run(place(service.keys, order(name)))
    with pytest.raises(Busy, match="2 orders are open"):
        service.run(place(service.keys, order("c")))


def test_an_order_that_was_checked_is_not_checked_again(link: Link) -> None:
    """Nobody has announced itself, so a second look into the catalogue would refuse it."""
    link.run(open_ring(link.keys, ring()))
    checked = check_order(order("a"), CATALOG)
    link.run(place(link.keys, checked))
    assert link.run(open_orders(link.keys)) == 1
    with pytest.raises(NoWorkers):
        link.run(place(link.keys, checked.order))


def test_orders_whose_tickets_are_all_in_the_making_are_open_too(
    service: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nonesuch.orders.MAX_OPEN_ORDERS", 1)
    service.run(open_ring(service.keys, ring()))
    service.run(place(service.keys, order("a", count=1)))
    assert service.run(claim(service.keys, ["fake"]))
    with pytest.raises(Busy, match="1 orders are open"):
        service.run(place(service.keys, order("b")))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["claim", "commit", "commit twice", "lose", "give back", "read"]), max_size=60),
    st.integers(1, 13),
    st.integers(1, 4),
)
def test_whatever_happens_each_index_arrives_exactly_once(service: Link, story: list[str], count: int, slots: int):
    """The law of the contract: any story of claims, losses and repeats ends with every index, once."""
    spec = ring(f"law{time.monotonic_ns()}", slots=slots)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order(f"o{time.monotonic_ns()}", sink=spec.name, count=count)))
    held = []
    arrived: list[int] = []
    ends: list[OrderEnd] = []

    def step(action: str) -> None:
        if action == "claim" and (ticket := service.run(claim(service.keys, ["fake"]))):
            held.append(ticket)
        elif action.startswith("commit") and held:
            ticket = held.pop(0)
            for _ in action.split():
                service.run(commit(service.keys, ticket, payload(ticket), len(ticket.indices)))
        elif action in ("lose", "give back") and held:
            service.run(give_back(service.keys, held[0]))  # a lost lease ends in the same step
            if action == "give back":
                held.pop(0)
        elif action == "read":
            indices, ended = drain(service, spec)
            arrived.extend(indices)
            ends.extend(ended)
        stats = service.run(ring_stats(service.keys, spec.name))
        assert 0 <= stats.reserved <= stats.free <= slots

    for action in story:
        step(action)
    while not ends:
        for action in ("claim", "commit", "read"):
            step(action)
    assert sorted(arrived) == list(np.arange(count))
    assert ends[0].rows == count
    service.run(close_ring(service.keys, spec.name))
