"""Real images of several sizes are fitted to the shape that the settings name."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from nonesuch.errors import InvalidValue
from nonesuch_trainer.learning.judging import Judge
from nonesuch_trainer.settings.datasets import Real
from nonesuch_trainer.settings.learning import Evaluate
from nonesuch_trainer.sources.real import RealSource


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """A folder with pictures of several sizes, grey and in colours."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i, (size, mode) in enumerate([((9, 12), "RGB"), ((12, 9), "L"), ((30, 30), "RGB"), ((8, 8), "L")] * 2):
            Image.new("RGB", size, (90, 90, 90)).convert(mode).save(tmp_path / "data" / name / f"{i}.png")
    return str(tmp_path / "data")


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 10, 1), (40, 40, 1)])
def test_what_is_learned_from_and_judged_by_has_the_shape_that_is_set(shape: tuple[int, int, int], mixed: str) -> None:
    source = RealSource(Real(data=mixed, size=8, image_shape=shape), seed=0)
    assert source.facts.image_shape == source.images.images.shape[1:] == shape
    assert (source.images.images == 90).all()
    judge = Judge.load(Evaluate(data=mixed, split="validation"), source.facts, torch.device("cpu"))
    assert judge.images.shape[1:] == shape


def test_without_a_shape_the_setting_is_named(mixed: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"set image_shape to the height, width and channels .*, as in \["
    ) as refused:
        RealSource(Real(data=mixed, size=8), seed=0)
    assert refused.value.field in Real.model_fields


@pytest.mark.parametrize("shape", [(8, 8, 2), (0, 8, 1), (8, 8)])
def test_a_shape_that_no_image_has_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="image_shape"):
        Real(image_shape=shape)  # type: ignore[arg-type]
