"""Pretraining on a tiny scale: exact resume, what a run leaves, what it refuses."""

import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.host.stopping import Stopped, Terminated
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.generators.compact.folder import CARD, WEIGHTS
from nonesuch_worker.pretrain.checkpoint import BEFORE_DECAY, CHECKPOINT
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.loop import train
from tests.helpers.tiny_gan import SMALL, TINY, changed, noise


@pytest.fixture
def real() -> RealImages:
    return noise()


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "float32"},
        {"precision": "bfloat16"},
        {"diffaugment": ("color", "translation", "cutout"), "consistency": 10.0},
        {"conditional": False, "generator": SMALL.model_dump() | {"classes": 1, "spectral_norm": True, "attention": 4}},
    ],
    ids=["float32", "bfloat16", "augmented", "unconditional"],
)
def test_interrupted_and_resumed_equals_undisturbed(
    tmp_path: Path, real: RealImages, change: dict[str, object]
) -> None:
    config = changed(**change)
    whole = train(config, real, tmp_path / "whole")
    stopped = train(config, real, tmp_path / "halves", should_stop=lambda done: done == 3)
    assert stopped == tmp_path / "halves" / CHECKPOINT
    halves = train(config, real, tmp_path / "halves")
    assert halves == tmp_path / "halves" / "exports" / "6"
    assert (whole / WEIGHTS).read_bytes() == (halves / WEIGHTS).read_bytes()
    one, other = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "halves"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one), "optimisers, both networks and the average"
    assert train(config, real, tmp_path / "halves") == halves, "a finished run has nothing left to do"


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("a", "b", "z")}, "no class 'c' any more; a class 'z' that was not there"),
        ({"labels": np.arange(30, dtype=np.int32) // 10}, "other contents"),
        ({"images": np.zeros((30, 8, 8, 2), np.uint8)}, "other contents"),
    ],
)
def test_other_real_images_are_refused_with_what_differs(
    tmp_path: Path, real: RealImages, change: dict[str, Any], words: str, conditional: bool
) -> None:
    generator = SMALL if conditional else SMALL.model_copy(update={"classes": 1})
    config = changed(conditional=conditional, generator=generator.model_dump())
    train(config, real, tmp_path, should_stop=lambda done: done == 2)
    if not conditional and "images" not in change:  # names and labels are nothing to it
        assert train(config, replace(real, **change), tmp_path, should_stop=lambda done: done == 4).name == CHECKPOINT
        return
    with pytest.raises(InvalidValue, match=words):
        train(config, replace(real, **change), tmp_path)
    train(config, replace(real, name="the same, moved"), tmp_path)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Stopped), (signal.SIGTERM, Terminated)])
def test_a_signal_stops_with_a_checkpoint_and_is_no_success(
    tmp_path: Path, real: RealImages, number: signal.Signals, error: type[Stopped]
) -> None:
    def told(done: int) -> bool:
        if done == 2:
            os.kill(os.getpid(), number)
        return False

    handler = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train(TINY, real, tmp_path, should_stop=told)
    assert type(stopped.value) is error
    assert signal.getsignal(number) is handler
    assert (tmp_path / CHECKPOINT).is_file()
    assert train(TINY, real, tmp_path).name == "6"


def test_a_run_leaves_sheets_and_a_card(tmp_path: Path, real: RealImages) -> None:
    folder = train(TINY, real, tmp_path)
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == ["000002.png", "000004.png", "000006.png"]
    with Image.open(tmp_path / "grids" / "000006.png") as sheet:
        assert sheet.size == (12 * 8 * 2, 3 * 8 * 2)
    card = json.loads((folder / CARD).read_text())
    assert card["iterations"] == 6
    assert card["image_shape"] == [8, 8, 2]
    assert card["class_names"] == ["a", "b", "c"]
    assert card["real_information"] == "labelled"
    assert PretrainConfig.model_validate(card["recipe"]) == TINY


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, real: RealImages) -> None:
    train(TINY, real, tmp_path, should_stop=lambda done: True)
    with pytest.raises(InvalidValue, match=r"other values of seed, batch.*--no-resume"):
        train(TINY.model_copy(update={"seed": 7, "batch": 4}), real, tmp_path)
    damaged = (tmp_path / CHECKPOINT).read_bytes()[:-1]
    (tmp_path / CHECKPOINT).write_bytes(damaged)
    with pytest.raises(IntegrityError, match="--no-resume"):
        train(TINY, real, tmp_path)
    assert train(TINY, real, tmp_path, resume=False).name == "6"


def test_a_run_is_prolonged_as_if_it_had_been_longer_from_the_start(tmp_path: Path, real: RealImages) -> None:
    longer = TINY.model_copy(update={"iterations": 9})
    whole = train(longer, real, tmp_path / "whole")
    train(TINY, real, tmp_path / "early", should_stop=lambda done: done == 3)  # both decays are still to come
    early = train(longer, real, tmp_path / "early")
    assert (early / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    train(TINY, real, tmp_path / "late")  # the decay is over: back to where it began
    late = train(longer, real, tmp_path / "late")
    assert (late / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    curve = json.loads((late / CARD).read_text())["curve"]
    assert curve == [], "the export at 6, of another schedule, is no part of this run"


def test_the_fall_back_is_logged(tmp_path: Path, real: RealImages, caplog: pytest.LogCaptureFixture) -> None:
    train(TINY, real, tmp_path)
    caplog.set_level(logging.INFO)
    train(TINY.model_copy(update={"iterations": 7}), real, tmp_path, should_stop=lambda done: True)
    assert f"going on from {tmp_path / BEFORE_DECAY}, iteration 4" in caplog.text


def test_a_run_past_its_decay_keeps_its_length(tmp_path: Path, real: RealImages) -> None:
    train(TINY, real, tmp_path, should_stop=lambda done: done == 5)
    (tmp_path / BEFORE_DECAY).unlink()
    with pytest.raises(InvalidValue, match=r"done 5 of 6 iterations; the learning rates fall from 4.*Use 6 iterations"):
        train(TINY.model_copy(update={"iterations": 9}), real, tmp_path)
    assert train(TINY, real, tmp_path).name == "6"


def test_starting_over_forgets_where_the_last_run_began_to_decay(tmp_path: Path, real: RealImages) -> None:
    train(TINY, real, tmp_path)
    assert (tmp_path / BEFORE_DECAY).is_file()
    train(TINY, real, tmp_path, resume=False, should_stop=lambda done: done == 1)
    assert not (tmp_path / BEFORE_DECAY).exists()


def test_a_run_is_not_shortened_below_its_decay(tmp_path: Path, real: RealImages) -> None:
    train(TINY, real, tmp_path, should_stop=lambda done: done == 3)
    with pytest.raises(InvalidValue, match=r"done 3 of 6 iterations.*from 2 on with 4.*Use 5 iterations or more"):
        train(TINY.model_copy(update={"iterations": 4}), real, tmp_path)
    assert train(TINY.model_copy(update={"iterations": 5}), real, tmp_path).name == "5"


def test_a_run_is_not_shortened_to_what_it_has_done(tmp_path: Path, real: RealImages) -> None:
    steady = TINY.model_copy(update={"decay_iterations": 0})
    train(steady, real, tmp_path, should_stop=lambda done: done == 3)
    with pytest.raises(InvalidValue, match="has done 3 iterations, no fewer than the 3 asked for"):
        train(steady.model_copy(update={"iterations": 3}), real, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": SMALL.model_copy(update={"image_size": 16})}, r"\(8, 8, 2\).*\(16, 16, 2\)"),
        ({"generator": SMALL.model_copy(update={"classes": 4})}, "3 classes, but generator.classes is 4"),
        ({"batch": 31}, "30 images, fewer than one batch of 31"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    tmp_path: Path, real: RealImages, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        train(TINY.model_copy(update=change), real, tmp_path)


def test_divergence_ends_the_run(tmp_path: Path, real: RealImages) -> None:
    with pytest.raises(InvalidValue, match="lower the learning rates"):
        train(TINY.model_copy(update={"generator_lr": 1e38, "discriminator_lr": 1e38}), real, tmp_path)
