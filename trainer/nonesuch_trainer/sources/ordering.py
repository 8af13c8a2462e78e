"""Which orders a run places: functions of its config, its generators, and where it is. No I/O.

An order belongs to the epoch that learns from its images first, its `birth`: order `<ring>-0-0` fills the dataset,
`<ring>-3-0` brings what is fresh in epoch 3 (epochs are counted from 0; Alg. 1 counts its steps instead). Content
depends on seed, birth, part, the snapshot and, with quotas, on the errors of the classes.
"""

import socket
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import JsonValue

from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced, Labels, Quota, resolve_classes
from nonesuch.offers import Catalog, GeneratorInfo
from nonesuch.orders import Order, SnapshotRef, check_order, default_ticket_size
from nonesuch.rings import RingSpec
from nonesuch.schema import batch_bytes
from nonesuch.seeds import key
from nonesuch_trainer.settings.config import Collected, Minted, Recipe, TrainConfig
from nonesuch_trainer.sources.class_quotas import quota


class Ordering:
    """The orders of one run.

    Raises what `Catalog.generator` raises, and `InvalidOrder` for a class that the generators do not have.
    """

    def __init__(self, config: TrainConfig, catalog: Catalog) -> None:
        assert isinstance(config.dataset, Minted | Collected)
        self._config = config
        self._dataset = config.dataset
        self._strategies = catalog.strategies
        self.generators: tuple[GeneratorInfo, ...] = tuple(catalog.generator(g) for g in self._dataset.generators)
        self.classes = resolve_classes(self._dataset.classes, self.generators[0].class_names)
        self.name = service_name(config)
        self.teacher: SnapshotRef | None = None
        """What every order names, if the config has a teacher."""
        channels = [self.name]
        if self._dataset.teacher is not None:
            self.teacher = SnapshotRef(channel=f"{self.name}-teacher", version=0)
            channels.append(self.teacher.channel)
        self._ticket_size = self._dataset.ticket_size or default_ticket_size(self.generators[0].image_shape)
        self.ring = RingSpec(
            name=self.name,
            slots=self._dataset.ring_slots,
            slot_bytes=max(1024, *(batch_bytes(g, self._ticket_size) for g in self.generators)),
            channels=tuple(channels),
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
            for birth in {1, *(recipe.from_epoch for recipe in self._dataset.fresh)}:
                for order in self._orders(self._dataset.fresh, images, birth=birth, version=0):
                    check_order(order, catalog)

    def first(self) -> tuple[Order, ...]:
        """The order that fills the dataset; a strategy that needs a snapshot gets version 0."""
        return self._orders((self._dataset.first,), self._dataset.first_images, birth=0, version=0)

    def fresh(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> tuple[Order, ...]:
        """The orders for what is fresh in epoch `birth`, aimed at snapshot `version`: one for each recipe that gets
        an image. `errors` in [0, 1] by label set the quotas, where the config has them; None is none known."""
        count = self._dataset.fresh_images(birth)
        if self._dataset.quotas is None or errors is None:
            return self._orders(self._dataset.fresh, count, birth=birth, version=version)
        classes = sorted(set(self.classes))
        counts = quota(count, [errors.get(label, 0.0) for label in classes], self._dataset.quotas.strength)
        wanted = Quota(counts=dict(zip(classes, counts, strict=True)))
        return self._orders(self._dataset.fresh, count, birth=birth, version=version, wanted=wanted)

    def _orders(
        self, recipes: Sequence[Recipe], count: int, *, birth: int, version: int, wanted: Quota | None = None
    ) -> tuple[Order, ...]:
        orders = []
        placed = 0
        for part, (recipe, images) in enumerate(zip(recipes, divide(count, [r.share for r in recipes]), strict=True)):
            strategy, params = self._strategy(recipe, birth)
            order = Order(
                id=f"{self.name}-{birth}-{part}",
                generators=self._dataset.generators,
                strategy=strategy,
                params=params,
                labels=self._labels(birth, placed, images, wanted),
                count=images,
                seed=key(self._config.seed, "images", birth, part),
                snapshot=self._aim(strategy, version),
                teacher=self.teacher,
                sink=self.name,
                ticket_size=self._ticket_size,
            )
            orders.append(order)
            placed += images
        return tuple(orders)

    def _strategy(self, recipe: Recipe, birth: int) -> tuple[str, dict[str, JsonValue]]:
        """Name and parameters of what a recipe stands for in an epoch."""
        at_random = "mixture" if len(self.generators) > 1 else "random"
        name, params = recipe.strategy or at_random, dict(recipe.params)
        if birth < recipe.from_epoch:
            known = self._strategies.get(at_random)
            shared: Mapping[str, Any] = known.schema_.get("properties", {}) if known else {}
            name, params = at_random, {param: value for param, value in params.items() if param in shared}
        if self._dataset.labels == "soft":
            params["soft_labels"] = True
        return name, params

    def _labels(self, birth: int, placed: int, images: int, wanted: Quota | None) -> Labels:
        """Of an order that comes after `placed` images of the same epoch: its part of the quota, or the classes in
        turn, going on where the last order left off."""
        if wanted is not None:
            of_part = wanted.of(np.arange(placed, placed + images))
            return Quota(counts={label: int((of_part == label).sum()) for label in wanted.used})
        before = birth * self._dataset.step if isinstance(self._dataset, Collected) else 0
        turn = (before + placed) % len(self.classes)
        return Balanced(classes=self.classes[turn:] + self.classes[:turn])

    def _aim(self, strategy: str, version: int) -> SnapshotRef | None:
        known = self._strategies.get(strategy)
        needed = known is not None and known.needs_snapshot
        return SnapshotRef(channel=self.name, version=version) if needed else None


def service_name(config: TrainConfig) -> str:
    """What a run is called in the service: by its name and its folder, so that runs of one name do not meet there."""
    place = f"{socket.gethostname()}:{config.folder.resolve()}"
    return f"{config.run}-{sha256(place.encode()).hexdigest()[:8]}"


def divide(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole parts in proportion to the shares; they add up, and each is at least 1 (total ≥ parts)."""
    bounds = [0]
    for i in range(1, len(shares) + 1):
        ideal = round(total * sum(shares[:i]) / sum(shares))
        bounds.append(min(max(ideal, bounds[-1] + 1), total - (len(shares) - i)))
    return [stop - start for start, stop in pairwise(bounds)]
