"""Judging: confusion, accuracy, and only among the classes that were learned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nonesuch.classifiers.spec import Normalisation
from nonesuch.errors import InvalidValue
from nonesuch.ledger import NO_USES
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES, RealImages
from nonesuch_trainer.learning import judging as evaluate
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.learning.judging import Judge
from nonesuch_trainer.settings.learning import Evaluate

CPU = torch.device("cpu")


class ReadsThePixel(nn.Module):
    """Sees the class that the first pixel names; would rather say 9, if it may."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        logits = nn.functional.one_hot((x_NCHW[:, 0, 0, 0] * 255).round().long(), 10).float()
        logits[:, 9] = 2.0
        return logits


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> RealImages:
    """Ten images, one of each class; the one of class 3 looks like class 5."""
    images = np.zeros((10, 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = [0, 1, 2, 5, 4, 5, 6, 7, 8, 9]
    given = RealImages(images, np.arange(10, dtype=np.int32), FASHION_MNIST_CLASSES, "fashion-mnist/test")
    monkeypatch.setattr(evaluate, "read_labelled", lambda data, split, **rest: given)
    return given


def facts(*classes: int, **given: object) -> Facts:
    defaults = {"image_shape": (28, 28, 1), "class_names": FASHION_MNIST_CLASSES}
    return Facts(classes=classes, ledger=NO_USES, **{**defaults, **given})  # type: ignore[arg-type]


def test_classes_that_were_not_learned_are_neither_shown_nor_answered(real: RealImages) -> None:
    judge = Judge.load(Evaluate(), facts(1, 3, 5), CPU)
    evaluation = judge.evaluate(ReadsThePixel(), Normalisation(mean=(0.0,), std=(1.0,)))
    assert judge.name == "3 images of fashion-mnist/test"
    assert evaluation.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert evaluation.accuracy == pytest.approx(2 / 3)
    assert evaluation.per_class == {1: 1.0, 3: 0.0, 5: 1.0}


def test_with_every_class_the_favourite_wins(real: RealImages) -> None:
    evaluation = Judge.load(Evaluate(), facts(*range(10)), CPU).evaluate(
        ReadsThePixel(), Normalisation(mean=(0.0,), std=(1.0,))
    )
    assert evaluation.accuracy == 0.1


def test_judging_leaves_the_model_as_it_was(real: RealImages) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Judge.load(Evaluate(), facts(*range(10)), CPU).evaluate(model, Normalisation())
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_classifier_that_overflows_is_not_judged(real: RealImages, value: float) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with torch.no_grad():
        model[1].bias[7] = value
    with pytest.raises(InvalidValue, match=r"answers to 10 images of fashion-mnist/test are not finite"):
        Judge.load(Evaluate(), facts(*range(10)), CPU).evaluate(model, Normalisation())


def test_other_classes_cannot_judge(real: RealImages) -> None:
    with pytest.raises(InvalidValue, match=r"fashion-mnist/test.*cannot judge"):
        Judge.load(Evaluate(), facts(0, 1, class_names=("ant", "bee")), CPU)


def test_images_of_another_size_are_fitted(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for split in ("train", "test"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("L", (40, 30), 255 if name == "bee" else 20 * i).save(folder / f"{i}.png")
    judge = Judge.load(
        Evaluate(data=str(tmp_path)), facts(0, 1, class_names=("ant", "bee"), image_shape=(16, 16, 3)), CPU
    )
    assert judge.images.shape == (8, 16, 16, 3) and judge.labels.tolist() == [0] * 4 + [1] * 4
    assert (judge.images[4:] == 255).all() and (judge.images[:4] < 255).all()
