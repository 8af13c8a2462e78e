"""The minter: tickets become batches that are a function of the order and the slice."""

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nonesuch.errors import Busy, GeneratorNotFound, InvalidOrder, InvalidValue
from nonesuch.labels import Balanced, Explicit
from nonesuch.ledger import Ledger, Use
from nonesuch.orders import Order
from nonesuch.schema import images_of, labels_of, ledger_of, read_batch, soft_labels_of, write_batch
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tally import Tally, count
from nonesuch.tickets import Ticket
from nonesuch_worker.engine import micro_batches
from nonesuch_worker.engine.copy_out import HostCopy
from nonesuch_worker.engine.micro_batches import best_micro_batch
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.minting import minter as minter_module
from nonesuch_worker.minting.minter import Classifier, Minter
from nonesuch_worker.strategies.base import MintContext, MintedRows, MixingParams


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
    Params: ClassVar[type[MixingParams]] = MixingParams
    needs_snapshot: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    mixes: ClassVar[bool] = True

    def mint(self, ctx: MintContext[MixingParams]) -> MintedRows:
        even = ctx.indices % 2 == 0
        n = int(even.sum())
        assert ctx.classifier is not None
        z: dict[int, np.ndarray] = {}
        score, generator = np.empty(len(even), np.float32), np.empty(len(even), np.int32)
        for draw in ctx.draws():
            score[draw.rows] = ctx.classifier(ctx.render(draw)).amax(dim=1).numpy()
            generator[draw.rows] = draw.generator
            z.update(zip(draw.rows.tolist(), draw.z.half().numpy(), strict=True))
        return MintedRows(
            images=np.zeros((len(even), 16, 16, 1), np.uint8)[even],
            labels=ctx.labels[even],
            indices=ctx.indices[even],
            generator=generator[even],
            attempt=np.full(n, 2, np.int32),
            score=score[even],
            score_before=score[even] + 1,
            flips=np.full(n, 3, np.int16),
            z=[z[row] for row in np.flatnonzero(even)],
            tally=Tally(tried=count(ctx.labels), short=count(ctx.labels[~even])),
        )


def judge(version: int = 12, channel: str = "run", **given: Any) -> Classifier:
    """A linear classifier of the analytic generator's images."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(version)
        network = nn.Sequential(nn.Flatten(), nn.Linear(256, 10)).requires_grad_(False).eval()
    header = SnapshotHeader(
        channel=channel, version=version, architecture="linear", image_shape=(16, 16, 1), classes=10, mean=(0.5,),
        std=(0.5,), epoch=0, step=0, sha256="0" * 64, **given,
    )  # fmt: skip
    return Classifier(network, header)


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
    minted = Minter([generator]).mint(Ticket(order(params={"sigma": 1.5}), number=2))
    batch = minted.batch
    assert not minted.tally
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
        "attempt": 0,
        "snapshot": None,
        "score": None,
        "score_before": None,
        "flips": None,
        "z": None,
        "soft_label": None,
    }


def test_the_same_ticket_is_the_same_bytes() -> None:
    ticket = Ticket(order(), number=1)
    again = Ticket(order(), number=1, attempt=3)
    first, second = (Minter([Recording()]).mint(each).batch for each in (ticket, again))
    assert write_batch(first) == write_batch(second)


def test_an_index_gets_the_same_image_however_the_order_is_cut() -> None:
    whole = images_of(Minter([Recording()]).mint(Ticket(order(ticket_size=20), 0)).batch)
    tickets = [images_of(Minter([Recording()], micro_batch=3).mint(Ticket(order(), n)).batch) for n in range(3)]
    difference = np.abs(whole.astype(int) - np.concatenate(tickets))
    assert difference.max() <= 1  # sums in another order may round to the next level
    assert (difference > 0).mean() < 1e-3


def test_micro_batches_cut_a_ticket_from_its_start_and_pass_the_truncation_on() -> None:
    generator = Recording()
    batch = Minter([generator], micro_batch=3).mint(Ticket(order(params={"truncation": 0.5}), number=0)).batch
    assert generator.calls == [(3, 0.5), (3, 0.5), (2, 0.5)]
    assert batch.column("index").to_pylist() == list(range(8))
    assert batch.column("truncation").to_pylist() == [0.5] * 8


class Small(Recording):
    """Has memory for so many rows."""

    def __init__(self, rows: int, **params: Any) -> None:
        super().__init__(**params)
        self.rows = rows

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        images = super().__call__(z, labels, truncation)
        if len(z) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return images


def test_a_worker_without_memory_for_a_micro_batch_halves_it_for_good_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    generator = Small(3)
    minter = Minter([generator], micro_batch=8)
    batches = [minter.mint(Ticket(order(), n)).batch for n in range(3)]
    assert [rows for rows, _ in generator.calls] == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    alike = [Minter([Recording()], micro_batch=2).mint(Ticket(order(), n)).batch for n in range(3)]
    assert [write_batch(b) for b in batches] == [write_batch(b) for b in alike]
    assert caplog.text.count("out of memory with a micro-batch of 8 images") == len(caplog.records) == 1


def test_a_mixture_begins_its_micro_batch_again() -> None:
    wanted = order(strategy="mixture", params={"sigma": 1.5})
    batch = Minter([Small(5)], micro_batch=8).mint(Ticket(wanted, 0)).batch
    again = Minter([Recording()], micro_batch=4).mint(Ticket(wanted, 0)).batch
    assert write_batch(batch) == write_batch(again)


ASKING = [
    ("hsm", {}),
    ("hsm", {"verify": True}),
    ("hsm", {"step": "raw", "eta": 0.3}),
    ("select", {"k": 3}),
    ("filtered", {"threshold": 0.1}),
]
"""Strategies in which a classifier moves latents, or chooses among them."""


@pytest.mark.parametrize(("name", "params"), ASKING)
def test_what_a_classifier_decides_does_not_depend_on_how_a_worker_cuts(
    name: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batches, "best_micro_batch", lambda device, shape: 3)
    ticket = Ticket(order(strategy=name, params=params), 0)
    before = Ticket(order(ticket_size=8), 0)

    def minted(minter: Minter) -> bytes:
        return write_batch(minter.mint(ticket, judge(), judge(13)).batch)

    expected = minted(Minter([Recording()]))
    for rows in (1, 2, 3, 5, 8, 100):
        generator = Small(3)
        minter = Minter([generator], micro_batch=rows)
        minter.mint(before)  # which may have run out of memory: smaller micro-batches are for random images
        generator.calls.clear()
        assert minted(minter) == expected
        assert max(n for n, _ in generator.calls) == 3


@pytest.mark.parametrize(("name", "params"), ASKING)
def test_what_a_classifier_decides_is_given_back_rather_than_made_otherwise(
    name: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batches, "best_micro_batch", lambda device, shape: 3)
    ticket = Ticket(order(strategy=name, params=params), 0)
    with pytest.raises(Busy, match="no memory for 3 images, which are always made together, of 16×16×1"):
        Minter([Small(2)]).mint(ticket, judge(), judge(13))


def test_no_memory_for_one_image_is_not_the_order_s_fault() -> None:
    with pytest.raises(Busy, match="no memory for a single image of 16×16×1"):
        Minter([Small(0)]).mint(Ticket(order(), 0))


def test_the_best_micro_batch_is_by_the_size_of_an_order_s_images() -> None:
    generators = [Recording(size=64), Recording(id="large", size=512)]
    minter = Minter(generators)
    for generator in generators:
        best = best_micro_batch(torch.device("cpu"), generator.info.image_shape)
        wanted = order(generators=(generator.info.id,), count=best + 1, ticket_size=best + 1)
        minter.mint(Ticket(wanted, 0))
        assert [rows for rows, _ in generator.calls] == [best, 1]


def test_images_are_waited_for_only_when_the_batch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    numpy = HostCopy.numpy

    def reading(self: HostCopy) -> Any:
        read.append(self)
        return numpy(self)

    monkeypatch.setattr(HostCopy, "numpy", reading)
    generator = Recording()
    minted = Minter([generator], micro_batch=3).mint(Ticket(order(), 0))
    assert len(generator.calls) == 3 and not read
    assert minted.batch.num_rows == 8 and len(read) == 3


def test_no_gradient_is_recorded() -> None:
    recorded = []

    class Watching(Recording):
        def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
            recorded.append(torch.is_grad_enabled())
            return super().__call__(z, labels, truncation)

    Minter([Watching()]).mint(Ticket(order(), 0))
    assert recorded == [False]


def test_a_strategy_may_leave_rows_out_and_fill_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minter_module, "strategy", lambda name: Picky())
    generators = [Recording(), Recording(id="other", seed=1, z_dim=12)]
    wanted = order(generators=("analytic", "other"), strategy="picky", ticket_size=20, params={"weights": [1, 3]})
    minted = Minter(generators, micro_batch=3).mint(Ticket(wanted, 0), judge(12))
    batch = read_batch(write_batch(minted.batch))
    assert batch.column("index").to_pylist() == list(range(0, 20, 2))
    assert batch.column("snapshot").to_pylist() == [12] * 10
    assert batch.column("attempt").to_pylist() == [2] * 10
    assert batch.column("flips").to_pylist() == [3] * 10
    score, before = (batch.column(name).to_numpy() for name in ("score", "score_before"))
    assert np.allclose(before, score + 1)
    ids, shas = batch.column("generator").to_pylist(), batch.column("generator_sha256").to_pylist()
    assert set(ids) == {"analytic", "other"}
    hosted = {g.info.id: g.info for g in generators}
    assert shas == [hosted[i].sha256 for i in ids]
    assert [len(z) for z in batch.column("z").to_pylist()] == [hosted[i].z_dim for i in ids]
    assert minted.tally.tried.total() == 20 and minted.tally.short.total() == 10  # of all the micro-batches


def test_generators_share_an_order_by_its_weights() -> None:
    generators = [Recording(), Recording(id="other", seed=1)]
    wanted = order(generators=("other", "analytic"), strategy="mixture", count=800, ticket_size=800)
    for weights, share in ((None, 0.5), ([3, 1], 0.75)):
        given = wanted.model_copy(update={"params": {} if weights is None else {"weights": weights}})
        batch = Minter(generators, micro_batch=100).mint(Ticket(given, 0)).batch
        ids = np.array(batch.column("generator").to_pylist())
        assert abs((ids == "other").mean() - share) < 0.05
    own = Minter(generators[:1]).mint(Ticket(order(count=800, ticket_size=800), 0)).batch
    mine = ids == "analytic"
    assert np.array_equal(images_of(batch)[mine], images_of(own)[mine])  # the same index, the same latent


def test_a_ticket_of_which_nothing_could_be_filled_is_a_batch_without_rows() -> None:
    never = judge()
    assert isinstance(never.network[1], nn.Linear)
    never.network[1].bias[4] = -1e9
    wanted = order(strategy="filtered", labels=Balanced(classes=(4,)), params={"attempts": 3, "soft_labels": True})
    minted = Minter([Recording()], micro_batch=3).mint(Ticket(wanted, 0), None, never)
    batch = read_batch(write_batch(minted.batch))
    assert batch.num_rows == 0 and images_of(batch).shape == (0, 16, 16, 1)
    assert minted.tally == Tally(tried=Counter({4: 24}), wrong_label=Counter({4: 24}), short=Counter({4: 8}))


def test_mined_rows_go_through_with_their_latents() -> None:
    wanted = order(strategy="hsm", params={"steps": 2})
    batch = Minter([Recording()], micro_batch=3).mint(Ticket(wanted, 0), judge()).batch
    assert batch.num_rows == 8 and batch.column("score").null_count == batch.column("flips").null_count == 0
    z = torch.tensor(batch.column("z").to_pylist())
    again = to_uint8_NHWC(Recording()(z, torch.from_numpy(labels_of(batch).copy()).long()))
    assert np.abs(again.numpy().astype(int) - images_of(batch)).max() <= 1
    assert batch.column("snapshot").to_pylist() == [12] * 8


def test_soft_labels_are_the_teacher_s_probabilities_of_the_images_as_delivered() -> None:
    teacher = judge(3, "teacher")
    wanted = order(params={"soft_labels": True})
    batch = read_batch(write_batch(Minter([Recording()], micro_batch=3).mint(Ticket(wanted, 0), None, teacher).batch))
    found = soft_labels_of(batch)
    x = torch.from_numpy(images_of(batch).copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert found is not None and found.shape == (8, 10) and found.dtype == np.float16
    assert np.allclose(found, teacher.network(x).softmax(1).numpy(), atol=1e-3)
    assert batch.column("snapshot").null_count == 8  # nothing was aimed at a snapshot


def test_the_ledger_names_every_classifier_that_had_a_part() -> None:
    real = Ledger(uses=(Use(by="training", information="labelled", what="60,000 images", direct=True),))
    none = Ledger()
    plain = Minter([Recording()]).mint(Ticket(order(), 0)).batch
    assert ledger_of(plain.schema).information == "none"
    wanted = order(strategy="hsm", params={"steps": 1, "verify": True})
    taught = Minter([Recording()]).mint(Ticket(wanted, 0), judge(ledger=none), judge(3, "teacher", ledger=real)).batch
    assert ledger_of(taught.schema).information == "labelled" and ledger_of(taught.schema).direct == "none"
    assert "teacher" in ledger_of(taught.schema).statement and "60,000 images" in ledger_of(taught.schema).statement
    aimed = Minter([Recording()]).mint(Ticket(order(strategy="select"), 0), judge(ledger=real)).batch
    assert "snapshot" in ledger_of(aimed.schema).statement
    unaimed = Minter([Recording()]).mint(Ticket(order(), 0), judge(ledger=real)).batch
    assert ledger_of(unaimed.schema).information == "none"  # random asks no snapshot


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "hsm"}, "'hsm' needs a snapshot"),
        ({"strategy": "select"}, "'select' needs a snapshot"),
        ({"strategy": "filtered"}, "'filtered' needs a teacher"),
        ({"params": {"soft_labels": True}}, "'random' needs a teacher"),
        ({"generators": ("analytic", "other")}, "'random' takes one generator"),
    ],
)
def test_a_strategy_is_refused_without_what_it_needs(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOrder, match=said):
        Minter([Recording(), Recording(id="other")]).mint(Ticket(order(**given), 0))


@pytest.mark.parametrize(("strategy", "param"), [("hsm", "verify"), ("select", "teacher_valid")])
def test_a_parameter_that_needs_a_teacher_is_refused_without_one(strategy: str, param: str) -> None:
    with pytest.raises(InvalidOrder, match="needs a teacher"):
        Minter([Recording()]).mint(Ticket(order(strategy=strategy, params={param: True}), 0), judge())


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
