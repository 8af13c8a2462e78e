"""Which orders a run places: functions of its config, its generators, and where it is. No I/O.

An order belongs to the epoch that learns from its images first, its `birth`: order `<ring>-0-0` fills the dataset,
`<ring>-3-0` brings what is fresh in epoch 3 (epochs are counted from 0). Content depends on seed, birth and part alone.
"""

import socket
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

from nonesuch.catalog import Catalog, GeneratorInfo
from nonesuch.labels import Balanced, resolve_classes
from nonesuch.orders import Order, SnapshotRef, default_ticket_size
from nonesuch.rings import RingSpec
from nonesuch.schema import batch_bytes
from nonesuch_trainer.config import Minted, Recipe, TrainConfig
from nonesuch_trainer.seeds import key


class Ordering:
    """The orders of one run.

    Raises what `Catalog.generator` raises, and `InvalidOrder` for a class that the generators do not have.
    """

    def __init__(self, config: TrainConfig, catalog: Catalog) -> None:
        assert isinstance(config.dataset, Minted)
        self._config = config
        self._dataset = config.dataset
        self._strategies = catalog.strategies
        self.generators: tuple[GeneratorInfo, ...] = tuple(catalog.generator(g) for g in self._dataset.generators)
        self.classes = resolve_classes(self._dataset.classes, self.generators[0].class_names)
        self.name = service_name(config)
        self._ticket_size = self._dataset.ticket_size or default_ticket_size(self.generators[0].image_shape)

    @property
    def ring(self) -> RingSpec:
        """The run's ring. Its snapshot channel has the same name, and goes with it."""
        return RingSpec(
            name=self.name,
            slots=self._dataset.ring_slots,
            slot_bytes=max(1024, batch_bytes(self.generators[0], self._ticket_size)),
            channel=self.name,
        )

    def first(self) -> tuple[Order, ...]:
        """The order that fills the dataset; a strategy that needs a snapshot gets version 0."""
        return self._orders((self._dataset.first,), self._dataset.size, birth=0, version=0)

    def fresh(self, birth: int, version: int) -> tuple[Order, ...]:
        """The orders for what is fresh in epoch `birth`, aimed at snapshot `version`: one for each recipe."""
        return self._orders(self._dataset.fresh, self._dataset.fresh_images, birth=birth, version=version)

    def _orders(self, recipes: Sequence[Recipe], count: int, *, birth: int, version: int) -> tuple[Order, ...]:
        orders = []
        placed = 0
        for part, (recipe, images) in enumerate(zip(recipes, divide(count, [r.share for r in recipes]), strict=True)):
            turn = placed % len(self.classes)  # the classes go on where the last order left off
            order = Order(
                id=f"{self.name}-{birth}-{part}",
                generators=self._dataset.generators,
                strategy=recipe.strategy,
                params=recipe.params,
                labels=Balanced(classes=self.classes[turn:] + self.classes[:turn]),
                count=images,
                seed=key(self._config.seed, "images", birth, part),
                snapshot=self._aim(recipe, version),
                sink=self.name,
                ticket_size=self._ticket_size,
            )
            orders.append(order)
            placed += images
        return tuple(orders)

    def _aim(self, recipe: Recipe, version: int) -> SnapshotRef | None:
        known = self._strategies.get(recipe.strategy)
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
