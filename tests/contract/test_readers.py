"""Rings that several processes can reach: one reader at a time, and nothing is read in part by two."""

import pytest

from nonesuch.errors import Busy, Conflict, RingClosed
from nonesuch.link import Call, Link
from nonesuch.orders import place
from nonesuch.readers import begin_reading, keep_reading, look, stop_reading
from nonesuch.rings import RingSpec, close_ring, open_ring, release, take
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


def test_a_lease_runs_out_unless_it_is_renewed(service: Link) -> None:
    filled(service, ring())
    service.run(begin_reading(service.keys, "ring", "a", lease_s=0.2))
    service.run(keep_reading(service.keys, "ring", lease_s=60))

    def left():
        return (yield Call("PTTL", service.keys.reader("ring")))

    assert service.run(left()) > 50_000
    service.run(keep_reading(service.keys, "ring", lease_s=0.001))
    while service.run(left()) >= 0:  # -2 when it is gone
        pass
    begin(service, "b")


def test_what_a_reader_took_and_did_not_release_is_there_for_the_next(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    first = [service.run(take(service.keys, spec)).entry for _ in range(2)]
    assert service.run(stop_reading(service.keys, "ring", "a"))
    begin(service, "b")
    assert [service.run(take(service.keys, spec)).entry for _ in range(2)] == first


def test_nobody_follows_a_reader_that_released_a_batch(service: Link) -> None:
    spec = filled(service, ring())
    begin(service, "a")
    assert not service.run(look(service.keys, "ring")).begun
    service.run(release(service.keys, spec, service.run(take(service.keys, spec))))
    assert service.run(stop_reading(service.keys, "ring", "a"))
    assert service.run(look(service.keys, "ring")).begun
    with pytest.raises(Conflict, match="same seed"):
        begin(service, "b")


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
