"""The orders for the images of a smoothed dataset (Besnier et al. 2019, Alg. 2): functions of its settings alone.

One policy for the trainer's runs and for `SmoothedDataset`. No I/O. An order belongs to the epoch that learns from its
images first, their `birth`: 0 fills the dataset, and what is ordered for a later one is fresh in it. Its content
depends on seed, birth, part, the snapshot and, where there is one, the class quota.

Within an epoch the classes take turns, mined images before random ones, so no class has more than one image more than
another: not of the epoch's images, and not of those of a part. Which classes have that one is drawn anew for every
epoch: where a part is no multiple of the classes, a fixed order would mine the first of them for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from nonesuch.labels import Balanced, Labels, Quota
from nonesuch.offers import Catalog, GeneratorInfo
from nonesuch.orders import Order, SnapshotRef, check_order, default_ticket_size
from nonesuch.schema import batch_bytes
from nonesuch.seeds import key, numpy_rng
from nonesuch.smoothed.settings import Smoothing


@dataclass(frozen=True)
class Part:
    """Images of one epoch that are chosen in the same way."""

    count: int
    strategy: str
    params: Mapping[str, JsonValue]
    aimed: bool = False
    """Whether the strategy aims at the classifier's snapshot."""


class DatasetOrders:
    """The orders of one dataset.

    Args:
        generators: whose images it holds; all make images of the same shape and classes.
        classes: labels that occur.
        seed: of every random number in its images.
        teacher: what every order names, if anything.
        ticket_size: in images; None is 64, or as many as fit into a slot.
    """

    def __init__(
        self,
        generators: Sequence[GeneratorInfo],
        classes: Sequence[int],
        *,
        seed: int,
        teacher: SnapshotRef | None = None,
        ticket_size: int | None = None,
    ) -> None:
        self.generators, self.classes = tuple(generators), tuple(classes)
        self.image_shape = self.generators[0].image_shape
        self.class_names = self.generators[0].class_names
        self.ticket_size = ticket_size or default_ticket_size(self.image_shape)
        self._seed, self._teacher = seed, teacher

    @property
    def slot_bytes(self) -> int:
        """The bytes that a slot of the dataset's ring must hold."""
        return max(1024, *(batch_bytes(info, self.ticket_size) for info in self.generators))

    def of(
        self,
        birth: int,
        parts: Sequence[Part],
        *,
        name: str,
        sink: str,
        aim: SnapshotRef | None,
        before: int | None = None,
        quota: Quota | None = None,
    ) -> tuple[Order, ...]:
        """The orders for an epoch's images: one for each part that has any.

        Args:
            birth: the first epoch that learns from them.
            parts: how they are chosen, and how many.
            name: what the ids of the orders start with.
            sink: the ring that they go to.
            aim: the snapshot that aimed parts aim at; None only if there are none.
            before: images that the dataset had before these and keeps: the classes stay balanced over all of them.
                None if these take the place of others.
            quota: images by class of all parts together, in the place of equal shares.
        """
        turns = self.turns(birth) if before is None else self._growing(birth, before, sum(part.count for part in parts))
        orders: list[Order] = []
        placed = 0
        for number, part in enumerate(part for part in parts if part.count):
            orders.append(
                Order(
                    id=f"{name}-{number}",
                    generators=tuple(info.id for info in self.generators),
                    strategy=part.strategy,
                    params=dict(part.params),
                    labels=_labels(turns, placed, part.count, quota),
                    count=part.count,
                    seed=key(self._seed, "images", birth, number),
                    snapshot=aim if part.aimed else None,
                    teacher=self._teacher,
                    sink=sink,
                    ticket_size=self.ticket_size,
                )
            )
            placed += part.count
        return tuple(orders)

    def turns(self, birth: int) -> tuple[int, ...]:
        """The classes in the order in which they take turns in an epoch: a draw of its own for each."""
        return self._drawn(self.classes, birth)

    def _growing(self, birth: int, before: int, count: int) -> tuple[int, ...]:
        """The same for `count` images that come to `before` others. All together the classes take turns in one order,
        so it is settled which of them get an image more of these; the draw is within those, and within the others."""
        order, turn = self.turns(0), before % len(self.classes)
        order, more = order[turn:] + order[:turn], count % len(order)
        return self._drawn(order[:more], birth) + self._drawn(order[more:], birth)

    def _drawn(self, classes: tuple[int, ...], birth: int) -> tuple[int, ...]:
        return tuple(numpy_rng(self._seed, "classes", birth).permutation(np.array(classes, np.int64)).tolist())


def _labels(turns: tuple[int, ...], placed: int, count: int, quota: Quota | None) -> Labels:
    """The labels of an order that comes after `placed` images of the same epoch, whose classes take `turns`."""
    if quota is not None:  # classes are named by their turns meanwhile, which decide among equals
        turn_of = {label: turn for turn, label in enumerate(turns)}
        by_turn = Quota(counts={turn_of[label]: images for label, images in quota.counts.items()})
        of_part = np.bincount(by_turn.of(np.arange(placed, placed + count)), minlength=len(turns))
        return Quota(counts={label: int(of_part[turn_of[label]]) for label in quota.used})
    turn = placed % len(turns)
    return Balanced(classes=turns[turn:] + turns[:turn])


@dataclass(frozen=True)
class Wanted:
    """Images that a dataset is to get for one epoch."""

    orders: DatasetOrders
    birth: int
    parts: tuple[Part, ...]

    @property
    def aimed(self) -> bool:
        """Whether any of the images are aimed at a snapshot."""
        return any(part.aimed and part.count for part in self.parts)

    def placed(self, name: str, sink: str, aim: SnapshotRef | None) -> tuple[Order, ...]:
        """The orders for these images; see `DatasetOrders.of`."""
        return self.orders.of(self.birth, self.parts, name=name, sink=sink, aim=aim)

    def check(self, catalog: Catalog) -> None:
        """Refuse now what would be refused in the midst of a training. Raises what `check_order` raises."""
        for order in self.placed("check", "check", SnapshotRef(version=0)):
            check_order(order, catalog)


def parts_of(smoothing: Smoothing, birth: int) -> tuple[Part, ...]:
    """The parts of an epoch's images: all N at random for epoch 0; for a later one those that are fresh in it, mined
    and at random."""
    if birth == 0:
        return (Part(smoothing.size, "random", smoothing.random_params),)
    mined = Part(smoothing.aimed, smoothing.strategy, smoothing.params, aimed=True)
    return (mined, Part(smoothing.fresh - smoothing.aimed, "random", smoothing.random_params))
