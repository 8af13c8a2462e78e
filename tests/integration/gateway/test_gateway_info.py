"""What a client can find out: one generator, and what the service is doing."""

import time
from hashlib import sha256

import pytest

from nonesuch.labels import Balanced
from nonesuch.offers import Counted
from nonesuch.orders import Order, cancel, place
from nonesuch.rings import RingSpec, open_ring
from nonesuch.snapshots import SnapshotHeader, drop_channel, publish
from nonesuch.stats import Stats, read_stats
from nonesuch.tickets import claim, commit


def header(channel: str, version: int, payload: bytes) -> SnapshotHeader:
    return SnapshotHeader(
        channel=channel, version=version, architecture="resnet18", image_shape=(4, 4, 1), classes=3, mean=(0.5,),
        std=(0.5,), epoch=0, step=0, sha256=sha256(payload).hexdigest(),
    )  # fmt: skip


def test_one_generator(http, workers, small, large):
    large = large.model_copy(update={"card": {"recipe": {"seed": 0}, "metrics": {"accuracy": 0.9}}})
    missing = http.get("/v1/generators/small")
    assert missing.status_code == 503 and missing.json()["type"].endswith(":no-workers")
    workers(generators=(small, large))
    found = http.get("/v1/generators/large")
    assert found.status_code == 200 and found.json() == large.model_dump(mode="json")
    assert found.json()["class_names"] == ["ant", "bee", "cat"] and found.json()["image_shape"] == [128, 128, 3]
    assert found.json()["card"]["metrics"] == {"accuracy": 0.9}
    assert not any("card" in each for each in http.get("/v1/generators").json()["generators"])
    unknown = http.get("/v1/generators/biggan")
    assert unknown.status_code == 404 and "hosted now: large, small" in unknown.json()["detail"]
    assert unknown.json()["type"].endswith(":generator-not-found")


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "a%20b", "a:b", "%00", "ä", "x" * 65])
def test_a_generator_id_that_is_none(http, workers, name):
    workers()
    response = http.get(f"/v1/generators/{name}")
    assert response.status_code in (404, 422)
    if response.status_code == 422:
        assert response.json()["errors"][0]["pointer"] == "#/generator_id"


def test_stats_of_a_service_in_which_nothing_happens(http):
    stats = http.get("/v1/stats").json()
    assert stats["workers"] == stats["rings"] == stats["acceptance"] == stats["snapshots"] == []
    assert stats["tickets"] == {"open": 0, "leased": 0, "waiting": 0, "claimable": 0}
    nothing = {"open": 0, "claimable": 0}
    assert stats["orders"] == {"interactive": nothing, "bulk": nothing}
    assert 0 < stats["redis"]["used_bytes"] < stats["redis"]["max_bytes"]
    assert abs(stats["at"] - time.time()) < 60


def test_stats_of_orders_tickets_and_rings(http, workers, link, mint):
    workers()[0].stop()  # this test is the worker
    link.run(open_ring(link.keys, RingSpec(name="ring", slots=6, slot_bytes=65_536, ttl_s=100)))
    link.run(open_ring(link.keys, RingSpec(name="another", policy="latest", slots=2, slot_bytes=65_536)))
    common = {"generators": ("small",), "labels": Balanced(classes=(0, 1, 2)), "sink": "ring", "ticket_size": 2}
    for name, priority, count in (("a", "interactive", 8), ("b", "bulk", 2), ("c", "bulk", 4)):
        link.run(place(link.keys, Order.model_validate({**common, "id": name, "priority": priority, "count": count})))
    tickets = [link.run(claim(link.keys, ["small"])) for _ in range(5)]
    ticket = next(ticket for ticket in tickets if ticket.order.id == "a")
    assert link.run(commit(link.keys, ticket, mint(ticket), 2)) == "committed"
    stats = Stats.model_validate(http.get("/v1/stats").json())
    assert stats.tickets.model_dump() == {"open": 6, "leased": 4, "waiting": 2, "claimable": 1}
    assert stats.orders["interactive"].model_dump() == {"open": 1, "claimable": 0}
    assert stats.orders["bulk"].model_dump() == {"open": 2, "claimable": 2}
    another, ring = stats.rings
    assert (another.name, another.policy, another.used, another.bytes) == ("another", "latest", 0, 131_072)
    assert (ring.slots, ring.used, ring.unread, ring.reserved, ring.committed) == (6, 1, 1, 4, 1)
    assert ring.bytes == 6 * 65_536 and 0 <= ring.age_s < 60 and 40 < ring.expires_s <= 100
    for name in ("a", "b", "c"):
        link.run(cancel(link.keys, name))
    assert http.get("/v1/stats").json()["tickets"] == {"open": 0, "leased": 0, "waiting": 0, "claimable": 0}


def test_stats_of_workers_and_of_what_they_have_tried(http, workers):
    counted = Counted(
        strategy="choosy", generators=("small",), counters={"tried:1": 4, "wrong_label:1": 3, "short:2": 1}
    )
    for worker in workers(2, tallies=(counted,)):
        worker.stop()
    stats = Stats.model_validate(http.get("/v1/stats").json())
    assert [worker.id for worker in stats.workers] == ["w0", "w1"]
    first = stats.workers[0]
    assert (first.host, first.device, first.generators, first.tickets) == ("here", "cpu", ("small",), 0)
    assert 0 <= first.heartbeat_age_s < 10
    (tried,) = stats.acceptance
    assert (tried.strategy, tried.generators) == ("choosy", ("small",))
    assert (tried.tried, tried.kept, tried.short, tried.acceptance) == (8, 2, 2, 0.25)


def test_stats_of_snapshots(http, link):
    for channel, version, payload in (("run", 3, b"12345"), ("run", 4, b"123"), ("teacher", 0, b"1")):
        link.run(publish(link.keys, header(channel, version, payload), payload))
    run, teacher = Stats.model_validate(http.get("/v1/stats").json()).snapshots
    assert (run.channel, run.versions, run.bytes) == ("run", (3, 4), 8)
    assert (teacher.channel, teacher.versions, teacher.bytes) == ("teacher", (0,), 1)
    assert 0 <= run.age_s < 60
    link.run(drop_channel(link.keys, "run"))
    assert [s["channel"] for s in http.get("/v1/stats").json()["snapshots"]] == ["teacher"]


def test_stats_take_two_steps_whatever_there_is(workers, link):
    workers(3)
    for version in range(3):
        link.run(publish(link.keys, header(f"c{version}", version, b"1"), b"1"))
    calls = []

    def watched():
        operation = read_stats(link.keys)
        call = next(operation)
        while True:
            calls.append(call)
            try:
                call = operation.send((yield call))
            except StopIteration as end:
                return end.value

    assert len(link.run(watched()).workers) == 3
    assert len(calls) == 2
