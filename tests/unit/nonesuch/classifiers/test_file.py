"""Classifier files, and what people have in their place: each border says what it was given, and what to do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.client.calls.publishing import Description, dumped, read_file
from nonesuch.errors import IntegrityError, InvalidSnapshot, InvalidValue, NonesuchError
from nonesuch.weights.layout import pickled, read_layout

DESCRIBED = Description((16, 16, 3), ("ant", "bee", "cat"))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build(ClassifierSpec(architecture="resnet18"), in_channels=3, classes=3, image_size=16)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("read", [read_classifier, read_file, lambda path: read_layout(path.read_bytes())])
def test_a_pickle_is_named_and_not_opened(read: Callable[[Path], Any], zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "classifier.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    assert pickled(path.read_bytes())
    with pytest.raises((IntegrityError, InvalidSnapshot), match=r"is a pickle.*save_file\(model\.state_dict\(\)"):
        read(path)


@pytest.mark.parametrize("length", range(60, 700, 8))
def test_no_safetensors_is_taken_for_a_pickle(length: int, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"more": "x" * length})
    assert not pickled((tmp_path / "a.safetensors").read_bytes())


@pytest.mark.parametrize("architecture", [None, "resnet18"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {f"module.{name}": t for name, t in state.items()}, "prefix 'module.', which DataParallel puts"),
        (lambda state: {"state_dict": state, "epoch": 3}, "training checkpoint.*'state_dict' of it"),
        (lambda state: {"model": state, "ema": state}, "There are 'model', 'ema'.*moving average"),
        (lambda state: {**state, "fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}, "It has 5 outputs and"),
    ],
)
def test_what_is_published_says_what_is_wrong_with_it(
    network: nn.Module, change: Callable[[Mapping[str, Tensor]], Any], words: str, architecture: str | None
) -> None:
    described = Description(DESCRIBED.image_shape, DESCRIBED.class_names, architecture)
    with pytest.raises(InvalidValue, match=words):
        dumped(change(network.state_dict()), described)


def test_a_wrapped_network_gets_its_remedy(network: nn.Module) -> None:
    with pytest.raises(NonesuchError, match=r"prefix 'module\.'"):
        dumped(nn.DataParallel(network), DESCRIBED)


def test_half_precision_is_published(network: nn.Module) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    assert len(dumped(half, DESCRIBED)) < len(dumped(network, DESCRIBED))
