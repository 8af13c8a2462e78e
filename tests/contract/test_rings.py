"""Rings: bounded, blocking with a limit, and nothing lost when a consumer is restarted."""

import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonesuch.errors import Busy, InvalidValue, RingClosed, TakeTimeout
from nonesuch.link import Call, Link
from nonesuch.orders import place
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import read_batch
from nonesuch.tickets import claim, commit, sweep
from tests.helpers.counters import open_orders, ring_stats
from tests.helpers.fakes import order, payload, ring


def mint_one(link: Link) -> bool:
    ticket = link.run(claim(link.keys, ["fake"]))
    if ticket is None:
        return False
    assert link.run(commit(link.keys, ticket, payload(ticket), len(ticket.indices))) == "committed"
    return True


def test_taking_from_an_empty_ring_ends_with_a_typed_error(link: Link) -> None:
    spec = ring()
    link.run(open_ring(link.keys, spec))
    started = time.monotonic()
    with pytest.raises(TakeTimeout, match=r"'ring' within 0\.2 s"):
        link.run(take(link.keys, spec, timeout_s=0.2))
    assert 0.15 < time.monotonic() - started < 2


def test_a_ring_that_is_lost_is_noticed_while_waiting(link: Link) -> None:
    spec = ring()
    link.run(open_ring(link.keys, spec))
    timer = threading.Timer(0.2, lambda: link.run(close_ring(link.keys, "ring")))
    timer.start()
    with pytest.raises(RingClosed, match="gone"):
        link.run(take(link.keys, spec, timeout_s=30))
    timer.join()


def test_what_was_in_hand_comes_again_after_a_restart_in_its_order(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    while mint_one(service):
        pass
    in_hand = [service.run(take(service.keys, spec)) for _ in range(2)]
    assert service.run(open_ring(service.keys, spec))
    again = [service.run(take(service.keys, spec)) for _ in range(2)]
    assert [t.entry for t in again] == [t.entry for t in in_hand]


def test_releasing_twice_frees_one_slot(service: Link) -> None:
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    mint_one(service)
    taken = service.run(take(service.keys, spec))
    for _ in range(2):
        service.run(release(service.keys, spec, taken))
    assert service.run(ring_stats(service.keys, "ring")).free == 4


def test_a_ring_is_not_reopened_with_another_size(link: Link) -> None:
    link.run(open_ring(link.keys, ring(slots=4)))
    with pytest.raises(InvalidValue, match="another policy or size than queue, 5 slots"):
        link.run(open_ring(link.keys, ring(slots=5)))


def test_latest_overwrites_the_oldest_unread_and_counts_it(service: Link) -> None:
    spec = ring(policy="latest", slots=2)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    while mint_one(service):
        pass
    stats = service.run(ring_stats(service.keys, "ring"))
    assert (stats.committed, stats.overwritten, stats.reserved) == (5, 3, 0)
    taken = [service.run(take(service.keys, spec)) for _ in range(3)]
    assert [t.ticket for t in taken if isinstance(t, Delivery)] == [3, 4]
    assert isinstance(taken[2], OrderEnd)


def test_latest_waits_when_its_consumer_holds_every_slot(service: Link) -> None:
    spec = ring(policy="latest", slots=1)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    mint_one(service)
    held = service.run(take(service.keys, spec))
    ticket = service.run(claim(service.keys, ["fake"]))
    assert ticket is not None
    assert service.run(commit(service.keys, ticket, payload(ticket), 2)) == "full"
    service.run(release(service.keys, spec, held))
    assert service.run(commit(service.keys, ticket, payload(ticket), 2)) == "committed"


def test_a_batch_larger_than_a_slot_is_refused(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    service.run(place(service.keys, order("o")))
    ticket = service.run(claim(service.keys, ["fake"]))
    assert ticket is not None
    assert service.run(commit(service.keys, ticket, bytes(70_000), 2)) == "too large"


def test_an_abandoned_ring_goes_with_its_orders_and_snapshots(service: Link) -> None:
    service.run(open_ring(service.keys, ring(ttl_s=0.05)))
    service.run(place(service.keys, order("o")))
    mint_one(service)
    time.sleep(0.06)
    assert service.run(sweep(service.keys)).rings == 1
    assert service.run(open_orders(service.keys)) == 0
    with pytest.raises(RingClosed):
        service.run(ring_stats(service.keys, "ring"))


def memory(link: Link) -> int:
    def info():
        return (yield Call("INFO", "memory"))["used_memory"]

    return link.run(info())


def test_a_full_ring_holds_what_it_was_opened_for_and_no_more(service: Link) -> None:
    spec = ring(slots=8, slot_bytes=262_144)
    service.run(open_ring(service.keys, spec))
    before = memory(service)
    service.run(place(service.keys, order("o", count=100_000, ticket_size=1024)))
    while mint_one(service):
        pass
    stats = service.run(ring_stats(service.keys, "ring"))
    assert (stats.free, stats.unread) == (0, 8)
    assert memory(service) - before < spec.bytes + 200_000


def test_a_redis_that_is_full_is_emptied_by_its_consumers(service: Link) -> None:
    """New batches are refused; what is there is taken, released and closed, and new work is claimed."""
    spec = ring(slots=4)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    assert mint_one(service) and mint_one(service)

    def limit(size: str):
        yield Call("CONFIG", "SET", "maxmemory", size)

    service.run(limit("1mb"))
    try:
        ticket = service.run(claim(service.keys, ["fake"]))
        assert ticket is not None
        with pytest.raises(Busy, match="maxmemory"):
            service.run(commit(service.keys, ticket, payload(ticket), len(ticket.indices)))
        for _ in range(2):
            taken = service.run(take(service.keys, spec))
            assert isinstance(taken, Delivery)
            service.run(release(service.keys, spec, taken))
        with pytest.raises(Busy, match="maxmemory"):
            service.run(take(service.keys, spec, timeout_s=1))
        assert service.run(close_ring(service.keys, "ring"))
    finally:
        service.run(limit("512mb"))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 5))
def test_a_queue_keeps_the_order_of_commits(service: Link, slots: int, count: int, readers_lag: int) -> None:
    spec = RingSpec(name=f"q{time.monotonic_ns()}", slots=slots, slot_bytes=65_536)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order(spec.name, sink=spec.name, count=count, ticket_size=1)))
    arrived: list[int] = []
    while len(arrived) < count:
        for _ in range(readers_lag):
            mint_one(service)
        taken = service.run(take(service.keys, spec, timeout_s=1))
        assert isinstance(taken, Delivery)
        arrived += read_batch(taken.payload).column("index").to_pylist()
        service.run(release(service.keys, spec, taken))
    assert arrived == list(range(count))
    service.run(close_ring(service.keys, spec.name))
