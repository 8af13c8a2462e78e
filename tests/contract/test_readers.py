"""Rings that several processes can reach: one reader at a time, and nothing is read in part by two."""

import threading
from collections import defaultdict
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nonesuch.errors import Busy, Conflict, RingClosed, TakeTimeout
from nonesuch.link import Call, Link
from nonesuch.orders import place
from nonesuch.readers import begin_reading, keep_reading, look, stop_reading
from nonesuch.rings import Delivery, RingSpec, close_ring, open_ring, release, take
from nonesuch.tickets import claim, commit
from tests.helpers.fakes import order, payload, ring


def filled(link: Link, spec: RingSpec) -> RingSpec:
    """A ring that has every batch of order `o`."""
    link.run(open_ring(link.keys, spec))
    link.run(place(link.keys, order("o")))
    while ticket := link.run(claim(link.keys, ["fake"])):
        link.run(commit(link.keys, ticket, payload(ticket), len(ticket.indices)))
    return spec


def begin(link: Link, reader: str) -> None:
    link.run(begin_reading(link.keys, "ring", reader, lease_s=5))


def test_one_reader_at_a_time(service: Link) -> None:
    filled(service, ring())
    begin(service, "a")
    with pytest.raises(Conflict, match="another client"):
        begin(service, "b")
    assert not service.run(stop_reading(service.keys, "ring", "b"))
    with pytest.raises(Conflict):
        begin(service, "b")
    assert service.run(stop_reading(service.keys, "ring", "a"))
    begin(service, "b")


def lease_left(link: Link) -> int:
    """In ms; -2 when it is gone."""

    def left():
        return (yield Call("PTTL", link.keys.reader("ring")))

    return link.run(left())


def lapse(link: Link) -> None:
    """The time of a lease is over."""

    def gone():
        yield Call("DEL", link.keys.reader("ring"))

    link.run(gone())


def test_a_lease_runs_out_unless_it_is_renewed(service: Link) -> None:
    filled(service, ring())
    service.run(begin_reading(service.keys, "ring", "a", lease_s=0.2))
    service.run(keep_reading(service.keys, "ring", "a", lease_s=60))
    assert lease_left(service) > 50_000
    service.run(keep_reading(service.keys, "ring", "a", lease_s=0.001))
    while lease_left(service) >= 0:
        pass
    begin(service, "b")


def test_what_a_reader_took_and_did_not_release_is_there_for_the_next(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    first = [service.run(take(service.keys, spec, reader="a")).entry for _ in range(2)]
    assert service.run(stop_reading(service.keys, "ring", "a"))
    begin(service, "b")
    assert [service.run(take(service.keys, spec, reader="b")).entry for _ in range(2)] == first


def test_nobody_follows_a_reader_that_released_a_batch(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    assert not service.run(look(service.keys, "ring")).begun
    service.run(release(service.keys, spec, service.run(take(service.keys, spec, reader="a")), reader="a"))
    assert service.run(stop_reading(service.keys, "ring", "a"))
    assert service.run(look(service.keys, "ring")).begun
    with pytest.raises(Conflict, match="same seed"):
        begin(service, "b")


def test_a_reader_whose_lease_ran_out_goes_on_until_another_one_begins(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    lapse(service)
    taken = service.run(take(service.keys, spec, reader="a"))
    service.run(keep_reading(service.keys, "ring", "a", lease_s=5))
    begin(service, "a")  # a retry whose first answer was lost
    with pytest.raises(Conflict, match="another client"):
        begin(service, "b")
    service.run(release(service.keys, spec, taken, reader="a"))


def test_a_reader_that_was_followed_can_do_nothing_more(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    stale = service.run(take(service.keys, spec, reader="a"))
    lapse(service)
    service.run(begin_reading(service.keys, "ring", "b", lease_s=30))
    taken = service.run(take(service.keys, spec, reader="b"))
    assert taken == stale
    for op in (
        take(service.keys, spec, reader="a", timeout_s=1),
        release(service.keys, spec, stale, reader="a"),
        keep_reading(service.keys, "ring", "a", lease_s=0.001),
        take(service.keys, spec, timeout_s=1),
        release(service.keys, spec, stale),
    ):
        with pytest.raises(Conflict, match="read by another client since the lease of this one ran out"):
            service.run(op)
    assert not service.run(stop_reading(service.keys, "ring", "a"))
    assert not service.run(close_ring(service.keys, "ring", reader="a"))
    assert lease_left(service) > 25_000
    service.run(release(service.keys, spec, taken, reader="b"))
    assert service.run(close_ring(service.keys, "ring", reader="b"))


def test_a_reader_that_waits_for_a_batch_does_not_get_its_successor_s(service: Link) -> None:
    """The wait itself takes nothing: it may have begun before the successor did, and end when there is a batch."""
    spec = ring()
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))
    begin(service, "a")
    told: list[Exception] = []

    def wait() -> None:
        with Link(service.settings) as link:
            try:
                link.run(take(link.keys, spec, reader="a", timeout_s=20))
            except Conflict as error:
                told.append(error)

    def blocked():
        return (yield Call("INFO", "clients"))["blocked_clients"]

    thread = threading.Thread(target=wait)
    thread.start()
    while not service.run(blocked()):
        pass
    lapse(service)
    begin(service, "b")
    ticket = service.run(claim(service.keys, ["fake"]))
    service.run(commit(service.keys, ticket, payload(ticket), len(ticket.indices)))
    assert service.run(take(service.keys, spec, reader="b", timeout_s=1)).ticket == 0
    thread.join(10)
    assert len(told) == 1


def test_a_payload_is_its_entry_s_or_nobody_s(service: Link) -> None:
    """A reader that is paused between its entry and the payload does not get what another one's release let in."""
    spec = ring(slots=1)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o")))

    def mint() -> None:
        ticket = service.run(claim(service.keys, ["fake"]))
        service.run(commit(service.keys, ticket, payload(ticket), len(ticket.indices)))

    mint()
    begin(service, "a")
    op = take(service.keys, spec, reader="a")
    paused = op.send(service.run(passed(next(op))))
    lapse(service)
    begin(service, "b")
    service.run(release(service.keys, spec, service.run(take(service.keys, spec, reader="b")), reader="b"))
    mint()  # into the same slot
    again = op.send(service.run(passed(paused)))
    with pytest.raises(Conflict, match="since the lease"):
        op.send(service.run(passed(again)))


def passed(effect):
    """One effect of another operation."""
    return (yield effect)


STEPS = ("begin", "take", "release", "keep", "stop", "lapse", "mint")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(STEPS)), max_size=60))
def test_whatever_readers_do_and_whenever_their_leases_run_out_one_gets_the_batches(
    service: Link, steps: list[tuple[int, str]]
) -> None:
    """Three clients come and go; each reading of theirs has a name of its own, as those of gateways have."""
    service.run(close_ring(service.keys, "ring"))
    spec = ring(slots=3)
    service.run(open_ring(service.keys, spec))
    service.run(place(service.keys, order("o", count=40, ticket_size=1)))
    readings = ["0", "1", "2"]
    holds: dict[str, list[Delivery]] = defaultdict(list)
    released: dict[str, list[int]] = defaultdict(list)
    for number, (client, step) in enumerate(steps):
        name = readings[client]
        with suppress(Conflict, TakeTimeout):
            if step == "begin":
                readings[client] = f"{client} {number}"
                begin(service, readings[client])
            elif step == "take":
                holds[name].append(service.run(take(service.keys, spec, reader=name, timeout_s=0)))
            elif step == "release" and holds[name]:
                entry = holds[name].pop(0)
                service.run(release(service.keys, spec, entry, reader=name))
                released[name].append(entry.ticket)
            elif step == "keep":
                service.run(keep_reading(service.keys, "ring", name, lease_s=5))
            elif step == "stop":
                service.run(stop_reading(service.keys, "ring", name))
            elif step == "lapse":
                lapse(service)
            elif step == "mint" and (ticket := service.run(claim(service.keys, ["fake"]))):
                service.run(commit(service.keys, ticket, payload(ticket), 1))
    assert len(released) <= 1
    for tickets in released.values():
        assert tickets == sorted(set(tickets))


def test_a_look_shows_how_an_order_ended_and_takes_nothing(service: Link) -> None:
    spec = ring(slots=8).model_copy(update={"note": "for ü"})
    filled(service, spec)
    for _ in range(2):
        seen = service.run(look(service.keys, "ring"))
        assert seen.end is not None and seen.end.state == "done"
        assert seen.spec.note == "for ü" and seen.committed == order("o").tickets
    while service.run(take(service.keys, spec)) != seen.end:
        assert service.run(look(service.keys, "ring")).end == seen.end
    assert service.run(look(service.keys, "ring")).end == seen.end  # in hand now


def test_a_ring_that_is_gone_cannot_be_read_and_keeps_no_reader(service: Link) -> None:
    filled(service, ring())
    begin(service, "a")
    service.run(close_ring(service.keys, "ring"))

    def keys():
        return (yield Call("KEYS", f"{service.keys.ring('ring')}*"))

    assert service.run(keys()) == []
    for op in (begin_reading(service.keys, "ring", "b", lease_s=1), look(service.keys, "ring")):
        with pytest.raises(RingClosed):
            service.run(op)
    assert service.run(keys()) == []


def test_how_many_rings_of_a_kind_there_may_be(service: Link) -> None:
    service.run(open_ring(service.keys, ring("other")))
    for name in ("kept-1", "kept-2"):
        service.run(open_ring(service.keys, ring(name), kind="kept-", at_most=2))
    with pytest.raises(Busy, match="2 rings"):
        service.run(open_ring(service.keys, ring("kept-3"), kind="kept-", at_most=2))
    assert service.run(open_ring(service.keys, ring("kept-1"), kind="kept-", at_most=2))
    service.run(close_ring(service.keys, "kept-2"))
    assert not service.run(open_ring(service.keys, ring("kept-3"), kind="kept-", at_most=2))
