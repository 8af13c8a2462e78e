"""What a run orders, as a function of its config and of what the workers offer."""

from pathlib import Path

import numpy as np
import pytest

from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced, Quota
from nonesuch.offers import Catalog, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.orders import Order, SnapshotRef
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Collected, Minted, Portion
from nonesuch_trainer.sources.ordering import Ordering, divide, service_name

INFO = GeneratorInfo(
    id="g", family="fake", sha256="0" * 64, image_shape=(8, 8, 1), class_names=("ant", "bee", "cat"), z_dim=2
)
TWIN = INFO.model_copy(update={"id": "h"})
COMMON = {"sigma": {"type": "number"}, "soft_labels": {"type": "boolean", "needs": "teacher"}}
MINING = {**COMMON, "steps": {"type": "integer"}, "verify": {"type": "boolean", "needs": "teacher"}}


def schema(properties: dict[str, dict[str, str]]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


STRATEGIES = (
    StrategyInfo(name="random", schema=schema(COMMON)),
    StrategyInfo(name="mixture", schema=schema({**COMMON, "weights": {"type": "array"}}), mixes=True),
    StrategyInfo(name="hsm", schema=schema({**MINING, "weights": {"type": "array"}}), needs_snapshot=True, mixes=True),
    StrategyInfo(name="filtered", schema=schema(COMMON), needs_teacher=True),
)
WORKER = WorkerInfo(id="w", host="h", pid=1, device="cpu", started=0.0, generators=(INFO, TWIN), strategies=STRATEGIES)
CATALOG = Catalog(workers=(WORKER,))
TEACHER = {"channel": "taught"}


def config(**dataset: object) -> TrainConfig:
    given = {"kind": "minted", "generators": ["g"], "size": 20, "fresh": [{}], **dataset}
    if given["kind"] == "collected":
        del given["fresh"]
    return TrainConfig.model_validate({"run": "run", "dataset": given})


def name_of(config: TrainConfig) -> str:
    return service_name(config.run, config.folder)


def ordering_of(config: TrainConfig, catalog: Catalog) -> Ordering:
    assert isinstance(config.dataset, Minted | Collected)
    return Ordering(config.dataset, catalog, name=name_of(config), seed=config.seed)


def labels_of(*orders: Order) -> list[int]:
    """How many of each class the orders ask for together."""
    labels = np.concatenate([order.labels.of(np.arange(order.count)) for order in orders])
    return np.bincount(labels, minlength=3).tolist()


def test_orders_are_functions_of_seed_and_epoch() -> None:
    ordering = ordering_of(config(), CATALOG)
    (first,), (fresh,), (later,) = ordering.first(), ordering.fresh(3, 3), ordering.fresh(4, 4)
    name = name_of(config())
    assert (first.id, first.count) == (f"{name}-0-0", 20)
    assert (fresh.id, fresh.count, fresh.sink) == (f"{name}-3-0", 10, name)
    assert len({first.seed, fresh.seed, later.seed}) == 3
    assert ordering_of(config(), CATALOG).fresh(3, 7)[0] == fresh  # random images are aimed at nothing
    other = ordering_of(config().model_copy(update={"seed": 1}), CATALOG)
    assert other.first()[0].seed != first.seed


def test_half_mined_half_random_goes_on_in_the_same_round_of_classes() -> None:
    portions = (Portion(strategy="hsm"), Portion())
    mined, random = ordering_of(config(fresh=portions, size=14, replacement=1.0), CATALOG).fresh(2, 1)
    assert (mined.id[-4:], random.id[-4:], mined.count, random.count) == ("-2-0", "-2-1", 7, 7)
    assert mined.snapshot is not None
    assert (mined.snapshot.channel, mined.snapshot.version) == (mined.sink, 1)
    assert random.snapshot is None
    labels = np.concatenate([order.labels.of(np.arange(order.count)) for order in (mined, random)])
    assert sorted(np.bincount(labels).tolist()) == [4, 5, 5]


def test_a_ring_holds_its_tickets_and_carries_the_runs_snapshots() -> None:
    ring = ordering_of(config(ticket_size=8, ring_slots=3), CATALOG).ring
    assert ring.name == name_of(config())
    assert ring.channels == (ring.name,)
    assert ring.slots == 3
    assert ring.slot_bytes > 8 * 8 * 8


def test_runs_of_one_name_in_two_folders_do_not_meet_in_the_service() -> None:
    names = {name_of(config().model_copy(update={"out": Path(folder)})) for folder in ("a", "b", "./a")}
    assert len(names) == 2
    assert all(name.startswith("run-") for name in names)


def test_an_unknown_class_is_refused() -> None:
    assert ordering_of(config(classes=["cat", 0]), CATALOG).classes == (2, 0)
    with pytest.raises(InvalidOrder, match="unknown class 'dog'"):
        ordering_of(config(classes=["dog"]), CATALOG)


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [(10, [1], [10]), (7, [1, 1], [4, 3]), (3, [1, 1, 1], [1, 1, 1]), (10, [1, 1e-9], [9, 1]), (9, [2, 1], [6, 3])],
)
def test_shares_divide_a_total(total: int, shares: list[float], parts: list[int]) -> None:
    assert divide(total, shares) == parts


# -- strategies ----------------------------------------------------------------------------------------------------
def test_by_default_half_is_mined() -> None:
    default = TrainConfig.model_validate({"run": "run", "dataset": {"kind": "minted", "generators": ["g"], "size": 20}})
    mined, random = ordering_of(default, CATALOG).fresh(1, 1)
    assert (mined.strategy, mined.count, random.strategy, random.count) == ("hsm", 5, "random", 5)
    assert mined.snapshot == SnapshotRef(channel=name_of(default), version=1)


def test_several_generators_are_mixed_where_nothing_else_is_said() -> None:
    ordering = ordering_of(config(generators=["g", "h"], fresh=[{}, {"strategy": "hsm"}]), CATALOG)
    assert [order.strategy for order in (*ordering.first(), *ordering.fresh(1, 1))] == ["mixture", "mixture", "hsm"]


def test_mining_sets_in_at_its_epoch() -> None:
    portions = [{"strategy": "hsm", "params": {"steps": 3, "sigma": 2.0}, "from_epoch": 4}, {"strategy": "hsm"}]
    ordering = ordering_of(config(fresh=portions), CATALOG)
    early, always = ordering.fresh(3, 3)
    late, _ = ordering.fresh(4, 4)
    assert (early.strategy, early.params, early.snapshot) == ("random", {"sigma": 2.0}, None)
    assert (late.strategy, late.params) == ("hsm", {"sigma": 2.0, "steps": 3})
    assert late.snapshot is not None and always.snapshot is not None
    at_once = ordering_of(config(fresh=[{**portions[0], "from_epoch": 0}, portions[1]]), CATALOG).fresh(3, 3)[0]
    assert (early.id, early.seed, early.count, early.labels) == (
        at_once.id,
        at_once.seed,
        at_once.count,
        at_once.labels,
    )
    mixed = ordering_of(
        config(generators=["g", "h"], fresh=[{"strategy": "hsm", "params": {"weights": [1, 2]}, "from_epoch": 9}]),
        CATALOG,
    )
    assert (mixed.fresh(1, 1)[0].strategy, mixed.fresh(1, 1)[0].params) == ("mixture", {"weights": [1, 2]})


# -- a teacher -----------------------------------------------------------------------------------------------------
def test_every_order_names_the_teacher_and_the_ring_carries_it() -> None:
    ordering = ordering_of(config(teacher=TEACHER), CATALOG)
    own = SnapshotRef(channel=f"{ordering.name}-teacher", version=0)
    assert {order.teacher for order in (*ordering.first(), *ordering.fresh(1, 1))} == {own}
    assert ordering.ring.channels == (ordering.name, own.channel)
    assert ordering_of(config(), CATALOG).first()[0].teacher is None
    long = config(teacher=TEACHER).model_copy(update={"run": "r" * 40})
    assert len(ordering_of(long, CATALOG).ring.channels[1]) <= 64


def test_soft_labels_are_asked_for_in_every_portion() -> None:
    portions = [{"strategy": "hsm", "params": {"steps": 2}, "from_epoch": 5}, {}]
    ordering = ordering_of(config(teacher=TEACHER, labels="soft", fresh=portions), CATALOG)
    ordering.check(CATALOG)
    orders = (*ordering.first(), *ordering.fresh(1, 1), *ordering.fresh(5, 5))
    assert all(order.params["soft_labels"] is True for order in orders)
    assert "soft_labels" not in ordering_of(config(teacher=TEACHER), CATALOG).first()[0].params


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"first": {"strategy": "filtered"}}, "filtered needs a teacher"),
        ({"fresh": [{"strategy": "filtered"}]}, "filtered needs a teacher"),
        ({"fresh": [{"strategy": "filtered", "from_epoch": 7}]}, "filtered needs a teacher"),
        ({"fresh": [{"strategy": "hsm", "params": {"verify": True}}]}, "hsm with verify needs a teacher"),
        ({"fresh": [{"strategy": "hsm", "params": {"step": 1}}]}, "'step' was unexpected"),
        ({"fresh": [{"strategy": "harder"}]}, "unknown strategy 'harder'"),
        ({"first": {"strategy": "hsm"}, "replacement": 0}, "there is none yet"),
        ({"kind": "collected", "step": 5, "mined": {"strategy": "filtered"}}, "filtered needs a teacher"),
        ({"generators": ["g", "h"], "fresh": [{"strategy": "random"}]}, "uses one generator"),
    ],
)
def test_what_could_not_be_minted_later_is_refused_at_once(dataset: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOrder, match=message):
        ordering_of(config(**dataset), CATALOG).check(CATALOG)


def test_what_is_never_ordered_needs_nothing() -> None:
    ordering_of(config(replacement=0, fresh=[{"strategy": "filtered"}]), CATALOG).check(CATALOG)
    ordering_of(config(first={"strategy": "hsm"}), CATALOG).check(CATALOG)  # the run publishes version 0


# -- steps of Alg. 1 -----------------------------------------------------------------------------------------------
def test_steps_of_a_collection_stop_at_n_and_stay_balanced() -> None:
    ordering = ordering_of(config(kind="collected", size=20, step=8), CATALOG)
    (first,), (second,), (third,) = ordering.first(), ordering.fresh(1, 1), ordering.fresh(2, 2)
    assert [order.strategy for order in (first, second, third)] == ["random", "hsm", "hsm"]
    assert [order.count for order in (first, second, third)] == [8, 8, 4]
    assert (second.snapshot, third.snapshot) == tuple(SnapshotRef(channel=ordering.name, version=v) for v in (1, 2))
    assert sorted(labels_of(first, second, third)) == [6, 7, 7]
    assert len({first.seed, second.seed, third.seed}) == 3


# -- quotas --------------------------------------------------------------------------------------------------------
def test_quotas_follow_the_errors_and_are_split_over_the_portions() -> None:
    portions = [{"strategy": "hsm", "share": 2}, {}]
    ordering = ordering_of(config(size=120, fresh=portions, quotas={"strength": 0.5}), CATALOG)
    mined, random = ordering.fresh(1, 1, {0: 0.3, 1: 0.1, 2: 0.0})
    assert (mined.count, random.count) == (40, 20)
    assert isinstance(mined.labels, Quota)
    together = labels_of(mined, random)
    assert together == [33, 17, 10]  # a third of 30 each, and of the other 30 three quarters and one
    assert all(abs(n - 2 * total / 3) <= 1 for n, total in zip(labels_of(mined), together, strict=True))
    assert isinstance(ordering.fresh(1, 1, None)[0].labels, Balanced)  # nothing is known yet
    assert isinstance(ordering_of(config(), CATALOG).fresh(1, 1, {0: 1.0})[0].labels, Balanced)  # nor wanted


def test_where_errors_are_equal_no_class_is_favoured() -> None:
    ordering = ordering_of(config(size=20, replacement=0.1, quotas={"strength": 0.5}), CATALOG)
    counts = np.sum([labels_of(*ordering.fresh(birth, 1, dict.fromkeys(range(3), 0.2))) for birth in range(90)], axis=0)
    assert counts.sum() == 180 and counts.min() > 45  # two images an epoch, and three classes


def test_quotas_are_of_the_chosen_classes() -> None:
    ordering = ordering_of(config(size=40, classes=["cat", "ant"], quotas={"strength": 1.0}), CATALOG)
    assert labels_of(*ordering.fresh(1, 1, {0: 0.0, 1: 0.9, 2: 0.2})) == [1, 0, 19]  # the ant keeps one
