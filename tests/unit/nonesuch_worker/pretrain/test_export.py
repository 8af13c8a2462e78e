"""Exported generators: the weights, read strictly, and what the card says."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch_worker.generators.compact.folder import CARD, WEIGHTS, load_compact
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.export import export_generator
from nonesuch_worker.pretrain.loop import train
from nonesuch_worker.pretrain.metrics import spread, spread_ratio
from tests.helpers.tiny_gan import SMALL, TINY, changed, noise


@pytest.fixture
def real() -> RealImages:
    return noise()


@pytest.fixture
def exported(tmp_path: Path, real: RealImages) -> Path:
    network = CompactGenerator(SMALL)
    return export_generator(network, tmp_path / "g", config=TINY, iterations=0, real=real, metrics={"spread_ratio": 1})


def inputs(count: int, config: CompactConfig = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_dim, generator=rng), torch.arange(count) % config.classes


@pytest.mark.parametrize("spectral", [False, True])
def test_export_and_load_give_the_same_images(tmp_path: Path, real: RealImages, spectral: bool) -> None:
    network = CompactGenerator(SMALL.model_copy(update={"spectral_norm": spectral, "attention": 4})).eval()
    folder = export_generator(network, tmp_path / "3", config=TINY, iterations=3, real=real, metrics={})
    loaded, card = load_compact(folder)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert card["architecture"]["spectral_norm"] is False
    torch.testing.assert_close(loaded(*inputs(5)), network(*inputs(5)))


def test_a_damaged_byte_is_refused(exported: Path) -> None:
    data = bytearray((exported / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (exported / WEIGHTS).write_bytes(data)
    with pytest.raises(IntegrityError, match="sha256"):
        load_compact(exported)


def test_every_fault_of_the_weights_is_named(exported: Path, real: RealImages) -> None:
    tensors = load_file(exported / WEIGHTS)
    del tensors["norm.bias"]
    tensors["extra"] = torch.zeros(1)
    tensors["output.bias"] = torch.zeros(7)
    tensors["input.bias"] = torch.full_like(tensors["input.bias"], torch.nan)
    tensors["norm.weight"] = tensors["norm.weight"].double()
    save_file(tensors, exported / WEIGHTS)
    card = json.loads((exported / CARD).read_text())
    card["sha256"] = hashlib.sha256((exported / WEIGHTS).read_bytes()).hexdigest()
    (exported / CARD).write_text(json.dumps(card))
    with pytest.raises(InvalidValue) as caught:
        load_compact(exported)
    for fault in ("missing norm.bias", "extra extra", "output.bias is (7,), not (2,)", "input.bias has", "float64"):
        assert fault in str(caught.value)


def test_a_folder_without_a_generator(exported: Path) -> None:
    (exported / CARD).write_text("{}")
    with pytest.raises(IntegrityError, match="not a card"):
        load_compact(exported)
    (exported / CARD).unlink()
    with pytest.raises(GeneratorNotFound, match=r"no card\.json"):
        load_compact(exported)


def test_the_card_of_a_run_has_its_curve(tmp_path: Path, real: RealImages) -> None:
    config = changed(export_every=2)
    folder = train(config, real, tmp_path)
    card, *earlier = (json.loads((folder.parent / name / CARD).read_text()) for name in ("6", "4", "2"))
    assert card["curve"] == [{"iteration": c["iterations"], **c["metrics"]} for c in reversed(earlier)]
    assert earlier[-1]["curve"] == []
    other = train(config.model_copy(update={"seed": 1}), real, tmp_path, resume=False)
    assert [row["iteration"] for row in json.loads((other / CARD).read_text())["curve"]] == [2, 4]
    brighter = RealImages(real.images | 1, real.labels, real.class_names, real.name)
    third = train(config, brighter, tmp_path, resume=False)
    assert [row["iteration"] for row in json.loads((third / CARD).read_text())["curve"]] == [2, 4]
    export_generator(CompactGenerator(SMALL), third, config=config, iterations=6, real=real, metrics={})
    assert json.loads((third / CARD).read_text())["curve"] == [], "those on other images are another run's"
    (other.parent / "2" / CARD).write_text(json.dumps({"recipe": {"of": "another version"}}))
    export_generator(CompactGenerator(SMALL), other, config=config, iterations=6, real=real, metrics={})
    assert json.loads((other / CARD).read_text())["curve"] == [], "those of another seed are another run's"


def test_the_card_says_where_the_images_are_from(tmp_path: Path, real: RealImages) -> None:
    def card(**values: object) -> dict[str, object]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        config = PretrainConfig.model_validate(TINY.model_dump() | values)
        export_generator(CompactGenerator(SMALL), folder, config=config, iterations=1, real=real, metrics={})
        found: dict[str, object] = json.loads((folder / CARD).read_text())
        return found

    fingerprint = {"counts": [10, 10, 10], "digest": Fingerprint.taken(real).digest, "of": "contents"}
    assert card()["data"] == {
        "name": "noise", "images": 30, "licence": "MIT, Zalando SE", "fingerprint": fingerprint
    }  # fmt: skip
    unknown = card(data="pictures/birds")
    assert unknown["name"] == "birds"
    assert unknown["data"] == {
        "name": "noise", "images": 30, "fingerprint": fingerprint,
        "licence": "unknown: set `data_license` in the config",
    }  # fmt: skip
    known = card(data="pictures/birds", data_license="CC0-1.0", name="my-birds")
    assert known["name"] == "my-birds"
    assert known["data"] == {"name": "noise", "images": 30, "licence": "CC0-1.0", "fingerprint": fingerprint}


def test_an_unconditional_generator_is_served_with_one_class(tmp_path: Path, real: RealImages) -> None:
    config = changed(conditional=False, generator=SMALL.model_dump(exclude={"classes"}))
    folder = train(config, real, tmp_path)
    generator = load_generator(str(folder))
    assert generator.info.class_names == ("anything",)
    assert generator.info.real_information == "unlabelled"
    assert generator.info.id == "fashion-mnist-unconditional"
    assert generator(torch.randn(2, 12), torch.zeros(2, dtype=torch.int64)).shape == (2, 2, 8, 8)


def test_a_collapsed_generator_has_no_spread(real: RealImages) -> None:
    network = CompactGenerator(SMALL).eval()
    first = spread_ratio(network, real, per_class=10)
    assert first.value is not None and first.value > 0.01 and first.alike == ()
    with torch.no_grad():
        network.output.weight.zero_()
    assert spread_ratio(network, real, per_class=10).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alike", [{1}, {0, 2}, {0, 1, 2}])
def test_classes_whose_real_images_are_alike_are_left_out_by_name(
    alike: set[int], real: RealImages, tmp_path: Path
) -> None:
    """A single image, or copies of one: there is no spread to divide by, and no infinity on the card."""
    for label in alike:
        rows = np.flatnonzero(real.labels == label)
        real.images[rows] = real.images[rows[0]]
    found = spread_ratio(CompactGenerator(SMALL).eval(), real, per_class=10)
    assert set(found.alike) == alike
    assert found.value is None if alike == {0, 1, 2} else found.value is not None and np.isfinite(found.value)


@pytest.mark.parametrize("rows", [[0], [0, 0, 0], []], ids=["one image", "the same image", "no image"])
def test_a_class_without_diverse_images_is_no_measure_of_diversity(real: RealImages, rows: list[int]) -> None:
    """Divided by its spread, which is 0, the ratio would be infinite."""
    network = CompactGenerator(SMALL).eval()
    first, others = np.flatnonzero(real.labels == 0)[rows], np.flatnonzero(real.labels != 0)
    kept = np.concatenate([first, others]).astype(np.int64)
    few = replace(real, images=real.images[kept], labels=real.labels[kept])
    ratio = spread_ratio(network, few, per_class=10)
    assert ratio.value is not None and math.isfinite(ratio.value)
    assert ratio.alike == (0,)
    alone = replace(real, images=real.images[:1], labels=real.labels[:1])
    assert spread_ratio(network, alone, per_class=10).value is None


def test_spread_is_the_variance_around_each_class_s_mean(real: RealImages) -> None:
    pixels = real.images.reshape(30, -1) / 255
    expected = [pixels[real.labels == k].var(axis=0).sum() for k in range(3)]
    assert spread(real.images, real.labels, 3) == pytest.approx(expected, rel=1e-12)
