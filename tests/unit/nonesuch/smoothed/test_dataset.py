"""What a `SmoothedDataset` orders: the same as a training run with the same settings and seed."""

import subprocess
import sys

import pytest
from torch import nn

from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.labels import resolve_classes
from nonesuch.offers import Catalog, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.orders import Order, SnapshotRef
from nonesuch.smoothed.orders import DatasetOrders, Wanted, parts_of
from nonesuch.smoothed.published import bare
from nonesuch.smoothed.settings import Smoothing
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Minted
from nonesuch_trainer.sources.ordering import Ordering

INFO = GeneratorInfo(
    id="g", family="fake", sha256="0" * 64, image_shape=(8, 8, 1), class_names=("ant", "bee", "cat"), z_dim=2
)
TWIN = INFO.model_copy(update={"id": "h"})
RANDOM = StrategyInfo(name="random", schema={"type": "object"})
HSM = StrategyInfo(name="hsm", schema={"type": "object"}, needs_snapshot=True)
AIM = SnapshotRef(channel="ring", version=4)


def catalog(*generators: GeneratorInfo) -> Catalog:
    worker = WorkerInfo(
        id="w", host="h", pid=1, device="cpu", started=0.0, generators=generators, strategies=(RANDOM, HSM)
    )
    return Catalog(workers=(worker,))


def smoothing(**given: object) -> Smoothing:
    defaults = {
        "size": 20, "replace": 0.5, "mined": 0.5, "generator": None, "classes": None, "strategy": "hsm", "params": {},
        "random_params": {}, "staleness": 1, "victims": "random", "seed": 7,
    }  # fmt: skip
    return validated(Smoothing, {**defaults, **given}, "test")


def ordered(smoothing: Smoothing, birth: int, aim: SnapshotRef | None = AIM) -> tuple[Order, ...]:
    classes = sorted(set(resolve_classes(smoothing.classes, INFO.class_names)))
    orders = DatasetOrders((INFO,), classes, seed=smoothing.seed)
    return Wanted(orders, birth, parts_of(smoothing, birth)).placed("x", "ring", aim)


def content(orders: tuple[Order, ...]) -> list[tuple[object, ...]]:
    """What decides the images."""
    return [(o.generators, o.strategy, o.params, o.labels, o.count, o.seed, o.ticket_size) for o in orders]


@pytest.mark.parametrize("given", [{}, {"classes": ["cat", "ant"]}, {"params": {"steps": 3}}])
def test_it_orders_what_a_training_run_orders(given: dict[str, object]) -> None:
    mined = {"strategy": "hsm", "params": given.get("params", {})}
    dataset = {
        "kind": "minted", "generators": ["g"], "size": 20, "replacement": 0.5, "fresh": [mined, {}],
        "classes": sorted(given["classes"]) if "classes" in given else None,
    }  # fmt: skip
    config = TrainConfig.model_validate({"run": "run", "seed": 7, "dataset": dataset})
    assert isinstance(config.dataset, Minted)
    run = Ordering(config.dataset, catalog(INFO), name="run", seed=config.seed)
    assert content(ordered(smoothing(**given), 0, None)) == content(run.first())
    assert content(ordered(smoothing(**given), 3)) == content(run.fresh(3, version=3))


def test_only_the_mined_ones_are_aimed() -> None:
    mined, drawn = ordered(smoothing(), 1)
    assert (mined.id, mined.snapshot, drawn.id, drawn.snapshot) == ("x-0", AIM, "x-1", None)
    assert (mined.count, drawn.count, mined.sink) == (5, 5, "ring")


@pytest.mark.parametrize(("mined", "strategies"), [(0, ["random"]), (1, ["hsm"]), (0.04, ["random"])])
def test_a_part_of_no_images_is_not_ordered(mined: float, strategies: list[str]) -> None:
    orders = ordered(smoothing(mined=mined), 1)
    assert [(o.strategy, o.count) for o in orders] == [(strategies[0], 10)]


def test_less_than_an_image_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"replace 0\.02 of size 20 is not a single image"):
        smoothing(replace=0.02)


def test_wrappers_are_taken_off() -> None:
    network = nn.Linear(2, 3)
    assert bare(network) is network
    assert bare(nn.DataParallel(nn.DataParallel(network))) is network


def test_torch_is_asked_for_by_name_where_it_is_missing() -> None:
    check = "import sys; sys.modules['torch'] = None; import nonesuch; nonesuch.SmoothedDataset"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert "SmoothedDataset takes torch, which is not installed: pip install 'nonesuch[torch]'" in done.stderr
