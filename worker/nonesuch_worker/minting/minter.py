"""Make a ticket: a slice of an order becomes one Arrow record batch. Knows nothing of Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from nonesuch.config import explain
from nonesuch.errors import GeneratorNotFound, InvalidOrder, InvalidValue
from nonesuch.ledger import Ledger
from nonesuch.offers import ledger_of_generators
from nonesuch.orders import Order
from nonesuch.schema import Rows, make_batch
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tally import NOTHING, Tally
from nonesuch.tickets import Ticket
from nonesuch_worker.engine.micro_batches import MicroBatches
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.strategies.base import MintContext, MintedRows, Strategy, StrategyParams
from nonesuch_worker.strategies.registry import strategy
from nonesuch_worker.strategies.scores import look

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A snapshot that was loaded: what an order aims at, or its teacher."""

    network: nn.Module
    """Images (B, C, H, W) in [-1, 1] to logits (B, K); on the generators' device, in eval mode, its weights frozen."""
    header: SnapshotHeader


@dataclass(frozen=True, eq=False)
class MintedTicket:
    """A ticket whose making was begun: every kernel is launched, and its images may be on their way to the host."""

    join: Callable[[], pa.RecordBatch]
    """Makes the batch."""
    tally: Tally

    @property
    def batch(self) -> pa.RecordBatch:
        """The record batch of `nonesuch.schema`, in the order of the indices; with fewer rows than the ticket where
        some were not filled. Blocks until the images are on the host. May be asked for in another thread while the next
        is minted.

        Raises `InvalidValue` when a number of a row is not finite, the images before they were rounded included."""
        return self.join()


class Minter:
    """Mints tickets with the generators that one worker hosts. Blocks the calling thread; not safe to share.

    A ticket is cut into micro-batches of `micro_batch` rows, from its start. The last bits of a sum may depend on how
    many rows are computed together, so workers with the same hardware and the same `micro_batch` make the same bytes;
    one that has run out of memory, and has halved it, may differ from the others by these bits. A strategy that asks a
    classifier would amplify them: its walk bends, or it chooses another latent. Its micro-batches are of
    `best_micro_batch` rows, whatever was given, and never halved.
    """

    def __init__(self, generators: Sequence[Generator], micro_batch: int | None = None) -> None:
        """`micro_batch` is in rows; None takes the best for the generators' device and the size of an order's images
        (`engine.micro_batches`). Raises `InvalidValue` for what cannot work."""
        ids = [g.info.id for g in generators]
        if not ids or len(set(ids)) < len(ids):
            raise InvalidValue(f"a worker hosts at least one generator, each under its own id, not {ids}")
        if len({g.device for g in generators}) > 1:
            raise InvalidValue(f"a worker's generators are on one device, not {[str(g.device) for g in generators]}")
        self._generators = {g.info.id: g for g in generators}
        self._device = generators[0].device
        self._micro_batches = MicroBatches(self._device, micro_batch)

    def mint(
        self, ticket: Ticket, snapshot: Classifier | None = None, teacher: Classifier | None = None
    ) -> MintedTicket:
        """Make a ticket. Returns when all is launched: on a GPU it may not be made yet.

        Args:
            ticket: what to make.
            snapshot: what the order aims at, if it names one.
            teacher: the order's teacher, if it names one.

        Raises:
            GeneratorNotFound: the order names a generator that is not hosted here.
            InvalidOrder: the order cannot be filled by any worker; trying again will not help.
            Busy: the device has no memory for a single image, or for a micro-batch that must not be smaller; another
                worker's may.
        """
        order = ticket.order
        generators = self._of(order)
        chosen, params = _strategy_of(order)
        _check_needs(order, chosen, params, snapshot, teacher)
        shape, classes = generators[0].info.image_shape, len(generators[0].info.class_names)
        whole = MintContext(
            seed=order.seed,
            indices=ticket.indices,
            labels=_labels_of(ticket, classes=classes),
            generators=generators,
            params=params,
            classifier=snapshot.network if snapshot else None,
            teacher=teacher.network if teacher else None,
            device=self._device,
        )
        with torch.no_grad():
            parts = self._micro_batches.cut(
                len(whole.indices),
                shape,
                lambda rows: _make(chosen, whole, rows),
                fixed=chosen.needs_snapshot or chosen.needs_teacher or chosen.needs_gradient,
            )
        aimed = snapshot if chosen.needs_snapshot else None

        def join() -> pa.RecordBatch:
            return make_batch(
                _rows(parts, params, aimed.header.version if aimed else None),
                order=order.id,
                seed=order.seed,
                strategy=order.strategy,
                generators=[g.info for g in generators],
                ledger=_ledger(generators, aimed, teacher),
            )

        return MintedTicket(join, sum((p.minted.tally for p in parts), NOTHING))

    def _of(self, order: Order) -> tuple[Generator, ...]:
        """The order's generators, alike in image shape and classes."""
        missing = [i for i in order.generators if i not in self._generators]
        if missing:
            raise GeneratorNotFound(
                f"generator {missing[0]!r} is not hosted here; this worker has {', '.join(self._generators)}"
            )
        generators = tuple(self._generators[i] for i in order.generators)
        if len({(g.info.image_shape, g.info.class_names) for g in generators}) > 1:
            shapes = ", ".join(f"{g.info.id} {g.info.image_shape}" for g in generators)
            raise InvalidOrder(
                f"generators {shapes} differ in image shape or class names: order from each alone", field="generators"
            )
        return generators


def _strategy_of(order: Order) -> tuple[Strategy, StrategyParams]:
    try:
        chosen = strategy(order.strategy)
    except InvalidValue as error:
        raise InvalidOrder(str(error), field="strategy") from None
    try:
        return chosen, chosen.Params.model_validate(order.params)
    except ValidationError as error:
        raise InvalidOrder(explain(error, f"params of strategy {order.strategy!r}"), field="params") from None


def _check_needs(
    order: Order, chosen: Strategy, params: StrategyParams, snapshot: Classifier | None, teacher: Classifier | None
) -> None:
    """Check again what `orders.check_order` checks: its catalogue may know an older strategy of this name."""
    if chosen.needs_snapshot and snapshot is None:
        raise InvalidOrder(f"strategy {order.strategy!r} needs a snapshot and order {order.id} names none")
    if (chosen.needs_teacher or params.asks_teacher) and teacher is None:
        raise InvalidOrder(f"strategy {order.strategy!r} needs a teacher and order {order.id} names none")
    if len(order.generators) > 1 and not chosen.mixes:
        raise InvalidOrder(f"strategy {order.strategy!r} takes one generator and order {order.id} names several")


def _labels_of(ticket: Ticket, *, classes: int) -> NDArray[np.int32]:
    """The labels (B,) of the ticket's indices. A label that a generator does not know would stop a GPU for good."""
    labels = ticket.order.labels.of(ticket.indices)
    if labels.max() >= classes:
        raise InvalidOrder(f"class {labels.max()} is unknown: classes are 0 to {classes - 1}", field="labels")
    return labels


class _Part(NamedTuple):
    """A micro-batch that was made."""

    minted: MintedRows
    soft_labels: NDArray[np.float16] | None
    """The teacher's probabilities, (N, K), where they are asked for."""


def _make(chosen: Strategy, whole: MintContext[StrategyParams], rows: slice) -> _Part:
    """Make some rows of a ticket."""
    context = replace(whole, indices=whole.indices[rows], labels=whole.labels[rows])
    minted = chosen.mint(context)
    if not context.params.soft_labels or context.teacher is None:
        return _Part(minted, None)
    return _Part(minted, _soft_labels(minted.images_on_host(), context.teacher, context.device))


def _rows(parts: Sequence[_Part], params: StrategyParams, snapshot: int | None) -> Rows:
    minted = [p.minted for p in parts]
    return Rows(
        images=_concatenated([m.images_on_host() for m in minted]),
        labels=_concatenated([m.labels for m in minted]),
        indices=_concatenated([m.indices for m in minted]),
        generator=_concatenated([m.generator for m in minted]),
        sigma=params.sigma,
        truncation=params.truncation,
        snapshot=snapshot,
        attempt=_joined([m.attempt for m in minted]),
        score=_joined([m.score for m in minted]),
        score_before=_joined([m.score_before for m in minted]),
        flips=_joined([m.flips for m in minted]),
        z=None if minted[0].z is None else [z for m in minted for z in m.z or ()],
        soft_labels=_joined([p.soft_labels for p in parts]),
    )


def _soft_labels(images: NDArray[np.uint8], teacher: nn.Module, device: torch.device) -> NDArray[np.float16]:
    """(N, K): the teacher's probabilities of images (N, H, W, C) as they are delivered."""
    logits = look(teacher, torch.from_numpy(images).to(device), "teacher")
    probabilities: NDArray[np.float16] = logits.softmax(dim=1).half().cpu().numpy()
    return probabilities


def _ledger(generators: Sequence[Generator], snapshot: Classifier | None, teacher: Classifier | None) -> Ledger:
    ledger = ledger_of_generators(g.info for g in generators)
    for name, used in (("snapshot", snapshot), ("teacher", teacher)):
        if used is not None:
            ledger = ledger.plus(*used.header.ledger.through(name))
    return ledger


def _joined(columns: Sequence[NDArray[Scalar] | None]) -> NDArray[Scalar] | None:
    """One column from the micro-batches', or None where the strategy fills none."""
    given = [c for c in columns if c is not None]
    assert len(given) in (0, len(columns)), "a strategy fills a column in every micro-batch or in none"
    return _concatenated(given) if given else None


def _concatenated(columns: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """One column from the micro-batches', not copied where there was one."""
    return columns[0] if len(columns) == 1 else np.concatenate(columns)
