"""One epoch of learning, by hard and by soft labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch_trainer.learning.epoch import learn, make_classifier
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.settings.learning import Learning

HOW = Learning(epochs=1, batch_size=8, classifier=ClassifierSpec(architecture="resnet18", args={"width": 2}))


def dataset() -> ResidentDataset:
    indices = np.arange(24)
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
    labels = (indices % 3).astype(np.int32)
    return ResidentDataset.of(LabelledImages(images, labels, indices, indices, indices), torch.device("cpu"))


def learned(resident: ResidentDataset) -> tuple[nn.Module, float, float]:
    model = make_classifier(HOW, (8, 8, 1), 3, torch.device("cpu"))
    shown = learn(model, make_optimiser(model, HOW.optimiser), resident, HOW, 0, lambda done, total: None)
    return model, shown.loss, shown.train_accuracy


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.allclose(t, b.state_dict()[name], atol=1e-5) for name, t in a.state_dict().items())


def test_certain_soft_labels_are_hard_labels() -> None:
    hard = dataset()
    certain = replace(hard, soft=nn.functional.one_hot(hard.labels, 3).half())
    (a, *of_hard), (b, *of_certain) = learned(hard), learned(certain)
    assert same(a, b)
    assert of_certain == pytest.approx(of_hard, abs=1e-5)


def test_soft_labels_are_what_is_learned() -> None:
    hard = dataset()
    other = replace(hard, soft=nn.functional.one_hot((hard.labels + 1) % 3, 3).half())
    shifted = replace(hard, labels=(hard.labels + 1) % 3)
    (a, loss, accuracy), (b, its_loss, its_accuracy) = learned(other), learned(shifted)
    assert same(a, b)
    assert loss == pytest.approx(its_loss, abs=1e-5)
    assert accuracy != its_accuracy  # which goes by the labels, of the same predictions


def test_soft_labels_count_as_probabilities_whatever_float16_made_of_them() -> None:
    hard = dataset()
    rough: Tensor = torch.tensor([0.5, 0.25, 0.125]).repeat(24, 1).half()
    exact = (rough.float() / 0.875).half()
    assert learned(replace(hard, soft=rough))[1] == pytest.approx(learned(replace(hard, soft=exact))[1], rel=1e-3)
