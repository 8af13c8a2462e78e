"""Calibrate: the curves are those of mining, the choice follows its rule, the command refuses what cannot work."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

from nonesuch.classifiers.file import write_classifier
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.errors import GeneratorNotFound, InvalidValue, NotFound
from nonesuch.snapshots import SnapshotHeader
from nonesuch_worker.calibrate import calibration as calibration_module
from nonesuch_worker.calibrate.calibration import mining_params
from nonesuch_worker.calibrate.choice import Goal, choose
from nonesuch_worker.calibrate.cli import calibrate
from nonesuch_worker.calibrate.curve import Point, measure
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import from_uint8_NHWC, to_uint8_NHWC
from nonesuch_worker.latents import latents
from nonesuch_worker.strategies.hsm import HsmParams
from nonesuch_worker.strategies.mining import MiningParams
from tests.helpers.perfect import Posterior

# --- the curves


def test_the_curves_start_at_random_images_and_fall() -> None:
    generator = AnalyticGenerator(AnalyticParams())
    perfect = Posterior(generator)
    told: list[int] = []
    params = mining_params([0.02, 0.1], 6, {})
    points = measure(generator, perfect, perfect, params, images=200, seed=4, advance=told.append)
    assert [(p.eta, p.steps) for p in points] == [(eta, s) for eta in (0.02, 0.1) for s in range(7)]
    assert sum(told) == 400
    labels = torch.arange(200) % 10
    x = generator(torch.from_numpy(latents(4, np.arange(200), 8)), labels)
    p = generator.posterior(x)
    delivered = generator.posterior(from_uint8_NHWC(to_uint8_NHWC(x)))
    for start in (points[0], points[7]):
        assert start.top_probability == pytest.approx(float(p.amax(1).mean()), abs=1e-6)
        assert start.agreement == float((delivered.argmax(1) == labels).double().mean())
    slow, fast = points[:7], points[7:]
    assert slow[6].top_probability < slow[0].top_probability - 0.02
    assert fast[1].top_probability < slow[1].top_probability
    assert fast[6].agreement < slow[6].agreement


def test_agreement_is_the_teacher_s_and_top_probability_the_classifier_s() -> None:
    generator = AnalyticGenerator(AnalyticParams(classes=4, separation=6.0))
    perfect = Posterior(generator)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.0, 5.0, 0.0, 0.0]).expand(len(x), -1)

    points = measure(generator, perfect, Constant().eval(), [MiningParams(steps=1, eta=0.01)], images=80, seed=0)
    assert [p.agreement for p in points] == [0.25, 0.25]  # of the labels, a quarter is class 1
    assert points[0].top_probability > 0.99


def test_a_point_is_what_mining_with_so_many_steps_gives() -> None:
    generator = AnalyticGenerator(AnalyticParams(separation=2.0))
    perfect = Posterior(generator)
    long, short = (
        measure(generator, perfect, perfect, [MiningParams(steps=steps)], images=70, seed=0) for steps in (6, 3)
    )
    assert len(long) == 7 and len(short) == 4
    for a, b in zip(long[:4], short, strict=True):
        assert a.top_probability == pytest.approx(b.top_probability, abs=1e-3)  # the last is rounded to float16
        assert a.agreement == pytest.approx(b.agreement, abs=1.5 / 70)


# --- the choice


def curve(eta: float, *points: tuple[float, float]) -> list[Point]:
    return [Point(eta, steps, top, agreement) for steps, (top, agreement) in enumerate(points)]


SLOW = curve(0.02, (0.9, 0.97), (0.8, 0.96), (0.7, 0.95), (0.6, 0.94))
FAST = curve(0.1, (0.9, 0.97), (0.7, 0.93), (0.55, 0.91), (0.4, 0.8))
MIDDLE = curve(0.05, (0.9, 0.97), (0.75, 0.95), (0.58, 0.92), (0.5, 0.9))


@pytest.mark.parametrize(
    ("points", "goal", "chosen"),
    [
        (SLOW, {}, (0.02, 3)),  # exactly at the target
        (SLOW + FAST, {}, (0.1, 2)),  # fewer steps
        (SLOW + FAST + MIDDLE, {}, (0.05, 2)),  # as few, and the teacher agrees more
        (SLOW + FAST + MIDDLE, {"floor": 0.93}, (0.02, 3)),
        (SLOW + FAST + MIDDLE, {"target": 0.5}, (0.05, 3)),  # exactly at the floor
        (FAST, {"target": 0.45, "floor": 0.8}, (0.1, 3)),
    ],
)
def test_the_fewest_steps_within_the_floor_are_chosen(
    points: list[Point], goal: dict[str, float], chosen: tuple[float, int]
) -> None:
    choice = choose(points, Goal(**goal))
    assert choice.reached and choice.point is not None
    assert (choice.point.eta, choice.point.steps) == chosen
    assert f"eta {chosen[0]:g}, {chosen[1]} steps" in choice.reason


def test_a_target_out_of_reach_is_said_with_the_nearest_point() -> None:
    choice = choose(SLOW + FAST, Goal(target=0.45))
    assert not choice.reached and choice.point == FAST[2]
    assert "target 0.45 not reached" in choice.reason and "0.550" in choice.reason
    nothing = choose(SLOW + FAST, Goal(floor=0.99))
    assert not nothing.reached and nothing.point is None
    assert "on random images it is 97.0 %" in nothing.reason


def test_random_images_are_never_the_choice() -> None:
    easy = curve(0.05, (0.5, 0.99), (0.45, 0.98))
    choice = choose(easy, Goal())
    assert choice.point == easy[1] and "random images are at 0.500" in choice.reason


@pytest.mark.parametrize("given", [{"target": 0}, {"target": 1}, {"target": -0.6}, {"floor": 1.1}, {"floor": -0.1}])
def test_absurd_goals_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        Goal(**given)


@pytest.mark.parametrize(
    ("etas", "steps", "others", "said"),
    [
        ([-0.1], 5, {}, "eta -0.1"),
        ([0.05, 2.0], 5, {}, "relative step"),
        ([0.05], 0, {}, "steps"),
        ([0.05], 101, {}, "steps"),
        ([], 5, {}, "no eta"),
        ([0.05], 5, {"eta": 0.1}, "--eta"),
        ([0.05], 5, {"objective": "entropy", "score": "prob"}, "follows no score"),
        ([0.05], 5, {"speed": 1}, "speed"),
    ],
)
def test_parameters_that_hsm_would_refuse_are_refused(
    etas: list[float], steps: int, others: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidValue, match=said):
        mining_params(etas, steps, others)


# --- the command


SOURCE = "analytic:classes=4,size=8,z_dim=4"
NAMES = tuple(f"class {k}" for k in range(4))


def saved(path: Path, seed: int, **given: Any) -> Path:
    """A classifier file with random weights."""
    header = SnapshotHeader.model_validate(
        {
            "channel": "run", "version": seed, "architecture": "resnet18", "args": {"width": 2},
            "image_shape": (8, 8, 1), "classes": 4, "class_names": NAMES, "mean": (0.5,), "std": (0.5,), "epoch": 0,
            "step": 0, "sha256": "0" * 64, **given,
        }
    )  # fmt: skip
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        spec = ClassifierSpec(architecture="resnet18", args={"width": 2})
        size, _, channels = header.image_shape
        model = build(spec, in_channels=channels, classes=header.classes, image_size=size).eval()
    write_classifier(path, header, model)
    return path


@pytest.fixture
def judges(tmp_path: Path) -> dict[str, str]:
    run = saved(tmp_path / "run" / "classifier.safetensors", 1).parent
    return {"classifier": str(run), "teacher": str(saved(tmp_path / "teacher.safetensors", 2))}


def called(**options: Any) -> str:
    app = typer.Typer()
    app.command()(calibrate)
    arguments = [str(a) for name, value in options.items() for v in np.atleast_1d(value) for a in (f"--{name}", v)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_the_curves_and_a_line_to_paste(judges: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    options = {"eta": [0.05, 0.2], "steps": 3, "images": 40, "floor": 0, "target": 0.9, "param": ["sigma=1.5"]}
    said = called(generator=SOURCE, **judges, **options, out=out)
    found = json.loads(out.read_text())
    assert found["reached"] and len(found["curve"]) == 8 and found["params"] == {"sigma": 1.5}
    assert found["generator"]["id"] == "analytic" and found["teacher"]["version"] == 2
    assert "eta 0.05" in said and "eta 0.2" in said and found["reason"] in said
    chosen = found["point"]
    line = f"params = {{ sigma = 1.5, steps = {chosen['steps']}, eta = {chosen['eta']} }}"
    assert line in said
    HsmParams(sigma=1.5, steps=chosen["steps"], eta=chosen["eta"])
    for p in found["curve"]:
        assert f"{p['top_probability']:.3f} · {100 * p['agreement']:5.1f} %" in said


def test_the_command_says_that_the_target_was_not_reached(judges: dict[str, str]) -> None:
    said = called(generator=SOURCE, **judges, eta=0.001, steps=1, images=8, floor=0, target=0.2501)
    assert "not reached" in said
    said = called(generator=SOURCE, **judges, eta=0.001, steps=1, images=8, floor=1)
    assert "not reached" in said and "params" not in said


def test_the_command_refuses_what_cannot_work(judges: dict[str, str], tmp_path: Path) -> None:
    def refused(error: type[Exception], said: str, **changed: Any) -> None:
        with pytest.raises(error, match=said):
            called(**{"generator": SOURCE, "images": 8, "steps": 1, **judges, **changed})

    other_images = saved(tmp_path / "images", 3, image_shape=(16, 16, 1))
    other_count = saved(tmp_path / "count", 3, classes=5, class_names=())
    other_names = saved(tmp_path / "names", 3, class_names=("ant", "bee", "cat", "dog"))
    refused(InvalidValue, r"teacher .* takes images of \(16, 16, 1\)", teacher=other_images)
    refused(InvalidValue, "classifier .* has other classes .5:", classifier=other_count)
    refused(InvalidValue, r"teacher .* has other classes \(4: ant, bee", teacher=other_names)
    refused(InvalidValue, "same weights", teacher=judges["classifier"])
    refused(NotFound, "no classifier file", teacher=tmp_path / "nowhere")
    refused(GeneratorNotFound, "'luck'", generator="luck")
    refused(InvalidValue, "target", target=1.5)
    refused(InvalidValue, "out of reach", target=0.25)
    refused(InvalidValue, "floor", floor=2)
    refused(InvalidValue, "eta -1", eta=-1)
    refused(InvalidValue, "steps", steps=500)
    refused(InvalidValue, "sigma: ", param="sigma=5")
    refused(InvalidValue, "beyond what generator", param="sigma=4", generator="fashion-mnist")


def test_a_generator_without_gradients_is_refused(monkeypatch: pytest.MonkeyPatch, judges: dict[str, str]) -> None:
    flat = AnalyticGenerator(AnalyticParams.parse("classes=4,size=8,z_dim=4"))
    flat.info = flat.info.model_copy(update={"differentiable": False})
    monkeypatch.setattr(calibration_module, "load_generator", lambda source, device: flat)
    with pytest.raises(InvalidValue, match="no gradients to follow"):
        called(generator=SOURCE, **judges)
