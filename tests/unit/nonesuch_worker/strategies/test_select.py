"""Select: the hardest of k candidates, as it is delivered."""

from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced
from nonesuch.offers import Catalog, WorkerInfo
from nonesuch.orders import Order, SnapshotRef, check_order
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import Generator, to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import ATTEMPTS, LATENT, latents
from nonesuch_worker.strategies.base import MintedRows
from nonesuch_worker.strategies.registry import describe
from nonesuch_worker.strategies.scores import entropy, margin
from nonesuch_worker.strategies.select import Select, SelectParams
from tests.helpers.contexts import context
from tests.helpers.perfect import Posterior, analytic


class Linear(nn.Module):
    """A classifier of images of any size; with factor 0 it knows nothing."""

    def __init__(self, pixels: int, factor: float = 1.0) -> None:
        super().__init__()
        self.weight = factor * torch.sin(torch.arange(10.0 * pixels)).view(pixels, 10)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


def mint(
    classifier: nn.Module,
    *generators: Generator,
    n: int,
    teacher: nn.Module | None = None,
    first: int = 0,
    **given: Any,
) -> MintedRows:
    params = SelectParams(**given)
    ctx = context(params, *generators, seed=7, n=n, first=first, classifier=classifier, teacher=teacher)
    with torch.no_grad():
        return Select().mint(ctx)


def candidates(generator: Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every candidate's image (k, n, H, W, C), and the labels (n,)."""
    indices = np.arange(n)
    labels = indices % len(generator.info.class_names)
    streams = [LATENT, *(ATTEMPTS + a for a in range(1, k))]
    z = [torch.from_numpy(latents(7, indices, generator.info.z_dim, stream=s)) for s in streams]
    with torch.no_grad():
        images = [to_uint8_NHWC(generator(each, torch.from_numpy(labels))).numpy() for each in z]
    return np.stack(images), labels


def probabilities(classifier: nn.Module, images: np.ndarray) -> np.ndarray:
    """(k, n, K) float64 of stored images (k, n, H, W, C)."""
    x = torch.from_numpy(images).movedim(-1, -3).float() / 127.5 - 1
    with torch.no_grad():
        return torch.stack([classifier(each) for each in x]).double().softmax(-1).numpy()


@pytest.mark.parametrize("source", ["analytic:separation=1.5", "fashion-mnist"])
@pytest.mark.parametrize("by", ["entropy", "margin"])
def test_the_hardest_candidate_is_taken(source: str, by: str) -> None:
    generator = load_generator(source)
    classifier = Linear(int(np.prod(generator.info.image_shape)), factor=0.2)
    images, labels = candidates(generator, n=20, k=5)
    p = probabilities(classifier, images)
    top = np.sort(p, axis=-1)
    score = -(p * np.log(p)).sum(-1) if by == "entropy" else top[..., -1] - top[..., -2]  # (k, n)
    best = score.argmax(0) if by == "entropy" else score.argmin(0)
    minted = mint(classifier, generator, n=20, k=5, by=by)
    assert minted.attempt is not None and np.array_equal(minted.attempt, best)
    assert len(set(best)) > 2
    assert np.array_equal(minted.images, images[best, np.arange(20)])
    assert minted.score is not None and np.allclose(minted.score, score[best, np.arange(20)], atol=1e-4)
    assert minted.score_before is not None and np.allclose(minted.score_before, score[0], atol=1e-4)
    assert np.array_equal(minted.labels, labels) and minted.z is None and not minted.tally


def test_entropy_and_margin_of_known_probabilities() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.06, 0.04]], dtype=torch.float64)
    assert torch.allclose(margin(p.log()), torch.tensor([0.25, 0.0, 0.84], dtype=torch.float64))
    assert torch.allclose(entropy(p.log())[:2], torch.tensor([1.5 * np.log(2), np.log(3)], dtype=torch.float64))
    assert entropy(torch.tensor([[200.0, -200.0]])) == 0  # sure, and no 0 · log 0


def test_of_equals_the_first_is_taken() -> None:
    generator = analytic()
    minted = mint(Linear(256, factor=0.0), generator, n=12, k=6)
    assert minted.attempt is not None and not minted.attempt.any()
    assert np.array_equal(minted.images, candidates(generator, 12, 1)[0][0])
    assert minted.score is not None and np.allclose(minted.score, np.log(10))


def test_more_candidates_are_harder() -> None:
    generator = analytic()
    classifier = Posterior(generator)
    few, many = (mint(classifier, generator, n=100, k=k).score for k in (2, 32))
    assert few is not None and many is not None
    assert (many >= few).all() and many.mean() > few.mean() + 0.1


def test_with_a_teacher_only_valid_candidates_count() -> None:
    generator = analytic(classes=5, separation=2.0)
    teacher, k, n = Posterior(generator), 8, 50
    images, labels = candidates(generator, n, k)
    p = probabilities(teacher, images)
    hard = -(p * np.log(p)).sum(-1)
    valid = p.argmax(-1) == labels
    minted = mint(teacher, generator, n=n, teacher=teacher, k=k, teacher_valid=True)
    assert np.array_equal(minted.attempt, np.where(valid, hard, -1).argmax(0))
    assert not np.array_equal(minted.attempt, hard.argmax(0))
    assert minted.tally.tried.total() == k * n and minted.tally.wrong_label.total() == (~valid).sum()
    assert minted.score_before is not None and np.allclose(minted.score_before, hard[0], atol=1e-4)


def test_an_index_without_a_valid_candidate_is_short() -> None:
    generator = analytic(classes=4, separation=8.0)
    minted = mint(Posterior(generator), generator, n=20, teacher=Posterior(generator, never=1), k=3, teacher_valid=True)
    assert minted.tally.short == {1: 5} and minted.tally.wrong_label[1] == 15
    assert np.array_equal(minted.indices, np.arange(20)[np.arange(20) % 4 != 1])
    assert minted.score is not None and len(minted.score) == 15
    none = mint(
        Posterior(generator), generator, n=1, first=1, teacher=Posterior(generator, never=1), teacher_valid=True
    )
    assert len(none.images) == 0 and none.score_before is not None and none.tally.short == {1: 1}


def test_several_generators_offer_their_own_candidates() -> None:
    generators = analytic(), analytic(id="other", seed=1)
    classifier = Posterior(generators[0])
    minted = mint(classifier, *generators, n=60, k=4, weights=(1, 1))
    assert 15 < minted.generator.sum() < 45
    for i in (0, 1, 2, 3):
        one = mint(classifier, *generators, n=1, first=i, k=4, weights=(1, 1))
        assert one.generator[0] == minted.generator[i]
        assert one.attempt is not None and minted.attempt is not None and one.attempt[0] == minted.attempt[i]


def test_one_pass_of_the_generator_for_each_candidate() -> None:
    class Counting(AnalyticGenerator):
        passes = 0

        def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
            self.passes += 1
            assert len(z) == 16  # never all the candidates at once
            return super().__call__(z, labels, truncation)

    generator = Counting(AnalyticParams())
    mint(Posterior(generator), generator, n=16)
    assert generator.passes == 11  # 2S + 1 for S = 5


# --- parameters


@pytest.mark.parametrize("params", [{}, {"k": 2}, {"k": 64, "by": "margin"}, {"teacher_valid": True}])
def test_parameters_that_work(params: dict[str, Any]) -> None:
    SelectParams.model_validate(params)
    jsonschema.validate(params, SelectParams.model_json_schema())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"k": 1}, "at least 2"),
        ({"k": -11}, "at least 2"),
        ({"k": 65}, "at most 64"),
        ({"k": 2.5}, "integer"),
        ({"by": "loss"}, "entropy"),
        ({"truncation": 0.5, "sigma": 2.0}, "truncation excludes sigma"),
        ({"steps": 5}, "steps"),
    ],
)
def test_parameters_that_cannot_work_are_refused_at_the_border_with_the_reason(
    params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError):
        SelectParams.model_validate(params)
    with pytest.raises(InvalidOrder, match=reason):
        check(params, snapshot=SnapshotRef())


def test_orders_without_the_classifiers_it_asks_are_refused() -> None:
    with pytest.raises(InvalidOrder, match="select needs a snapshot"):
        check({}, snapshot=None)
    with pytest.raises(InvalidOrder, match="teacher_valid needs a teacher"):
        check({"teacher_valid": True}, snapshot=SnapshotRef())


def check(params: dict[str, Any], snapshot: SnapshotRef | None) -> None:
    worker = WorkerInfo(
        id="w", host="", pid=0, device="cpu", started=0, generators=(analytic().info,), strategies=describe()
    )
    order = Order(
        generators=("analytic",), strategy="select", params=params, labels=Balanced(classes=(0,)), count=1,
        sink="ring", snapshot=snapshot,
    )  # fmt: skip
    check_order(order, Catalog(workers=(worker,)))
