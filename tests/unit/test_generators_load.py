"""Sources: how a generator is named, and what is said when it cannot be found. The family `compact` among them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nonesuch.errors import GeneratorNotFound, InvalidValue
from nonesuch.realdata import RealImages
from nonesuch_worker.generators import load as sources
from nonesuch_worker.generators.compact import CompactConfig, CompactGenerator
from nonesuch_worker.generators.load import families, load_generator, packaged
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.export import export_generator

CONFIG = CompactConfig(image_size=8, channels=2, classes=3, z_dim=12, embedding_dim=4, widths=(8, 8, 4))


@pytest.fixture
def network() -> CompactGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CompactGenerator(CONFIG).eval()


@pytest.fixture
def folder(network: CompactGenerator, tmp_path: Path) -> Path:
    real = RealImages(np.zeros((3, 8, 8, 2), np.uint8), np.arange(3, dtype=np.int32), ("ant", "bee", "cat"), "fake")
    (tmp_path / "tiny").mkdir()
    return export_generator(
        network, tmp_path / "tiny", config=PretrainConfig(generator=CONFIG), iterations=1, real=real, metrics={}
    )


def test_our_families_are_registered() -> None:
    assert {"analytic", "biggan", "compact"} <= set(families())


def test_family_and_argument() -> None:
    assert load_generator("analytic:classes=3,size=8").info.image_shape == (8, 8, 1)
    assert load_generator("analytic").info.image_shape == (16, 16, 1)


def test_a_folder_s_card_names_the_family(network: CompactGenerator, folder: Path) -> None:
    generator = load_generator(str(folder))
    z = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    images = generator(z, torch.arange(3), 0.5)
    torch.testing.assert_close(images, network(z, torch.arange(3)))
    assert torch.autograd.grad(images.sum(), z)[0].abs().min() > 0
    assert generator.info.family == "compact"
    assert generator.info.image_shape == (8, 8, 2)
    assert generator.info.class_names == ("ant", "bee", "cat")
    assert generator.info.real_information == "labelled"


def test_a_packaged_generator_goes_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PACKAGED", folder.parent)
    assert packaged() == ["tiny"]
    assert load_generator("tiny").info == load_generator(f"compact:{folder}").info


def test_every_packaged_generator_loads() -> None:
    for name in packaged():
        assert load_generator(name).info.real_information == "labelled"


@pytest.mark.parametrize("source", ["nowhere", "gan:x", "/no/such/folder"])
def test_says_what_there_is_when_a_source_is_unknown(source: str) -> None:
    with pytest.raises(GeneratorNotFound, match=r"registered family \(analytic, biggan, compact"):
        load_generator(source)


def test_a_folder_without_a_generator(tmp_path: Path) -> None:
    with pytest.raises(GeneratorNotFound, match=r"neither card\.json nor config\.json"):
        load_generator(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"size": 3}'])
def test_a_card_that_names_no_family(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InvalidValue, match="family"):
        load_generator(str(tmp_path))


def test_an_incomplete_card_is_refused_by_field(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "class_names": None}))
    with pytest.raises(InvalidValue, match="class_names"):
        load_generator(str(folder))
    (folder / "card.json").write_text(json.dumps({**card, "class_names": ["ant"]}))
    with pytest.raises(InvalidValue, match="1 classes"):
        load_generator(str(folder))
