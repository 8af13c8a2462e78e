"""Filtered: what is kept satisfies the rule, and acceptance is what it must be."""

import math
from statistics import NormalDist
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nonesuch.classifiers.normalisation import OnGenerated
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced
from nonesuch.offers import Catalog, WorkerInfo
from nonesuch.orders import Order, SnapshotRef, check_order
from nonesuch_worker.generators.base import Generator, from_uint8_NHWC, to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import ATTEMPTS, LATENT, latents
from nonesuch_worker.strategies.base import MintedRows
from nonesuch_worker.strategies.filtered import Filtered, FilteredParams
from nonesuch_worker.strategies.registry import describe
from tests.helpers.contexts import context
from tests.helpers.perfect import Posterior, analytic


def mint(teacher: nn.Module, *generators: Generator, n: int, first: int = 0, **params: Any) -> MintedRows:
    ctx = context(FilteredParams(**params), *generators, seed=5, n=n, first=first, teacher=teacher)
    with torch.no_grad():
        return Filtered().mint(ctx)


def judged(teacher: nn.Module, minted: MintedRows) -> tuple[np.ndarray, np.ndarray]:
    """(argmax, p[y]) of the images that were stored."""
    with torch.no_grad():
        p = teacher(from_uint8_NHWC(torch.from_numpy(minted.images))).double().softmax(1).numpy()
    return p.argmax(1), p[np.arange(len(p)), minted.labels]


# --- the rule


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 0.99])
def test_every_kept_image_satisfies_the_rule_when_it_is_judged_again(threshold: float) -> None:
    generator = analytic(separation=2.5)
    teacher = Posterior(generator)
    minted = mint(teacher, generator, n=300, threshold=threshold, attempts=1000)
    seen, sure = judged(teacher, minted)
    assert len(seen) == 300
    assert np.array_equal(seen, minted.labels)
    assert (sure > threshold).all() and (sure < 1 - 0.3 * (1 - threshold)).any()  # the rule is not exceeded by far
    assert minted.score is not None and np.allclose(minted.score, sure, atol=1e-6)


def test_the_rule_holds_on_the_embedded_generator() -> None:
    generator = load_generator("fashion-mnist")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = build(
            ClassifierSpec(architecture="resnet18", args={"width": 4}), in_channels=1, classes=10, image_size=28
        )
    teacher = OnGenerated(network, Normalisation()).eval().requires_grad_(False)
    minted = mint(teacher, generator, n=40, threshold=0.1, attempts=12)
    seen, sure = judged(teacher, minted)
    assert 0 < len(seen) < 40
    assert np.array_equal(seen, minted.labels) and (sure > 0.1 - 1e-6).all()
    assert minted.tally.kept.total() == len(seen) and minted.tally.short.total() == 40 - len(seen)


def test_an_index_gets_its_first_latent_that_passes() -> None:
    generator = analytic(separation=2.0)
    teacher = Posterior(generator)
    minted = mint(teacher, generator, n=60, threshold=0.7, attempts=40)
    assert minted.attempt is not None and minted.attempt.max() > 2
    for row, (index, label) in enumerate(zip(minted.indices, minted.labels, strict=True)):
        for attempt in range(minted.attempt[row] + 1):
            stream = ATTEMPTS + attempt if attempt else LATENT
            z = torch.from_numpy(latents(5, np.array([index]), 8, stream=stream))
            image = to_uint8_NHWC(generator(z, torch.tensor([int(label)])))
            p = teacher(from_uint8_NHWC(image)).softmax(1)[0]
            passes = bool(p.argmax() == label and p[label] > 0.7)
            assert passes == (attempt == minted.attempt[row])
        assert np.abs(image[0].numpy().astype(int) - minted.images[row]).max() <= 1


def test_an_index_is_filled_alike_in_any_batch() -> None:
    generator = analytic(separation=2.0)
    teacher = Posterior(generator)
    whole = mint(teacher, generator, n=32, threshold=0.8)
    for i in (0, 7, 31):
        alone = mint(teacher, generator, n=1, first=i, threshold=0.8)
        row = list(whole.indices).index(i)
        assert alone.attempt is not None and whole.attempt is not None and alone.attempt[0] == whole.attempt[row]


# --- acceptance


@pytest.mark.parametrize("attempts", [1, 30])
@pytest.mark.parametrize(("distance", "threshold"), [(2.0, 0.0), (2.0, 0.5), (2.0, 0.9), (1.0, 0.7), (3.0, 0.99)])
def test_acceptance_is_the_closed_form(distance: float, threshold: float, attempts: int) -> None:
    """Two classes at distance d: log(p_y / p_other) = d²/2 + d·w, w ~ N(0, 1). It passes above logit(t), or above 0
    where the label decides."""
    generator = analytic(classes=2, separation=distance)
    needed = math.log(threshold / (1 - threshold)) if threshold > 0.5 else 0.0
    expected = NormalDist().cdf(distance / 2 - needed / distance)
    tally = mint(Posterior(generator), generator, n=20_000, threshold=threshold, attempts=attempts).tally
    for label in (None, 0, 1):
        n = tally.tried.total() if label is None else tally.tried[label]
        half = NormalDist().inv_cdf(0.995) * math.sqrt(expected * (1 - expected) / n)
        assert abs(tally.acceptance(label) - expected) < half
    wrong = NormalDist().cdf(-distance / 2)
    n = tally.tried.total()
    assert abs(tally.wrong_label.total() / n - wrong) < NormalDist().inv_cdf(0.995) * math.sqrt(wrong * (1 - wrong) / n)


def test_refilling_keeps_the_classes_balanced_however_unlike_their_acceptance() -> None:
    generator = analytic(classes=6, z_dim=2, separation=0.8)
    minted = mint(Posterior(generator), generator, n=300, threshold=0.3, attempts=1000)
    rates = [minted.tally.acceptance(k) for k in range(6)]
    assert max(rates) > 1.5 * min(rates)
    assert np.bincount(minted.labels).tolist() == [50] * 6
    assert np.array_equal(minted.indices, np.arange(300)) and not minted.tally.short


def test_a_class_that_cannot_be_filled_ends_as_a_reported_shortfall() -> None:
    generator = analytic(classes=4, separation=8.0)
    minted = mint(Posterior(generator, never=2), generator, n=40, attempts=7)
    tally = minted.tally
    assert tally.short == {2: 10} and tally.tried[2] == tally.wrong_label[2] == 70
    assert tally.acceptance(2) == 0 and tally.acceptance(1) > 0.9
    assert np.array_equal(minted.indices, np.arange(40)[np.arange(40) % 4 != 2])
    nothing = mint(Posterior(generator, never=2), generator, n=1, first=2)
    assert nothing.images.shape == (0, 16, 16, 1) and nothing.score is not None and nothing.tally.short == {2: 1}


def test_the_tally_counts_every_latent_once() -> None:
    generator = analytic(separation=1.5)
    minted = mint(Posterior(generator), generator, n=200, threshold=0.8, attempts=5)
    tally = minted.tally
    assert minted.attempt is not None and tally.short and tally.below_threshold and tally.wrong_label
    assert tally.tried.total() == (minted.attempt + 1).sum() + 5 * tally.short.total()
    assert tally.kept.total() == len(minted.labels) == 200 - tally.short.total()
    for k in range(10):
        assert tally.kept[k] == (minted.labels == k).sum()


def test_several_generators_are_filtered_by_one_teacher() -> None:
    generators = analytic(), analytic(id="other", separation=4.0)
    teacher = Posterior(generators[0])
    minted = mint(teacher, *generators, n=80, attempts=50, weights=(1, 1))
    seen, sure = judged(teacher, minted)
    assert np.array_equal(seen, minted.labels) and (sure > 0.5).all()
    assert 20 < minted.generator.sum() < 60


# --- parameters


@pytest.mark.parametrize("params", [{}, {"threshold": 0}, {"threshold": 0.999, "attempts": 1000}, {"attempts": 1}])
def test_parameters_that_work(params: dict[str, Any]) -> None:
    FilteredParams.model_validate(params)
    jsonschema.validate(params, FilteredParams.model_json_schema())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"threshold": -0.1}, "at least 0"),
        ({"threshold": 1}, "below 1"),
        ({"threshold": 90}, "below 1"),
        ({"attempts": 0}, "at least 1"),
        ({"attempts": -5}, "at least 1"),
        ({"attempts": 1001}, "at most 1000"),
        ({"attempts": 1.5}, "integer"),
        ({"truncation": 0.5, "sigma": 2.0}, "truncation excludes sigma"),
        ({"t": 0.5}, "'t'"),
    ],
)
def test_parameters_that_cannot_work_are_refused_at_the_border_with_the_reason(
    params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError):
        FilteredParams.model_validate(params)
    with pytest.raises(InvalidOrder, match=reason):
        check(params, teacher=SnapshotRef(channel="teacher"))


def test_an_order_without_a_teacher_is_refused() -> None:
    with pytest.raises(InvalidOrder, match="filtered needs a teacher"):
        check({}, teacher=None)


def check(params: dict[str, Any], teacher: SnapshotRef | None) -> None:
    worker = WorkerInfo(
        id="w", host="", pid=0, device="cpu", started=0, generators=(analytic().info,), strategies=describe()
    )
    order = Order(
        generators=("analytic",), strategy="filtered", params=params, labels=Balanced(classes=(0,)), count=1,
        sink="ring", teacher=teacher,
    )  # fmt: skip
    check_order(order, Catalog(workers=(worker,)))
