"""The ticket loop against a real Redis, with a minter that fails on command."""

import threading
import time
from collections import Counter
from hashlib import sha256

import pytest
import torch

from nonesuch.catalog import read_catalog
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import dump
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidValue, SnapshotNotFound
from nonesuch.labels import Balanced
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.orders import SnapshotRef, place, progress_of
from nonesuch.rings import Delivery, close_ring, open_ring, release, take
from nonesuch.schema import read_batch
from nonesuch.snapshots import SnapshotHeader, publish
from nonesuch.tally import NOTHING, Tally
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minting import loop as loop_module
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import Minter
from nonesuch_worker.minting.service import MintingService, SnapshotCache
from nonesuch_worker.strategies.registry import describe
from tests.helpers.counters import open_orders, ring_stats
from tests.helpers.fakes import WORKER, order
from tests.helpers.loops import RING, Minting, collect, working


def test_three_workers_make_the_same_bytes_as_one(link: Link) -> None:
    link.run(open_ring(link.keys, RING))
    seen = []
    for minters in (1, 3):
        with working(link, *[Minting() for _ in range(minters)]):
            link.run(place(link.keys, order("o", count=25)))
            batches, end = collect(link)
        assert end.state == "done"
        seen.append(batches)
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == list(range(13))


def test_a_tally_adds_up_over_tickets_and_workers_and_arrives_with_the_end(link: Link) -> None:
    each = Tally(
        tried=Counter({0: 3, 2: 5}), wrong_label=Counter({2: 2}), below_threshold=Counter({2: 1}), short=Counter({2: 1})
    )
    held = threading.Event()

    def hold_the_last(ticket: Ticket) -> None:
        if ticket.number == 4:
            assert held.wait(10)

    link.run(open_ring(link.keys, RING))
    with working(link, *[Minting(hold_the_last, each) for _ in range(2)]):
        link.run(place(link.keys, order("o")))
        seen = 0
        while seen < 4:
            taken = link.run(take(link.keys, RING, timeout_s=20))
            assert isinstance(taken, Delivery) and taken.ticket != 4
            link.run(release(link.keys, RING, taken))
            seen += 1
        progress = link.run(progress_of(link.keys, "o"))
        assert progress is not None
        assert (progress.tickets_left, progress.delivered) == (1, 8)
        assert progress.tally == each + each + each + each
        held.set()
        batches, end = collect(link)
    assert list(batches) == [4] and (end.state, end.rows) == ("done", 10)
    assert end.tally.tried == {0: 15, 2: 25} and end.tally.wrong_label == {2: 10}
    assert end.tally.below_threshold == {2: 5} and end.tally.short == {2: 5}
    assert end.tally.acceptance(2) == 10 / 25
    assert link.run(progress_of(link.keys, "o")) is None


def test_orders_that_ask_classifiers_are_filled_from_their_snapshots(link: Link) -> None:
    generator = load_generator("analytic:size=8,separation=6")
    info = generator.info
    for channel, seed in (("run", 0), ("teacher", 1)):
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            spec = ClassifierSpec(architecture="resnet18", args={"width": 2})
            weights = dump(build(spec, in_channels=1, classes=10, image_size=8))
        header = SnapshotHeader(
            channel=channel, version=7, architecture="resnet18", args={"width": 2}, image_shape=(8, 8, 1), classes=10,
            mean=(0.5,), std=(0.5,), epoch=1, step=1, sha256=sha256(weights).hexdigest(),
        )  # fmt: skip
        link.run(publish(link.keys, header, weights))
    worker = WORKER.model_copy(update={"generators": (info,), "strategies": describe()})
    loop = TicketLoop(link, MintingService(Minter([generator]), SnapshotCache(link, generator.device)), worker)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        while not link.run(read_catalog(link.keys)).workers:
            time.sleep(0.01)
        link.run(open_ring(link.keys, RING))
        run, teacher = SnapshotRef(channel="run"), SnapshotRef(channel="teacher")
        common = {"generators": ("analytic",), "labels": Balanced(classes=(0, 1, 2)), "count": 12, "ticket_size": 6}

        params = {"threshold": 0.05, "attempts": 3}
        link.run(place(link.keys, order("kept", **common, strategy="filtered", params=params, teacher=teacher)))
        batches, end = collect(link)
        assert end.state == "done" and end.rows == end.tally.kept.total() < 12  # random weights recognise little
        assert end.rows + end.tally.short.total() == 12

        link.run(place(link.keys, order("mined", **common, strategy="hsm", params={"steps": 2}, snapshot=run)))
        batches, end = collect(link)
        first = read_batch(batches[0])
        assert (end.state, end.rows) == ("done", 12) and first.column("snapshot").to_pylist() == [7] * 6
        assert first.column("z").null_count == first.column("score_before").null_count == 0
    finally:
        loop.stop()
        thread.join(10)


def test_an_order_of_a_strategy_that_rejects_nothing_ends_without_a_tally(link: Link) -> None:
    link.run(open_ring(link.keys, RING))
    with working(link, Minting()):
        link.run(place(link.keys, order("o")))
        _, end = collect(link)
    assert end.state == "done" and end.tally == NOTHING and not end.tally


def test_a_ticket_that_failed_and_was_made_again_is_counted_once(link: Link) -> None:
    failures = iter(["out of memory"])

    def fail_once(ticket: Ticket) -> None:
        if ticket.number == 1 and (why := next(failures, None)):
            raise RuntimeError(why)

    link.run(open_ring(link.keys, RING))
    with working(link, Minting(fail_once, Tally(tried=Counter({1: 1})))):
        link.run(place(link.keys, order("o")))
        _, end = collect(link)
    assert end.state == "done" and end.tally.tried == {1: 5}


def test_an_error_that_passes_costs_an_attempt_and_nothing_else(link: Link) -> None:
    failures = iter(["out of memory", "out of memory"])

    def fail_twice(ticket: Ticket) -> None:
        if ticket.number == 1 and (why := next(failures, None)):
            raise RuntimeError(why)

    link.run(open_ring(link.keys, RING))
    with working(link, Minting(fail_twice)):
        link.run(place(link.keys, order("o")))
        batches, end = collect(link)
    assert end.state == "done" and sorted(batches) == [0, 1, 2, 3, 4]


def test_a_snapshot_that_is_published_again_in_time_costs_an_attempt(link: Link) -> None:
    missing = iter([True, True, False])

    def look_for_it(ticket: Ticket) -> None:
        if ticket.number == 0 and next(missing, False):
            raise SnapshotNotFound("snapshot 3 of channel 'run' is not kept")

    link.run(open_ring(link.keys, RING))
    with working(link, Minting(look_for_it)):
        link.run(place(link.keys, order("o")))
        assert collect(link)[1].state == "done"


def test_a_snapshot_that_stays_away_ends_the_order(link: Link) -> None:
    def look_for_it(ticket: Ticket) -> None:
        raise SnapshotNotFound("snapshot 3 of channel 'run' is not kept")

    link.run(open_ring(link.keys, RING))
    with working(link, Minting(look_for_it)):
        link.run(place(link.keys, order("o")))
        end = collect(link)[1]
    assert end.state == "failed" and "snapshot 3 of channel 'run' is not kept" in end.reason


def test_an_error_that_stays_ends_the_order_at_once_with_its_message(link: Link) -> None:
    def refuse(ticket: Ticket) -> None:
        raise InvalidValue("eta -1 must be positive")

    minting = Minting(refuse)
    link.run(open_ring(link.keys, RING))
    with working(link, minting):
        link.run(place(link.keys, order("o")))
        _, end = collect(link)
        assert (end.state, end.reason) == ("failed", "eta -1 must be positive")
        minting.before = lambda ticket: None
        link.run(place(link.keys, order("next", count=1, labels={"kind": "balanced", "classes": [0]})))
        assert collect(link)[1].state == "done"  # the worker lives on


def test_stopping_finishes_the_ticket_in_hand_and_leaves_the_catalogue(link: Link) -> None:
    started = threading.Event()

    def slowly(ticket: Ticket) -> None:
        started.set()
        time.sleep(0.2)

    minting = Minting(slowly)
    link.run(open_ring(link.keys, RING))
    with working(link, minting):
        link.run(place(link.keys, order("o")))
        assert started.wait(5)
    assert minting.tickets == [0]
    assert link.run(ring_stats(link.keys, "ring")).unread == 1
    assert link.run(read_catalog(link.keys)).workers == ()
    link.run(close_ring(link.keys, "ring"))
    assert link.run(open_orders(link.keys)) == 0


def test_a_long_ticket_keeps_its_lease(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "HEARTBEAT_S", 0.05)
    slow = Minting(lambda ticket: time.sleep(0.6 if ticket.number == 0 else 0))
    link.run(open_ring(link.keys, RING))
    loop = TicketLoop(link, slow, WORKER, lease_s=0.2)
    other = TicketLoop(link, Minting(), WORKER.model_copy(update={"id": "w1"}), lease_s=0.2)
    threads = [threading.Thread(target=x.run) for x in (loop, other)]
    threads[0].start()
    while not link.run(read_catalog(link.keys)).workers:
        time.sleep(0.01)
    link.run(place(link.keys, order("o", count=2)))
    time.sleep(0.1)
    threads[1].start()
    _, end = collect(link)
    loop.stop()
    other.stop()
    for thread in threads:
        thread.join(10)
    assert end.state == "done"
    assert slow.tickets == [0]


def test_a_worker_waits_for_a_redis_that_restarts() -> None:
    with PrivateRedis() as private, Link(RedisSettings(url=private.url)) as link, working(link, Minting()):
        private.kill()
        time.sleep(0.3)
        private.start()
        end = time.monotonic() + 10
        while not link.run(read_catalog(link.keys)).workers:
            assert time.monotonic() < end
            time.sleep(0.05)
        link.run(open_ring(link.keys, RING))
        link.run(place(link.keys, order("o")))
        assert collect(link)[1].state == "done"


def test_a_lease_shorter_than_the_heartbeat_is_refused(link: Link) -> None:
    with pytest.raises(InvalidValue, match="ends before it is renewed"):
        TicketLoop(link, Minting(), WORKER, lease_s=1.0)
