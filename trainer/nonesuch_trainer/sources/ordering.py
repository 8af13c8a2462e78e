"""What a run orders: the parts of each epoch's images, by its settings, its generators and how far it is. No I/O.

`nonesuch.smoothed.orders` makes the orders of these parts. Order `<ring>-0-0` fills the dataset, `<ring>-3-0` brings
what is fresh in epoch 3 (epochs are counted from 0; Alg. 1 counts its steps instead).
"""

import socket
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from nonesuch.errors import InvalidOrder
from nonesuch.labels import Quota, resolve_classes
from nonesuch.offers import Catalog, GeneratorInfo
from nonesuch.orders import Order, SnapshotRef, check_order
from nonesuch.rings import RingSpec
from nonesuch.smoothed.orders import DatasetOrders, Part
from nonesuch_trainer.settings.datasets import Collected, Minted, Portion
from nonesuch_trainer.sources.class_quotas import quota


class Ordering:
    """The orders of one run.

    Args:
        dataset: what it learns from.
        catalog: what could be had when it was started.
        name: the run's in the service (`service_name`): its ring, its channel, and what its orders' ids begin with.
        seed: of every random number in its images.

    Raises what `Catalog.generator` raises, and `InvalidOrder` for a class that the generators do not have.
    """

    def __init__(self, dataset: Minted | Collected, catalog: Catalog, *, name: str, seed: int) -> None:
        self.name, self._dataset, self._strategies = name, dataset, catalog.strategies
        self.generators: tuple[GeneratorInfo, ...] = tuple(catalog.generator(g) for g in dataset.generators)
        self.classes = resolve_classes(dataset.classes, self.generators[0].class_names)
        self.teacher: SnapshotRef | None = None
        """The teacher's snapshot, which every order names; None if the run has no teacher."""
        channels = [name]
        if dataset.teacher is not None:
            self.teacher = SnapshotRef(channel=f"{name}-teacher", version=0)
            channels.append(self.teacher.channel)
        self._orders = DatasetOrders(
            self.generators, self.classes, seed=seed, teacher=self.teacher, ticket_size=dataset.ticket_size
        )
        self.ring = RingSpec(
            name=name, slots=dataset.ring_slots, slot_bytes=self._orders.slot_bytes, channels=tuple(channels)
        )
        """The run's ring. Its channels of snapshots, the teacher's included, go with it."""

    def check(self, catalog: Catalog) -> None:
        """Refuse at the start what would be refused in the midst of the run. Raises what `check_order` raises."""
        for order in self.first():
            check_order(order, catalog)
            if order.snapshot is not None and self._dataset.replacement == 0:
                raise InvalidOrder(
                    f"dataset.first is made by {order.strategy!r}, which aims at a classifier, and there is none yet: "
                    "make it at random",
                    field="dataset.first",
                )
        if images := self._dataset.fresh_images(1):
            for birth in {1, *(portion.from_epoch for portion in self._dataset.fresh)}:
                for order in self._of(self._dataset.fresh, images, birth=birth, version=0):
                    check_order(order, catalog)

    def first(self) -> tuple[Order, ...]:
        """The order that fills the dataset; a strategy that needs a snapshot gets version 0."""
        return self._of((self._dataset.first,), self._dataset.first_images, birth=0, version=0)

    def fresh(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> tuple[Order, ...]:
        """The orders for what is fresh in epoch `birth`, aimed at snapshot `version`: one for each portion that gets
        an image. `errors` in [0, 1] by label set the class quotas, where the run has them; None is none known."""
        count = self._dataset.fresh_images(birth)
        wanted = None
        if self._dataset.quotas is not None and errors is not None:
            classes = tuple(dict.fromkeys(self._orders.turns(birth)))  # among equals, the draw decides
            counts = quota(count, [errors.get(label, 0.0) for label in classes], self._dataset.quotas.strength)
            wanted = Quota(counts=dict(zip(classes, counts, strict=True)))
        return self._of(self._dataset.fresh, count, birth=birth, version=version, wanted=wanted)

    def _of(
        self, portions: Sequence[Portion], count: int, *, birth: int, version: int, wanted: Quota | None = None
    ) -> tuple[Order, ...]:
        divided = zip(portions, divide(count, [portion.share for portion in portions]), strict=True)
        return self._orders.of(
            birth,
            [self._part(portion, images, birth) for portion, images in divided],
            name=f"{self.name}-{birth}",
            sink=self.name,
            aim=SnapshotRef(channel=self.name, version=version),
            before=birth * self._dataset.step if isinstance(self._dataset, Collected) else None,
            quota=wanted,
        )

    def _part(self, portion: Portion, images: int, birth: int) -> Part:
        """What a portion stands for in an epoch."""
        at_random = "mixture" if len(self.generators) > 1 else "random"
        name, params = portion.strategy or at_random, dict(portion.params)
        if birth < portion.from_epoch:
            known = self._strategies.get(at_random)
            shared: Mapping[str, Any] = known.schema_.get("properties", {}) if known else {}
            name, params = at_random, {param: value for param, value in params.items() if param in shared}
        if self._dataset.labels == "soft":
            params["soft_labels"] = True
        strategy = self._strategies.get(name)
        return Part(images, name, params, aimed=strategy is not None and strategy.needs_snapshot)


def service_name(run: str, folder: Path) -> str:
    """What a run is called in the service: by its name and its folder, so that runs of one name do not meet there."""
    place = f"{socket.gethostname()}:{folder.resolve()}"
    return f"{run}-{sha256(place.encode()).hexdigest()[:8]}"


def divide(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole parts in proportion to the shares; they add up, and each is at least 1 (total ≥ parts)."""
    bounds = [0]
    for i in range(1, len(shares) + 1):
        ideal = round(total * sum(shares[:i]) / sum(shares))
        bounds.append(min(max(ideal, bounds[-1] + 1), total - (len(shares) - i)))
    return [stop - start for start, stop in pairwise(bounds)]
