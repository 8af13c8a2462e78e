"""The picture of what was kept and what was not."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nonesuch.tally import Tally
from nonesuch_trainer.reporting.acceptance import save_acceptance

GREEN, RED, ORANGE = (44, 160, 44), (214, 39, 40), (255, 127, 14)


def pixels(path: Path, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=2).sum())


def test_every_fate_has_its_share_of_the_bars(tmp_path: Path) -> None:
    tally = Tally(
        tried=Counter({0: 100, 2: 100}), wrong_label=Counter({0: 20, 2: 60}), below_threshold=Counter({0: 40})
    )
    path = tmp_path / "acceptance.png"
    save_acceptance(path, tally, ("ant", "bee", "cat"))
    green, red, orange = (pixels(path, colour) for colour in (GREEN, RED, ORANGE))  # 80, 80 and 40 of 200 images
    assert green / red == pytest.approx(1, rel=0.05)
    assert green / orange == pytest.approx(2, rel=0.1)
    assert [p.name for p in tmp_path.iterdir()] == ["acceptance.png"]


@pytest.mark.parametrize("classes", [1, 100])
def test_one_class_and_a_hundred_can_be_drawn(tmp_path: Path, classes: int) -> None:
    tally = Tally(tried=Counter({label: label + 1 for label in range(classes)}))
    save_acceptance(tmp_path / "a.png", tally, [f"class {label}" for label in range(classes)])
    assert pixels(tmp_path / "a.png", GREEN) > 1000
    assert pixels(tmp_path / "a.png", RED) < pixels(tmp_path / "a.png", GREEN) / 10  # the legend's
