"""What a `SmoothedDataset` is to hold, and the orders that follow from it: functions of the settings alone. No I/O."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from nonesuch.labels import Balanced, resolve_classes
from nonesuch.model import Frozen, Name
from nonesuch.offers import Catalog, GeneratorInfo
from nonesuch.orders import Order, Seed, SnapshotRef, check_order, default_ticket_size
from nonesuch.seeds import key
from nonesuch.smoothed.resident import Victims


class Smoothing(Frozen):
    """Dataset smoothing (Besnier et al. 2019, Alg. 2): N images, r·N of which are fresh in every epoch."""

    size: int = Field(ge=2, le=10_000_000)
    """N, in images."""
    replace: float = Field(ge=0, le=1)
    """r: 0 is a fixed dataset, 1 continuous sampling."""
    mined: float = Field(ge=0, le=1)
    """The share of the fresh images that are mined; the others are drawn at random."""
    generator: Name | None
    classes: tuple[str | int, ...] | None
    strategy: Name
    """Of the mined images."""
    params: dict[str, JsonValue]
    """Of that strategy."""
    random_params: dict[str, JsonValue]
    """Of the strategy `random`, which makes all the other images."""
    staleness: Literal[0, 1]
    victims: Victims
    seed: Seed

    @property
    def fresh(self) -> int:
        """Images that are replaced in an epoch: r·N, rounded."""
        return round(self.replace * self.size)

    @property
    def aimed(self) -> int:
        """How many of these are mined."""
        return round(self.mined * self.fresh)

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Self:
        if self.replace > 0 and self.fresh == 0:
            raise ValueError(
                f"replace {self.replace:g} of size {self.size} is not a single image: raise either, or set replace to "
                "0 for a fixed dataset"
            )
        return self


class Orders:
    """The orders of one dataset, from one generator. Raises `InvalidOrder` for a class that it does not have."""

    def __init__(self, settings: Smoothing, info: GeneratorInfo) -> None:
        self.info = info
        self.classes = tuple(sorted(set(resolve_classes(settings.classes, info.class_names))))
        self.ticket_size = default_ticket_size(info.image_shape)
        self._settings = settings

    def check(self, catalog: Catalog) -> None:
        """Refuse now what would be refused in the midst of the training. Raises what `check_order` raises."""
        for epoch in (0, 1):
            for order in self.of(epoch, "check", "check", SnapshotRef(version=0)):
                check_order(order, catalog)

    def of(self, epoch: int, name: str, sink: str, snapshot: SnapshotRef | None) -> tuple[Order, ...]:
        """All N images for epoch 0, at random. For a later one those that are fresh in it: the mined ones, aimed at the
        snapshot, and the others.

        Args:
            epoch: the first one that learns from them.
            name: what the ids of the orders start with.
            sink: the ring that they go to.
            snapshot: what is mined against; None only if nothing is mined.
        """
        wanted = self._settings
        aimed, total = (wanted.aimed, wanted.fresh) if epoch else (0, wanted.size)
        mined = (aimed, wanted.strategy, wanted.params, snapshot)
        drawn = (total - aimed, "random", wanted.random_params, None)
        orders, placed = [], 0
        for part, (count, strategy, params, aim) in enumerate(some for some in (mined, drawn) if some[0]):
            turn = placed % len(self.classes)  # the classes go on where the last part left off
            orders.append(
                Order(
                    id=f"{name}-{part}",
                    generators=(self.info.id,),
                    strategy=strategy,
                    params=params,
                    labels=Balanced(classes=self.classes[turn:] + self.classes[:turn]),
                    count=count,
                    seed=key(wanted.seed, "images", epoch, part),
                    snapshot=aim,
                    sink=sink,
                    ticket_size=self.ticket_size,
                )
            )
            placed += count
        return tuple(orders)
