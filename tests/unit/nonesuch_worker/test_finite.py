"""A number that is not finite ends an order with the cause, wherever it is born and whatever the strategy."""

from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from nonesuch.errors import InvalidValue
from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.plugins import names
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tickets import Ticket
from nonesuch_worker.finite import FiniteChecks, finite_rows, require_finite
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.minting.minter import Classifier, Minter
from nonesuch_worker.strategies.registry import GROUP, strategy
from nonesuch_worker.strategies.scores import entropy

WRONG = [float("nan"), float("inf"), float("-inf")]
PARAMS: dict[str, list[dict[str, Any]]] = {
    "hsm": [{}, {"objective": "entropy"}, {"objective": "loss"}, {"step": "raw"}, {"score": "prob"}, {"verify": True}],
    "filtered": [{}, {"threshold": 0}],
    "select": [{}, {"by": "margin"}, {"teacher_valid": True}],
}
"""Ways to use a strategy; `{}` for all that are not named."""
ORDERS = [(name, params) for name in names(GROUP) for params in PARAMS.get(name, [{}])]


class Overflowing(AnalyticGenerator):
    """One image of every call has one pixel that is not finite."""

    def __init__(self, value: float) -> None:
        super().__init__(AnalyticParams())
        self.value = value

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        images = super().__call__(z, labels, truncation).clone()
        images[-1, 0, 3, 3] = self.value
        return images


class Faulty(nn.Module):
    """A classifier that gives one image of every call a logit that is not finite; None: it is sound."""

    def __init__(self, value: float | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        if self.value is not None:
            logits = logits.clone()
            logits[-1, 4] = self.value
        return logits


def classifier(value: float | None) -> Classifier:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = Faulty(value).requires_grad_(False).eval()
    header = SnapshotHeader(
        channel="run", version=1, architecture="linear", image_shape=(16, 16, 1), classes=10, mean=(0.5,),
        std=(0.5,), epoch=0, step=0, sha256="0" * 64,
    )  # fmt: skip
    return Classifier(network, header)


def mint(
    name: str, params: dict[str, Any], generator: AnalyticGenerator, snapshot: float | None, teacher: float | None
) -> pa.RecordBatch:
    order = Order(
        id="o", generators=("analytic",), labels=Balanced(classes=(0, 1, 2)), count=6, seed=5, sink="ring",
        ticket_size=6, strategy=name, params=params,
    )  # fmt: skip
    return Minter([generator]).mint(Ticket(order, 0), classifier(snapshot), classifier(teacher)).batch


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(("name", "params"), ORDERS)
def test_images_are_checked_before_they_are_rounded(name: str, params: dict[str, Any], value: float) -> None:
    with pytest.raises(InvalidValue, match=r"1 of \d images are not finite.*generator"):
        mint(name, params, Overflowing(value), None, None)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(("name", "params"), [o for o in ORDERS if strategy(o[0]).needs_snapshot])
def test_a_snapshot_that_overflows_is_the_cause(name: str, params: dict[str, Any], value: float) -> None:
    with pytest.raises(InvalidValue, match=r"1 of \d answers of the classifier are not finite.*publish another"):
        mint(name, params, AnalyticGenerator(AnalyticParams()), value, None)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("name", "params"),
    [
        *((o[0], {**o[1], "soft_labels": True}) for o in ORDERS if not strategy(o[0]).needs_teacher),
        *(o for o in ORDERS if strategy(o[0]).needs_teacher),
    ],
)
def test_a_teacher_that_overflows_is_the_cause(name: str, params: dict[str, Any], value: float) -> None:
    with pytest.raises(InvalidValue, match=r"1 of \d answers of the teacher are not finite.*publish another"):
        mint(name, params, AnalyticGenerator(AnalyticParams()), None, value)


@pytest.mark.parametrize("value", WRONG)
def test_no_image_is_rounded_to_black(value: float) -> None:
    x = torch.zeros(3, 1, 2, 2)
    x[1, 0, 1, 0] = value
    with pytest.raises(InvalidValue, match="1 of 3 images are not finite, the first at row 1: "):
        to_uint8_NHWC(x)
    assert finite_rows(x).tolist() == [True, False, True]
    assert finite_rows(x[:, 0, 1, 0]).tolist() == [True, False, True]
    require_finite(finite_rows(x[:0]), "images")


def test_the_first_of_several_is_named_whatever_came_of_it() -> None:
    checks = FiniteChecks()
    bad = torch.tensor([1.0, float("nan")])
    for what, x in (("images", bad[:1]), ("gradients", bad), ("images", bad)):
        checks.add(x, what)
    with pytest.raises(InvalidValue, match="1 of 2 gradients are not finite, the first at row 1"):
        checks.require()
    checks.require()  # nothing was added since


def test_the_entropy_of_finite_logits_is_finite_and_so_is_its_gradient() -> None:
    logits = torch.tensor([[3e38, -3e38, 0.0], [3e38, 3e38, -3e38]], requires_grad=True)
    found = entropy(logits)
    assert found.tolist() == pytest.approx([0.0, 0.693147], abs=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.isfinite().all()
