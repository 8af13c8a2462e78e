"""The minter: tickets become batches that are a function of the order and the slice."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nonesuch.errors import GeneratorNotFound, InvalidOrder, InvalidValue
from nonesuch.labels import Balanced, Explicit
from nonesuch.orders import Order
from nonesuch.schema import images_of, labels_of, read_batch, write_batch
from nonesuch.tickets import Ticket
from nonesuch_worker import minter as minter_module
from nonesuch_worker.generators.analytic import AnalyticGenerator, AnalyticParams
from nonesuch_worker.minter import Minter
from nonesuch_worker.strategies.base import MintContext, Minted, StrategyParams


class Recording(AnalyticGenerator):
    """Remembers how many rows it was asked for at a time, and under which truncation."""

    def __init__(self, **params: Any) -> None:
        super().__init__(AnalyticParams(**params))
        self.calls: list[tuple[int, float | None]] = []

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        self.calls.append((len(z), truncation))
        return super().__call__(z, labels, truncation)


class Picky:
    """A strategy that fills even indices only, asks the snapshot for a score, and keeps its latents."""

    name: ClassVar[str] = "picky"
    Params: ClassVar[type[StrategyParams]] = StrategyParams
    needs_snapshot: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = False

    def mint(self, ctx: MintContext[StrategyParams]) -> Minted:
        even = ctx.indices % 2 == 0
        x = ctx.generators[1](ctx.latents(), ctx.targets())
        return Minted(
            images=np.zeros((len(even), 16, 16, 1), np.uint8)[even],
            labels=ctx.labels[even],
            indices=ctx.indices[even],
            generator=np.ones(even.sum(), np.int32),
            score=ctx.classifier(x).amax(dim=1).numpy()[even],
            z=ctx.latents().numpy().astype(np.float16)[even],
        )


def order(**given: Any) -> Order:
    defaults = {
        "id": "order-1",
        "generators": ("analytic",),
        "labels": Balanced(classes=(4, 2, 0)),
        "count": 20,
        "seed": 5,
        "sink": "ring",
        "ticket_size": 8,
    }
    return Order.model_validate({**defaults, **given})


def test_a_ticket_becomes_its_slice_with_its_provenance() -> None:
    generator = Recording()
    batch = Minter([generator]).mint(Ticket(order(params={"sigma": 1.5}), number=2))
    assert images_of(batch).shape == (4, 16, 16, 1)  # the last ticket of 20 rows in eights
    assert labels_of(batch).tolist() == [2, 0, 4, 2]
    rows = batch.drop_columns(["image"]).to_pylist()
    assert rows[1] == {
        "label": 0,
        "order": "order-1",
        "index": 17,
        "generator": "analytic",
        "generator_sha256": generator.info.sha256,
        "strategy": "random",
        "sigma": 1.5,
        "truncation": None,
        "seed": 5,
        "snapshot": None,
        "score": None,
        "z": None,
    }


def test_the_same_ticket_is_the_same_bytes() -> None:
    ticket = Ticket(order(), number=1)
    again = Ticket(order(), number=1, attempt=3)
    assert write_batch(Minter([Recording()]).mint(ticket)) == write_batch(Minter([Recording()]).mint(again))


def test_an_index_gets_the_same_image_however_the_order_is_cut() -> None:
    whole = images_of(Minter([Recording()]).mint(Ticket(order(ticket_size=20), 0)))
    tickets = [images_of(Minter([Recording()], micro_batch=3).mint(Ticket(order(), n))) for n in range(3)]
    difference = np.abs(whole.astype(int) - np.concatenate(tickets))
    assert difference.max() <= 1  # sums in another order may round to the next level
    assert (difference > 0).mean() < 1e-3


def test_micro_batches_cut_a_ticket_from_its_start_and_pass_the_truncation_on() -> None:
    generator = Recording()
    batch = Minter([generator], micro_batch=3).mint(Ticket(order(params={"truncation": 0.5}), number=0))
    assert generator.calls == [(3, 0.5), (3, 0.5), (2, 0.5)]
    assert batch.column("index").to_pylist() == list(range(8))
    assert batch.column("truncation").to_pylist() == [0.5] * 8


def test_no_gradient_is_recorded() -> None:
    recorded = []

    class Watching(Recording):
        def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
            recorded.append(torch.is_grad_enabled())
            return super().__call__(z, labels, truncation)

    Minter([Watching()]).mint(Ticket(order(), 0))
    assert recorded == [False]


def test_a_strategy_may_leave_rows_out_and_fill_score_and_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minter_module, "strategy", lambda name: Picky())
    generators = [Recording(), Recording(id="other", seed=1)]
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(256, 10)).requires_grad_(False)
    ticket = Ticket(order(generators=("analytic", "other"), strategy="picky"), 0)
    batch = read_batch(write_batch(Minter(generators, micro_batch=3).mint(ticket, classifier, 12)))
    assert batch.column("index").to_pylist() == [0, 2, 4, 6]
    assert batch.column("generator").to_pylist() == ["other"] * 4
    assert batch.column("snapshot").to_pylist() == [12] * 4
    assert batch.column("score").null_count == 0
    assert len(batch.column("z")[0].as_py()) == 8


def test_a_strategy_that_asks_a_snapshot_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minter_module, "strategy", lambda name: Picky())
    with pytest.raises(InvalidOrder, match="needs a snapshot"):
        Minter([Recording()]).mint(Ticket(order(strategy="picky"), 0))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"generators": ("biggan",)}, GeneratorNotFound, "this worker has analytic, small"),
        ({"generators": ("analytic", "small")}, InvalidOrder, "differ in image shape"),
        ({"strategy": "luck"}, InvalidOrder, "'luck'"),
        ({"params": {"sigma": -1}}, InvalidOrder, "sigma"),
        ({"labels": Explicit(labels=(10,) * 20)}, InvalidOrder, "class 10 is unknown: classes are 0 to 9"),
    ],
)
def test_says_why_an_order_cannot_be_filled(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Minter([Recording(), Recording(id="small", size=8)]).mint(Ticket(order(**given), 0))


def test_refuses_hosts_that_cannot_work() -> None:
    with pytest.raises(InvalidValue, match="micro_batch 0"):
        Minter([Recording()], micro_batch=0)
    with pytest.raises(InvalidValue, match="own id"):
        Minter([Recording(), Recording(seed=1)])
    with pytest.raises(InvalidValue, match="at least one"):
        Minter([])
