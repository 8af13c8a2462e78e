"""What a config accepts, what it says when it does not, and what it orders."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nonesuch_trainer
from nonesuch.catalog import Catalog, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.errors import InvalidOrder, InvalidValue
from nonesuch_trainer.augment import augment
from nonesuch_trainer.checkpoint import differences
from nonesuch_trainer.config import Augment, Minted, Optimiser, Real, Recipe, TrainConfig, Wait, load
from nonesuch_trainer.optim import learning_rate
from nonesuch_trainer.ordering import Ordering, divide, service_name
from nonesuch_trainer.provenance import of_generators
from nonesuch_trainer.real import balanced_rows
from nonesuch_trainer.seeds import key, numpy_rng, torch_rng

CONFIGS = sorted((Path(nonesuch_trainer.__file__).parents[1] / "configs").glob("*.toml"))
INFO = GeneratorInfo(
    id="g", family="fake", sha256="0" * 64, image_shape=(8, 8, 1), class_names=("ant", "bee", "cat"), z_dim=2
)
MINER = StrategyInfo(name="hsm", schema={}, needs_snapshot=True)
WORKER = WorkerInfo(id="w", host="h", pid=1, device="cpu", started=0.0, generators=(INFO,), strategies=(MINER,))
CATALOG = Catalog(workers=(WORKER,))


def config(**dataset: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {"run": "run", "dataset": {"kind": "minted", "generators": ["g"], "size": 20, **dataset}}
    )


# -- files ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    loaded = load(path)
    assert loaded.run == path.stem
    assert loaded.folder == Path("runs") / path.stem


def test_the_shipped_configs_are_arms_of_one_comparison() -> None:
    arms = {path.stem: load(path) for path in CONFIGS}
    assert isinstance(arms["real"].dataset, Real)
    assert isinstance(arms["smoothing"].dataset, Minted)
    assert differences(arms["smoothing"], arms["fixed"]) == ["dataset.replacement"]
    assert len({arm.dataset.size for arm in arms.values()}) == 1
    assert all(name.startswith("dataset.") for name in differences(arms["real"], arms["fixed"]))


def test_settings_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('run = "a"\n[dataset]\nkind = "minted"\n')
    loaded = load(path, ["dataset.size=77", "run=b", "dataset.late={kind='wait', patience_s=1}", "optimiser.lr=0.5"])
    assert isinstance(loaded.dataset, Minted)
    assert (loaded.run, loaded.dataset.size, loaded.optimiser.lr) == ("b", 77, 0.5)
    assert loaded.dataset.late == Wait(patience_s=1)
    with pytest.raises(InvalidValue, match="'lr' is not name=value"):
        load(path, ["lr"])
    with pytest.raises(InvalidValue, match="'run' is a value, not a table"):
        load(path, ["run.x=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run = ", "not TOML"),
        ('run = "a b"', "run: .*given: 'a b'"),
        ('run = "a"\nepoch = 3', "epoch: Extra inputs"),
        ('run = "a"\ndataset = { kind = "minted", replacement = 1.5 }', "dataset.minted.replacement.*given: 1.5"),
        (
            'run = "a"\ndataset = { kind = "minted", size = 10, replacement = 0.01 }',
            "is 0 images.*set replacement to 0",
        ),
        ('run = "a"\ndataset = { kind = "made up" }', "made up"),
        ('run = "a"\noptimiser = { lr = nan }', "optimiser.lr"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_its_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=message):
        load(path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


# -- orders --------------------------------------------------------------------------------------------------------
def test_orders_are_functions_of_seed_and_epoch() -> None:
    ordering = Ordering(config(), CATALOG)
    (first,), (fresh,), (later,) = ordering.first(), ordering.fresh(3, 3), ordering.fresh(4, 4)
    name = service_name(config())
    assert (first.id, first.count) == (f"{name}-0-0", 20)
    assert (fresh.id, fresh.count, fresh.sink) == (f"{name}-3-0", 10, name)
    assert len({first.seed, fresh.seed, later.seed}) == 3
    assert Ordering(config(), CATALOG).fresh(3, 7)[0] == fresh  # random images are aimed at nothing
    other = Ordering(config().model_copy(update={"seed": 1}), CATALOG)
    assert other.first()[0].seed != first.seed


def test_half_mined_half_random_goes_on_in_the_same_round_of_classes() -> None:
    recipes = (Recipe(strategy="hsm"), Recipe())
    mined, random = Ordering(config(fresh=recipes, size=14, replacement=1.0), CATALOG).fresh(2, 1)
    assert (mined.id[-4:], random.id[-4:], mined.count, random.count) == ("-2-0", "-2-1", 7, 7)
    assert mined.snapshot is not None
    assert (mined.snapshot.channel, mined.snapshot.version) == (mined.sink, 1)
    assert random.snapshot is None
    labels = np.concatenate([order.labels.of(np.arange(order.count)) for order in (mined, random)])
    assert np.bincount(labels).tolist() == [5, 5, 4]


def test_a_ring_holds_its_tickets_and_carries_the_runs_snapshots() -> None:
    ring = Ordering(config(ticket_size=8, ring_slots=3), CATALOG).ring
    assert ring.name == ring.channel == service_name(config())
    assert ring.slots == 3
    assert ring.slot_bytes > 8 * 8 * 8


def test_runs_of_one_name_in_two_folders_do_not_meet_in_the_service() -> None:
    names = {service_name(config().model_copy(update={"out": Path(folder)})) for folder in ("a", "b", "./a")}
    assert len(names) == 2
    assert all(name.startswith("run-") for name in names)


def test_an_unknown_class_is_refused() -> None:
    assert Ordering(config(classes=["cat", 0]), CATALOG).classes == (2, 0)
    with pytest.raises(InvalidOrder, match="unknown class 'dog'"):
        Ordering(config(classes=["dog"]), CATALOG)


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [(10, [1], [10]), (7, [1, 1], [4, 3]), (3, [1, 1, 1], [1, 1, 1]), (10, [1, 1e-9], [9, 1]), (9, [2, 1], [6, 3])],
)
def test_shares_divide_a_total(total: int, shares: list[float], parts: list[int]) -> None:
    assert divide(total, shares) == parts


def test_the_generators_training_is_part_of_what_a_run_says() -> None:
    said = of_generators([INFO]).statement
    assert said == "real information used by the classifier: none (generator g was trained on labelled real images)"


# -- numbers -------------------------------------------------------------------------------------------------------
def test_the_learning_rate_is_a_function_of_the_step() -> None:
    settings = Optimiser(lr=1.0, milestones=(0.5, 0.75), decay=0.1, warmup_epochs=1)
    rates = [learning_rate(settings, step, steps_per_epoch=4, epochs=4) for step in range(16)]
    assert rates == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 5 + [0.1] * 4 + [0.01] * 4)


def test_keys_differ_by_purpose_seed_and_place() -> None:
    keys = {key(0, "images", 1), key(0, "shuffle", 1), key(1, "images", 1), key(0, "images", 2), key(0, "images", 1, 0)}
    assert len(keys) == 5
    assert all(0 <= k < 2**63 for k in keys)
    assert key(0, "images", 1) == 7690760324761740927  # the same on every machine, for ever


def test_a_balanced_subset_of_real_images() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), [5, 9, 7])
    rows = balanced_rows(labels, 13, numpy_rng(0, "subset"))
    assert np.bincount(labels[rows]).tolist() == [5, 4, 4]
    assert len(set(rows.tolist())) == 13
    with pytest.raises(InvalidValue, match=r"18 images.*class 0, which has 5: dataset.size can be 15"):
        balanced_rows(labels, 18, numpy_rng(0, "subset"))


# -- augmentation --------------------------------------------------------------------------------------------------
def test_shifts_and_mirrors_move_every_pixel_of_an_image_alike() -> None:
    images = torch.arange(1, 37, dtype=torch.uint8).view(1, 6, 6, 1).repeat(200, 1, 1, 1)
    shown = augment(images, Augment(shift=1, hflip=True), torch_rng(0, "augment"))
    padded = torch.nn.functional.pad(images[0], (0, 0, 1, 1, 1, 1))
    possible = {
        crop.numpy().tobytes()
        for y in range(3)
        for x in range(3)
        for crop in (padded[y : y + 6, x : x + 6], padded.flip(1)[y : y + 6, x : x + 6])
    }
    assert {image.numpy().tobytes() for image in shown} == possible  # all 18, and nothing else
    assert torch.equal(shown, augment(images, Augment(shift=1, hflip=True), torch_rng(0, "augment")))


def test_no_augmentation_is_no_change() -> None:
    images = torch.randint(256, (3, 4, 4, 3), dtype=torch.uint8)
    assert augment(images, Augment(), torch_rng(0, "augment")) is images
