"""What a config accepts, and what it says when it does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nonesuch_trainer
from nonesuch.errors import InvalidValue
from nonesuch.seeds import key, numpy_rng, torch_rng
from nonesuch.smoothed.settings import Wait
from nonesuch_trainer.learning.augment import augment
from nonesuch_trainer.learning.optim import learning_rate
from nonesuch_trainer.settings.config import TrainConfig, load
from nonesuch_trainer.settings.datasets import Augmented, Collected, Minted, Portion, Real
from nonesuch_trainer.settings.identity import RunIdentity
from nonesuch_trainer.settings.learning import Augment, Optimiser
from nonesuch_trainer.sources.real import balanced_rows

CONFIGS = sorted((Path(nonesuch_trainer.__file__).parents[1] / "configs").glob("*.toml"))


# -- files ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads(path: Path) -> None:
    loaded = load(path)
    assert loaded.run == path.stem
    assert loaded.folder == Path("runs") / path.stem


def differing(one: TrainConfig, other: TrainConfig) -> list[str]:
    return RunIdentity.of(one).differences(RunIdentity.of(other))


def test_the_shipped_configs_are_arms_of_one_comparison() -> None:
    arms = {path.stem: load(path) for path in CONFIGS}
    assert isinstance(arms["real"].dataset, Real)
    assert isinstance(arms["smoothing"].dataset, Minted)
    assert differing(arms["smoothing"], arms["fixed"]) == ["dataset.fresh", "dataset.replacement"]
    assert differing(arms["smoothing"], arms["smoothing-hsm"]) == ["dataset.fresh"]
    assert differing(arms["smoothing"], arms["filtered"]) == [
        "dataset.first.params.threshold", "dataset.first.strategy", "dataset.fresh",
    ]  # fmt: skip
    for name in ("collected", "augmented", "real", "continuous"):
        assert all(d.startswith("dataset.") for d in differing(arms[name], arms["fixed"]))


def test_the_shipped_configs_are_the_methods() -> None:
    arms = {path.stem: load(path) for path in CONFIGS}
    collected, augmented, continuous = (arms[name].dataset for name in ("collected", "augmented", "continuous"))
    assert isinstance(collected, Collected)
    assert (collected.size, collected.step, collected.steps, collected.mined.strategy) == (4000, 400, 9, "hsm")
    assert isinstance(augmented, Augmented)
    assert (augmented.real.size, augmented.minted.size, augmented.minted.replacement) == (4000, 1000, 0.0)
    assert isinstance(continuous, Minted)
    assert continuous.replacement == 1.0
    spelled_out, default = arms["smoothing-hsm"].dataset, Minted()
    assert isinstance(spelled_out, Minted)
    assert [r.strategy for r in spelled_out.fresh] == ["hsm", "random"]
    assert [r.strategy for r in default.fresh] == ["hsm", None]  # half mined, half random is what Alg. 2 says
    teacher, taught = arms["teacher"], arms["filtered"].dataset
    assert isinstance(teacher.dataset, Real)
    assert isinstance(taught, Minted) and taught.teacher is not None
    assert taught.teacher.classifier == teacher.folder / "classifier.safetensors"
    assert teacher.seed not in {arm.seed for name, arm in arms.items() if name != "teacher"}
    assert teacher.evaluate.split == "validation"


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
        ('run = "a"\ndataset = { kind = "minted", labels = "soft" }', "labels 'soft' are a teacher's"),
        ('run = "a"\ndataset = { kind = "minted", teacher = {} }', "either `classifier` or `channel`"),
        (
            'run = "a"\ndataset = { kind = "minted", teacher = { classifier = "a", channel = "b" } }',
            "either `classifier` or `channel`",
        ),
        (
            'run = "a"\ndataset = { kind = "minted", teacher = { classifier = "a", version = 3 } }',
            "version 3 is of a `channel`",
        ),
        (
            'run = "a"\ndataset = { kind = "minted", replacement = 0, quotas = {} }',
            "quotas are of the images that are replaced",
        ),
        ('run = "a"\nadapt = { to = "fashion-mnist/test" }', "the images of fashion-mnist/test judge the run"),
        ('run = "a"\nadapt = { to = "x", form = "cumulative", alpha = 0.1 }', "alpha 0.1 belongs to the form ema"),
        ('run = "a"\nadapt = {}', "adapt.to"),
        ('run = "a"\ndataset = { kind = "minted", quotas = { split = "test" } }', "quotas.split.*given: 'test'"),
        (
            'run = "a"\ndataset = { kind = "minted", quotas = {} }\nevaluate = { split = "validation" }',
            "the validation images judge the run",
        ),
        ('run = "a"\ndataset = { kind = "collected", size = 10, step = 10 }', "step 10 fills the size 10 at once"),
        (
            'run = "a"\ndataset = { kind = "augmented", percent = 50, minted = { size = 3 } }',
            r"size 3 is not 50\.0 % of real\.size 4000: leave it out",
        ),
        ('run = "a"\ndataset = { kind = "augmented", percent = 0 }', "percent.*given: 0"),
        (
            'run = "a"\n[dataset]\nkind = "augmented"\nminted = { quotas = {}, replacement = 0.5 }\n'
            '[evaluate]\nsplit = "validation"',
            "the validation images judge the run",
        ),
        ('run = "a"\noptimiser = { lr = nan }', "optimiser.lr"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_its_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InvalidValue, match=message):
        load(path)


@pytest.mark.parametrize(
    "dataset",
    [
        Augmented(kind="augmented", percent=12.5, real=Real(size=400), minted=Minted(replacement=0.5)),
        Collected(kind="collected", size=90, step=40),
        Minted(fresh=(Portion(strategy="hsm", params={"steps": 3}, from_epoch=2),), replacement=1.0),
    ],
    ids=lambda dataset: dataset.kind,
)
def test_a_config_survives_its_own_json(dataset: Minted | Collected | Augmented) -> None:
    config = TrainConfig(run="a", dataset=dataset)
    again = TrainConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert differing(config, again) == []


def test_the_minted_part_follows_from_the_real_one() -> None:
    augmented = Augmented(kind="augmented", percent=12.5, real=Real(size=400), minted=Minted(victims="oldest"))
    assert (augmented.minted.size, augmented.minted.replacement, augmented.minted.victims) == (50, 0.0, "oldest")


@pytest.mark.parametrize(("size", "step", "added"), [(100, 40, [40, 20]), (80, 40, [40]), (81, 40, [40, 1])])
def test_collecting_stops_at_n(size: int, step: int, added: list[int]) -> None:
    collected = Collected(kind="collected", size=size, step=step)
    assert [collected.fresh_images(birth) for birth in range(1, collected.steps + 1)] == added
    assert collected.first_images + sum(added) == size


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


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


def test_settings_are_read_without_torch() -> None:
    check = "import sys, nonesuch_trainer.settings.identity; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
