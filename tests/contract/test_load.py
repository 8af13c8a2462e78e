"""The load that an elastic fleet reads, through the life of an order."""

from nonesuch.catalog import announce, withdraw
from nonesuch.link import Link
from nonesuch.orders import cancel, place
from nonesuch.rings import open_ring, release, take
from nonesuch.stats import Load, read_load
from nonesuch.tickets import claim, commit, give_back
from tests.helpers.fakes import WORKER, order, payload, ring


def load(service: Link) -> Load:
    return service.run(read_load(service.keys))


def test_an_idle_service_has_workers_only(service: Link) -> None:
    service.run(withdraw(service.keys, WORKER.id))
    assert load(service) == Load(workers=0, leased=0, claimable=0)
    service.run(announce(service.keys, WORKER))
    service.run(open_ring(service.keys, ring()))
    assert load(service) == Load(workers=1, leased=0, claimable=0)


def test_a_ticket_is_claimable_while_its_ring_has_room(service: Link) -> None:
    keys, spec = service.keys, ring(slots=3)
    service.run(open_ring(keys, spec))
    service.run(place(keys, order("o", count=10)))  # five tickets, three slots
    assert load(service) == Load(workers=1, leased=0, claimable=3)
    first = service.run(claim(keys, ["fake"]))
    second = service.run(claim(keys, ["fake"]))
    assert first is not None
    assert second is not None
    assert load(service) == Load(workers=1, leased=2, claimable=1)
    service.run(commit(keys, first, payload(first), 2))  # its slot is taken now
    assert load(service) == Load(workers=1, leased=1, claimable=1)
    service.run(give_back(keys, second))  # with the slot that was kept for it
    assert load(service) == Load(workers=1, leased=0, claimable=2)
    service.run(release(keys, spec, service.run(take(keys, spec, timeout_s=1))))
    assert load(service) == Load(workers=1, leased=0, claimable=3)
    service.run(cancel(keys, "o"))
    assert load(service) == Load(workers=1, leased=0, claimable=0)


def test_rings_count_apart_and_the_newest_always_has_room(service: Link) -> None:
    keys = service.keys
    for name, policy in (("queue", "queue"), ("latest", "latest"), ("unused", "queue")):
        service.run(open_ring(keys, ring(name, slots=2, policy=policy)))
    service.run(place(keys, order("a", count=10, sink="queue")))
    service.run(place(keys, order("b", count=10, sink="queue")))
    assert load(service).claimable == 2
    service.run(place(keys, order("c", count=10, sink="latest")))
    assert load(service).claimable == 2 + 5


def test_every_claimable_ticket_can_be_claimed_and_no_other(service: Link) -> None:
    keys = service.keys
    for name in ("one", "two"):
        service.run(open_ring(keys, ring(name, slots=3)))
        service.run(place(keys, order(name, count=4 if name == "one" else 20, sink=name)))
    claimable = load(service).claimable
    claimed = 0
    while service.run(claim(keys, ["fake"])):
        claimed += 1
        assert load(service) == Load(1, claimed, claimable - claimed)
    assert claimed == claimable == 2 + 3
