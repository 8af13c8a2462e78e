"""What the trainer takes in of an epoch's orders: every image once, in its place, or an error that names the ticket."""

from collections import Counter

import numpy as np
import pytest

from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.labels import Balanced
from nonesuch.offers import GeneratorInfo
from nonesuch.orders import Order, SnapshotRef
from nonesuch.rings import Delivery, OrderEnd
from nonesuch.schema import Rows, make_batch, read_batch, write_batch
from nonesuch.smoothed.intake import Intake
from nonesuch.tally import NOTHING, Tally

INFO = GeneratorInfo(
    id="g", family="fake", sha256="0" * 64, image_shape=(2, 2, 1), class_names=("ant", "bee", "cat"), z_dim=2
)


def order(order_id: str = "run-1-0", **given: object) -> Order:
    defaults = {"generators": ("g",), "labels": Balanced(classes=(0, 1, 2)), "count": 10, "seed": 7, "sink": "ring"}
    return Order.model_validate({"id": order_id, "ticket_size": 4, **defaults, **given})


def delivery(
    of: Order,
    ticket: int,
    *,
    shift: int = 0,
    keep: int | None = None,
    snapshot: int | None = None,
    soft: int | None = None,
) -> Delivery:
    """A ticket of images that are as bright as their index; `keep` rows of it, moved on by `shift` indices."""
    indices = np.arange(ticket * 4, min(ticket * 4 + 4, of.count), dtype=np.int64)[:keep] + shift
    images = np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), 2, 2, 1))
    rows = Rows(
        images,
        of.labels.of(indices - shift),
        indices,
        np.zeros(len(indices), np.int32),
        sigma=1.0,
        snapshot=snapshot,
        soft_labels=None if soft is None else np.tile(indices[:, None] / 16, (1, soft)).astype(np.float16),
    )
    payload = write_batch(make_batch(rows, order=of.id, seed=of.seed, strategy=of.strategy, generators=[INFO]))
    return Delivery(of.id, ticket, len(indices), payload, b"")


def end(of: Order, state: str = "done", tally: Tally = NOTHING) -> OrderEnd:
    return OrderEnd(of.id, state, "so it goes", 0, b"", tally)  # type: ignore[arg-type]


def intake(*orders: Order, version: int = 3, soft_labels: int | None = None) -> Intake:
    return Intake(orders, INFO.image_shape, version, soft_labels)


def test_arrival_order_and_repeats_leave_no_trace() -> None:
    a, b = order("a"), order("b", count=5, seed=8)
    taken = intake(a, b)
    for of, ticket in ((b, 1), (a, 2), (a, 0), (b, 1), (b, 0), (a, 1), (a, 2)):
        taken.add(delivery(of, ticket))
    assert [o.id for o in taken.open] == ["a", "b"]
    taken.end(end(a))
    taken.end(end(b))
    assert taken.open == []
    came = taken.collected()
    assert came.images[:, 0, 0, 0].tolist() == came.indices.tolist() == [*range(10), *range(5)]
    assert came.seeds.tolist() == [7] * 10 + [8] * 5
    assert came.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1]
    assert (taken.received, taken.wanted) == (15, 15)


def test_other_orders_are_passed_over() -> None:
    taken = intake(order())
    taken.add(delivery(order("somebody-else"), 0))
    taken.end(end(order("somebody-else"), "failed"))
    assert taken.received == 0


def test_a_shortfall_within_a_ticket_is_counted() -> None:
    taken = intake(order())
    for ticket in range(3):
        taken.add(delivery(order(), ticket, keep=1))
    taken.end(end(order()))
    assert taken.collected().indices.tolist() == [0, 4, 8]
    assert taken.received == 3
    assert taken.short == {0: 3, 1: 2, 2: 2}  # of 0 1 2 0 | 1 2 0 1 | 2 0 there came 0, 1 and 2


def test_a_ticket_without_a_single_image_came_all_the_same() -> None:
    taken = intake(order(count=4), soft_labels=3)
    taken.add(delivery(order(count=4), 0, keep=0, soft=3))
    taken.end(end(order(count=4)))
    assert len(taken.collected()) == 0
    assert taken.short == {0: 2, 1: 1, 2: 1}


def test_what_has_not_come_is_not_short() -> None:
    taken = intake(order())
    taken.add(delivery(order(), 1, keep=3))
    taken.withdraw()
    taken.end(end(order(), "cancelled"))
    assert taken.short == {1: 1}


def test_tallies_of_the_orders_add_up() -> None:
    a, b = order("a", count=4), order("b", count=4)
    taken = intake(a, b)
    for of in (a, b):
        taken.add(delivery(of, 0))
        taken.end(end(of, tally=Tally(tried=Counter({1: 5}), wrong_label=Counter({1: 2}))))
    taken.end(end(order("somebody-else"), tally=Tally(tried=Counter({1: 100}))))
    assert taken.tally.counters() == {"tried:1": 10, "wrong_label:1": 4}


def test_rows_say_what_they_are_aimed_at() -> None:
    aimed, random = order("a", count=4, snapshot=SnapshotRef(channel="run", version=2)), order("b", count=4)
    taken = intake(aimed, random)
    taken.add(delivery(aimed, 0, snapshot=2, keep=3))
    taken.add(delivery(random, 0))
    assert taken.collected().snapshots.tolist() == [2] * 3 + [-1] * 4


def test_soft_labels_come_with_their_images() -> None:
    taken = intake(order(), soft_labels=3)
    for ticket, keep in ((2, None), (0, 2), (1, None)):
        taken.add(delivery(order(), ticket, soft=3, keep=keep))
    came = taken.collected()
    assert came.soft is not None
    assert (came.soft.dtype, came.soft.shape) == (np.float16, (8, 3))
    assert np.array_equal(came.soft * 16, np.tile(came.indices[:, None], (1, 3)))
    assert intake(order()).collected().soft is None


@pytest.mark.parametrize(("soft", "has"), [(None, "none"), (4, "4")])
def test_soft_labels_that_are_missing_or_of_other_classes_are_refused(soft: int | None, has: str) -> None:
    with pytest.raises(IntegrityError, match=f"probabilities of 3 classes and has {has}"):
        intake(order(), soft_labels=3).add(delivery(order(), 0, soft=soft))


@pytest.mark.parametrize(("state", "tickets"), [("failed", 1), ("cancelled", 1), ("expired", 1), ("done", 2)])
def test_an_order_that_ends_without_all_of_its_tickets_fails(state: str, tickets: int) -> None:
    taken = intake(order())
    for ticket in range(tickets):
        taken.add(delivery(order(), ticket))
    with pytest.raises(OrderFailed, match=f"run-1-0 .*'{state}' with {tickets} of 3 tickets: so it goes"):
        taken.end(end(order(), state))


def test_a_withdrawn_order_may_end_early() -> None:
    taken = intake(order())
    taken.add(delivery(order(), 1))
    assert [o.id for o in taken.withdraw()] == ["run-1-0"]
    taken.end(end(order(), "cancelled"))
    assert taken.open == []
    assert taken.collected().indices.tolist() == [4, 5, 6, 7]


def test_a_batch_that_was_not_ordered_is_refused() -> None:
    with pytest.raises(IntegrityError, match="ticket 1 of order run-1-0 does not hold what was ordered"):
        intake(order()).add(delivery(order(), 1, shift=1))
    with pytest.raises(IntegrityError, match=r"images \(3, 3, 1\)"):
        Intake([order()], (3, 3, 1), 0).add(delivery(order(), 0))


def test_the_snapshot_that_a_batch_is_aimed_at_is_read_from_the_batch() -> None:
    aimed = order(snapshot=SnapshotRef(channel="run", version=2))
    taken = intake(aimed)
    assert taken.oldest_version is None
    taken.add(delivery(aimed, 0, snapshot=2))
    assert taken.oldest_version == 2
    with pytest.raises(IntegrityError, match=r"aimed at snapshots \[1\], not 2"):
        taken.add(delivery(aimed, 1, snapshot=1))


def test_a_batch_aimed_at_nothing_is_as_old_as_its_order() -> None:
    taken = intake(order(), version=5)
    taken.add(delivery(order(), 0))
    assert taken.oldest_version == 5


def test_rows_may_come_in_any_portions_and_again() -> None:
    taken = intake(order())
    for ticket in (2, 0, 0):
        taken.add_rows("run-1-0", read_batch(delivery(order(), ticket).payload))
    assert taken.received == 6 and taken.open
    taken.complete("run-1-0")
    assert taken.open == [] and taken.short == Counter({0: 1, 1: 2, 2: 1})
    assert taken.collected().indices.tolist() == [0, 1, 2, 3, 8, 9]
    with pytest.raises(IntegrityError, match="a part of order run-1-0 does not hold what was ordered"):
        taken.add_rows("run-1-0", read_batch(delivery(order(), 2, shift=1).payload))
