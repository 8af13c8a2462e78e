"""Recipes: what a file may say, what it leaves out, and those that ship."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import nonesuch_worker
from nonesuch.errors import InvalidValue
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import Discriminator
from tests.helpers.tiny_gan import SMALL, TINY

CONFIGS = sorted((Path(nonesuch_worker.__file__).parents[1] / "configs").glob("pretrain-*.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = ", "not TOML"),
        ("batches = 3", "batches: Extra inputs"),
        ("[generator]\nz_dim = 97", "z_dim 97 does not split into 3"),
        ("[generator]\nimage_size = 30", "use a multiple of 4"),
        ("[discriminator]\nwidths = [1, 1, 1, 1, 1, 1]", "halve an image 5 times"),
        ("[generator]\nattention = 20", "use one of 14, 28"),
        ("[discriminator]\nattention = 28", "use one of 14, 7"),
        ("conditional = false\n[generator]\nclasses = 10", "conditional is false, but generator.classes is 10"),
        ('diffaugment = ["color"]', "generator.channels is 1: grey images have none"),
        ('diffaugment = ["colour"]', r"diffaugment.*'color', 'translation' or 'cutout'"),
        ('name = "a b"', "name: String should match"),
    ],
)
def test_a_wrong_config_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidValue, match=message):
        PretrainConfig.from_toml(tmp_path / "config.toml")


def test_a_config_file_changes_only_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("iterations = 9\n[generator]\nz_dim = 48\n")
    config = PretrainConfig.from_toml(tmp_path / "config.toml")
    assert config == PretrainConfig(iterations=9, generator=CompactConfig(z_dim=48))
    assert config.learning_rates(8) == pytest.approx((2e-4 / 3000, 4e-4 / 3000))
    assert PretrainConfig().learning_rates(0) == (2e-4, 4e-4)


def test_the_shipped_recipe_is_the_default() -> None:
    (path,) = (path for path in CONFIGS if path.name == "pretrain-fashion-mnist.toml")
    assert PretrainConfig.from_toml(path) == PretrainConfig()
    assert len(CONFIGS) == 5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_recipes_build_networks_that_fit_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # the meta device has none
    config = PretrainConfig.from_toml(path)
    shape = config.generator
    with torch.device("meta"):  # shapes without numbers: the large ones cost nothing
        generator = CompactGenerator(shape, config.init)
        judge = Discriminator(
            config.discriminator,
            image_size=shape.image_size,
            channels=shape.channels,
            classes=shape.classes,
            init=config.init,
        )
        images = generator(torch.randn(4, shape.z_dim), torch.zeros(4, dtype=torch.int64))
        assert images.shape == (4, shape.channels, shape.image_size, shape.image_size)
        assert judge(images, torch.zeros(4, dtype=torch.int64)).shape == (4,)


def test_without_labels_there_is_one_class() -> None:
    assert PretrainConfig(conditional=False).generator == CompactConfig(classes=1)
    assert PretrainConfig.model_validate({"conditional": False, "generator": {"z_dim": 48}}).generator.classes == 1
    again = PretrainConfig.model_validate(PretrainConfig(conditional=False).model_dump(mode="json"))
    assert again == PretrainConfig(conditional=False)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "fashion-mnist"),
        ({"seed": 1}, "fashion-mnist-s1"),
        ({"generator": {"block": "concat"}}, "fashion-mnist-concat"),
        ({"conditional": False, "seed": 3}, "fashion-mnist-unconditional-s3"),
        ({"data": "some/where/My pictures.npz"}, "My-pictures"),
        ({"data": "/"}, "generator"),
        ({"name": "chosen", "seed": 2}, "chosen"),
    ],
)
def test_a_generator_has_a_name(values: dict[str, object], name: str) -> None:
    assert PretrainConfig.model_validate(values).generator_id == name


def test_runs_have_the_same_rates_until_either_decay_begins() -> None:
    short, long = TINY, TINY.model_copy(update={"iterations": 9})  # decays begin at 4 and 7
    for done in range(1, 7):
        equal = all(short.learning_rates(i) == long.learning_rates(i) for i in range(done))
        assert short.same_rates(long, done) == long.same_rates(short, done)
        assert equal or not short.same_rates(long, done)
        assert short.same_rates(long, done) == (done <= 4)
    assert short.same_rates(short, 6)
    assert PretrainConfig(generator=SMALL, decay_iterations=20, iterations=10).decay_start == 0
