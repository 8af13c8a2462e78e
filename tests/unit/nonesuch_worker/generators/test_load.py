"""Sources: how a generator is named, and what is said when it cannot be found. The family `compact` among them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.generators import load as sources
from nonesuch_worker.generators.load import families, load_generator, packaged
from nonesuch_worker.generators.places import library, library_folder
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
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


def test_a_name_is_a_packaged_generator_then_one_of_the_library_then_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(place: Path, description: str) -> Path:
        shutil.copytree(folder, place / "tiny")
        card = json.loads((folder / "card.json").read_text())
        (place / "tiny" / "card.json").write_text(json.dumps({**card, "description": description}))
        return place

    monkeypatch.chdir(copy(tmp_path / "here", "a folder"))
    monkeypatch.setenv("NONESUCH_LIBRARY", str(tmp_path / "library"))
    assert load_generator("tiny").info.description == "a folder"
    assert library() == []
    copy(tmp_path / "library", "the library's")
    assert library() == ["tiny"]
    assert load_generator("tiny").info.description == "the library's"
    assert load_generator("./tiny").info.description == "a folder"
    monkeypatch.setattr(sources, "PACKAGED", copy(tmp_path / "packaged", "packaged"))
    assert load_generator("tiny").info.description == "packaged"


def test_where_the_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert library_folder({}) == Path("/home/ada/.local/share/nonesuch/generators")
    assert library_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/nonesuch/generators")
    assert library_folder({"XDG_DATA_HOME": "data"}) == Path("/home/ada/.local/share/nonesuch/generators")
    assert library_folder({"XDG_DATA_HOME": "/data", "NONESUCH_LIBRARY": "~/gans"}) == Path("/home/ada/gans")


def test_every_packaged_generator_loads() -> None:
    for name in packaged():
        assert load_generator(name).info.real_information == "labelled"


@pytest.mark.parametrize("source", ["nowhere", "gan:x", "/no/such/folder", "../library/mine"])
def test_says_what_there_is_when_a_source_is_unknown(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONESUCH_LIBRARY", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.json").write_text("{}")
    with pytest.raises(GeneratorNotFound) as refused:
        load_generator(source)
    for place in ("(fashion-mnist", f"library {tmp_path} (mine)", "registered family (analytic, biggan, compact"):
        assert place in str(refused.value)


def test_a_folder_without_a_generator(tmp_path: Path) -> None:
    with pytest.raises(GeneratorNotFound, match=r"neither card\.json nor config\.json"):
        load_generator(str(tmp_path))


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "'family', not a list"), ("{}", "'family'")])
def test_a_card_that_names_no_family(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(IntegrityError, match=said):
        load_generator(str(tmp_path))


def test_an_incomplete_card_is_refused_by_field(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "class_names": None}))
    with pytest.raises(InvalidValue, match="class_names"):
        load_generator(str(folder))
    (folder / "card.json").write_text(json.dumps({**card, "class_names": ["ant"]}))
    with pytest.raises(InvalidValue, match="1 classes"):
        load_generator(str(folder))
    (folder / "card.json").write_text(json.dumps({**card, "image_shape": [9, 8, 2]}))
    with pytest.raises(InvalidValue, match=r"image_shape \[9, 8, 2\] and the network makes \[8, 8, 2\]"):
        load_generator(str(folder))


def test_a_card_may_say_how_far_sigma_goes(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    assert load_generator(str(folder)).info.max_sigma == 2.0
    (folder / "card.json").write_text(json.dumps({**card, "max_sigma": 1.5}))
    assert load_generator(str(folder)).info.max_sigma == 1.5
    (folder / "card.json").write_text(json.dumps({**card, "max_sigma": 0}))
    with pytest.raises(InvalidValue, match="must be above 0"):
        load_generator(str(folder))
