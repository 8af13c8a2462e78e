"""A classifier's weights out and back, and every way in which a snapshot can be unfit."""

from hashlib import sha256

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import dump, load_snapshot
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.errors import InvalidSnapshot
from nonesuch.snapshots import SnapshotHeader

SPEC = ClassifierSpec(architecture="resnet18", args={"width": 2})


@pytest.fixture
def model() -> nn.Module:
    """A small network whose batch norms have seen something."""
    torch.manual_seed(0)
    model = build(SPEC, in_channels=1, classes=3, image_size=8)
    with torch.no_grad():
        model(torch.randn(4, 1, 8, 8))
    return model


def header(payload: bytes, **given: object) -> SnapshotHeader:
    defaults = {
        "channel": "run",
        "version": 7,
        "architecture": SPEC.architecture,
        "args": SPEC.args,
        "image_shape": (8, 8, 1),
        "classes": 3,
        "mean": (0.5,),
        "std": (0.5,),
        "epoch": 7,
        "step": 70,
        "sha256": sha256(payload).hexdigest(),
    }
    return SnapshotHeader.model_validate({**defaults, **given})


def refused(tensors: dict[str, Tensor], match: str, **given: object) -> None:
    payload = safetensors.torch.save(tensors)
    with pytest.raises(InvalidSnapshot, match=match):
        load_snapshot(header(payload, **given), payload)


def test_round_trip_is_exact_and_ready_to_mine(model: nn.Module) -> None:
    payload = dump(model)
    before = torch.random.get_rng_state()
    loaded = load_snapshot(header(payload), payload)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(loaded(x), model.eval()(x))  # batch norm's statistics came along
    assert dump(loaded) == payload


def test_bytes_do_not_depend_on_the_memory_format(model: nn.Module) -> None:
    payload = dump(model)
    assert dump(model.to(memory_format=torch.channels_last)) == payload


def test_a_missing_tensor_is_named(model: nn.Module) -> None:
    tensors = dict(model.state_dict())
    del tensors["bn1.running_mean"]
    refused(tensors, r"snapshot 7 of channel 'run' \(resnet18\) does not fit its network: missing bn1.running_mean\.")


def test_an_extra_tensor_is_named(model: nn.Module) -> None:
    refused({**model.state_dict(), "fc.scale": torch.ones(1)}, "extra fc.scale")


def test_a_misshapen_tensor_is_named(model: nn.Module) -> None:
    refused(
        model.state_dict(),
        r"fc.weight is \(3, 16\), not \(4, 16\)",
        classes=4,
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(model: nn.Module, value: float) -> None:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    refused(tensors, "layer2.0.conv1.weight has values that are not finite")


def test_integers_for_weights_are_refused(model: nn.Module) -> None:
    refused(
        {**model.state_dict(), "fc.bias": torch.zeros(3, dtype=torch.int64)},
        "fc.bias is torch.int64, not torch.float32",
    )


def test_another_architecture_is_refused(model: nn.Module) -> None:
    refused(model.state_dict(), "missing layer1.0.bn3.bias, .* and 190 more", architecture="resnet50")
    refused(model.state_dict(), "cannot be built.*resnet17", architecture="resnet17")


def test_bytes_that_are_not_safetensors_are_refused() -> None:
    with pytest.raises(InvalidSnapshot, match="not safetensors"):
        load_snapshot(header(b"pickle"), b"pickle")


def test_a_network_that_no_memory_could_hold_is_refused_by_its_names_and_shapes(model: nn.Module) -> None:
    refused(model.state_dict(), r"conv1.weight is \(2, 1, 3, 3\), not \(1000000, 1, 3, 3\)", args={"width": 10**6})
