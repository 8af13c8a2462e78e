"""The feature network: the shipped file, any other classifier, and what it has not learned from."""

import numpy as np
import pytest
import torch

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import dump
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidValue
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.metrics.features import ClassifierFeatures


def header(**given: object) -> SnapshotHeader:
    facts = {
        "channel": "c", "version": 1, "architecture": "resnet18", "args": {"width": 2}, "image_shape": (16, 16, 3),
        "classes": 4, "mean": (0.5,), "std": (0.5,), "epoch": 1, "step": 1, "sha256": "0" * 64,
    }  # fmt: skip
    return SnapshotHeader.model_validate({**facts, **given})


def test_shipped_network_knows_fashion_mnist() -> None:
    network = ClassifierFeatures.load()
    network.check((28, 28, 1), FASHION_MNIST_CLASSES, "a generator")
    real = load_fashion_mnist("validation")
    seen = network(real.images[:1000])
    assert seen.features.shape == (1000, 128) and seen.probabilities.shape == (1000, 10)
    assert np.allclose(seen.probabilities.sum(axis=1), 1)
    assert (seen.probabilities.argmax(axis=1) == real.labels[:1000]).mean() > 0.9


def test_shipped_network_has_an_unseen_half() -> None:
    real = load_fashion_mnist("train")
    rows = ClassifierFeatures.load().unseen(real)
    assert len(rows) == 27_500 == len(set(rows.tolist()))
    assert np.bincount(real.labels[rows]).tolist() == [2750] * 10


def test_features_are_what_the_last_layer_sees() -> None:
    torch.manual_seed(0)
    network = build(ClassifierSpec(architecture="resnet18", args={"width": 2}), in_channels=3, classes=4, image_size=16)
    network.eval()
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    seen = ClassifierFeatures(header(), network)(images)
    with torch.inference_mode():
        logits = network(input_tensor(torch.from_numpy(images), Normalisation()))
    assert seen.features.shape == (5, 16)
    again = torch.from_numpy(seen.features).float() @ network.fc.weight.T + network.fc.bias
    assert torch.allclose(again, logits, atol=1e-5)
    assert np.allclose(seen.probabilities, logits.double().softmax(1).numpy(), atol=1e-6)
    assert len(dump(network)) > 0


def test_other_images_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"\(28, 28, 1\).*the generator has \(32, 32, 3\).*--features"):
        ClassifierFeatures.load().check((32, 32, 3), FASHION_MNIST_CLASSES, "the generator")


def test_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no linear layer"):
        ClassifierFeatures(header(), torch.nn.Conv2d(3, 4, 1))
