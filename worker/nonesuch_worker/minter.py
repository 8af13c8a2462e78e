"""Make a ticket: from a slice of an order to one Arrow record batch. Knows nothing of Redis."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from nonesuch.config import explain
from nonesuch.errors import GeneratorNotFound, InvalidOrder, InvalidValue
from nonesuch.orders import Order
from nonesuch.schema import Rows, make_batch
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.strategies.base import MintContext, Minted, Strategy, StrategyParams
from nonesuch_worker.strategies.registry import strategy

Scalar = TypeVar("Scalar", bound=np.generic)


class Minter:
    """Mints tickets with the generators that one worker hosts. Blocks the calling thread; not safe to share.

    A ticket is cut into micro-batches of `micro_batch` rows, from its start. The last bits of a sum may depend on how
    many rows are computed together, so workers with the same hardware and the same `micro_batch` make the same bytes.
    """

    def __init__(self, generators: Sequence[Generator], micro_batch: int | None = None) -> None:
        """`micro_batch` is in rows; None takes a ticket whole. Raises `InvalidValue` for what cannot work."""
        if micro_batch is not None and micro_batch < 1:
            raise InvalidValue(f"micro_batch {micro_batch} must be at least 1 row", field="micro_batch")
        ids = [g.info.id for g in generators]
        if not ids or len(set(ids)) < len(ids):
            raise InvalidValue(f"a worker hosts at least one generator, each under its own id, not {ids}")
        if len({g.device for g in generators}) > 1:
            raise InvalidValue(f"a worker's generators are on one device, not {[str(g.device) for g in generators]}")
        self._generators = {g.info.id: g for g in generators}
        self._micro_batch = micro_batch

    def mint(
        self, ticket: Ticket, classifier: nn.Module | None = None, snapshot_version: int | None = None
    ) -> pa.RecordBatch:
        """Make a ticket.

        Args:
            ticket: what to make.
            classifier: the order's snapshot, if it names one: images (B, C, H, W) in [-1, 1] to logits (B, K); on the
                generators' device, in eval mode, its weights frozen.
            snapshot_version: its version.

        Returns:
            A batch of `nonesuch.schema`, in the order of the indices. It has fewer rows than the ticket where the
            strategy could not fill some.

        Raises:
            GeneratorNotFound: the order names a generator that is not hosted here.
            InvalidOrder: the order cannot be filled by any worker; trying again will not help.
        """
        order = ticket.order
        generators = self._of(order)
        chosen, params = _strategy_of(order)
        if chosen.needs_snapshot and classifier is None:
            raise InvalidOrder(f"strategy {order.strategy!r} needs a snapshot and order {order.id} names none")
        labels = _labels_of(ticket, classes=len(generators[0].info.class_names))
        step = self._micro_batch or len(labels)
        parts = []
        with torch.no_grad():
            for start in range(0, len(labels), step):
                context = MintContext(
                    seed=order.seed,
                    indices=ticket.indices[start : start + step],
                    labels=labels[start : start + step],
                    generators=generators,
                    params=params,
                    classifier=classifier,
                    snapshot_version=snapshot_version,
                    device=generators[0].device,
                )
                parts.append(chosen.mint(context))
        return make_batch(
            _rows(parts, params, snapshot_version if chosen.needs_snapshot else None),
            order=order.id,
            seed=order.seed,
            strategy=order.strategy,
            generators=[g.info for g in generators],
        )

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


def _labels_of(ticket: Ticket, *, classes: int) -> NDArray[np.int32]:
    """(B,) of the ticket's indices. A label that a generator does not know would stop a GPU for good."""
    labels = ticket.order.labels.of(ticket.indices)
    if labels.max() >= classes:
        raise InvalidOrder(f"class {labels.max()} is unknown: classes are 0 to {classes - 1}", field="labels")
    return labels


def _rows(parts: Sequence[Minted], params: StrategyParams, snapshot: int | None) -> Rows:
    return Rows(
        images=np.concatenate([p.images for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        indices=np.concatenate([p.indices for p in parts]),
        generator=np.concatenate([p.generator for p in parts]),
        sigma=params.sigma,
        truncation=params.truncation,
        snapshot=snapshot,
        score=_joined([p.score for p in parts]),
        z=_joined([p.z for p in parts]),
    )


def _joined(columns: Sequence[NDArray[Scalar] | None]) -> NDArray[Scalar] | None:
    """One column from the micro-batches', or None where the strategy fills none."""
    given = [c for c in columns if c is not None]
    assert len(given) in (0, len(columns)), "a strategy fills a column in every micro-batch or in none"
    return np.concatenate(given) if given else None
