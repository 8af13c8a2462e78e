"""Images from the service: what a run orders, and what comes."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Self

import torch

from nonesuch.classifiers.published import Snapshot
from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.link import Link
from nonesuch.link.patience import Say
from nonesuch.offers import ledger_of_generators
from nonesuch.orders import Order
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch.smoothed.settings import Wait
from nonesuch.smoothed.source import OnProgress
from nonesuch.smoothed.supply import Supply, reach
from nonesuch.tally import Tally
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.settings.datasets import Collected, Minted
from nonesuch_trainer.sources.ordering import Ordering
from nonesuch_trainer.sources.source import First, Fresh, Renewal
from nonesuch_trainer.sources.teacher import read_teacher


class MintedSource:
    """A `Source` of minted images, which it places orders for.

    Args:
        dataset: what is ordered.
        link: to the service's Redis.
        name: the run's in the service (`ordering.service_name`).
        seed: of every random number in its images.
        stop: ends every wait when it is set.
        say: is told what is waited for.

    Raises, when it is made, `Unreachable` at once, `NoWorkers` after `outage_s`, `GeneratorNotFound`, `InvalidOrder`
    for whatever the run would order in vain, and what `read_teacher` raises.
    """

    def __init__(
        self, dataset: Minted | Collected, link: Link, *, name: str, seed: int, stop: threading.Event, say: Say
    ) -> None:
        self._dataset = dataset
        patience, catalog = reach(link, outage_s=dataset.outage_s, stop=stop, say=say)
        self._ordering = Ordering(dataset, catalog, name=name, seed=seed)
        self._ordering.check(catalog)
        self._teacher: Snapshot | None = None
        if dataset.teacher is not None and self._ordering.teacher is not None:
            self._teacher = patience.run(partial(read_teacher, link.keys, dataset.teacher, self._ordering.teacher))
        self._supply = Supply(patience, self._ordering.ring, stop)
        self.staleness, self.victims = dataset.staleness, dataset.victims
        self.facts = self._facts()

    def __enter__(self) -> Self:
        try:
            self._supply.open()
            if self._teacher is not None:
                self._supply.publish(self._teacher)
        except BaseException:
            self._supply.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._supply.close()

    @property
    def renewal(self) -> Renewal | None:
        return self if self._dataset.replacement > 0 else None

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        images, tally = self.first_images(on_progress)
        return First(ResidentDataset.of(images, device), tally)

    def first_images(self, on_progress: OnProgress) -> tuple[LabelledImages, Tally]:
        """The images that the run begins with. Blocks until they are there.

        Raises `OrderFailed` when the strategy could not make every image.
        """
        orders, late = self._ordering.first(), self._dataset.late
        self._place(orders, version=0)
        came = self._supply.collect(late if isinstance(late, Wait) else Wait(), on_progress)
        if short := came.short:
            lacking = ", ".join(f"{self.facts.class_names[label]} {n}" for label, n in short.most_common(10))
            raise OrderFailed(
                f"the first dataset lacks {short.total()} of {came.ordered} images that strategy "
                f"{orders[0].strategy!r} could not make ({lacking}): let dataset.first be less choosy, or leave "
                "these classes out"
            )
        return came.images, came.tally

    def publish(self, snapshot: Snapshot) -> None:
        header = snapshot.header.model_copy(update={"channel": self._ordering.name})
        self._supply.publish(replace(snapshot, header=header))

    def order(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> None:
        self._place(self._ordering.fresh(birth, version, errors), version=version)

    def poll(self) -> None:
        self._supply.poll()

    def collect(self, version: int, on_progress: OnProgress) -> Fresh:
        """The images that were ordered last (see `Renewal.collect`).

        Raises `IntegrityError` when a batch is older than the run's staleness allows.
        """
        came = self._supply.collect(self._dataset.late, on_progress)
        age = None if came.oldest_version is None else version - came.oldest_version
        if age is not None and age > self.staleness:
            raise IntegrityError(
                f"a batch was aimed at snapshot {came.oldest_version} and the trainer is at {version}: older than "
                f"dataset.staleness {self.staleness} allows"
            )
        return Fresh(came, age)

    def _place(self, orders: tuple[Order, ...], *, version: int) -> None:
        soft = len(self.facts.class_names) if self._dataset.labels == "soft" else None
        self._supply.place(orders, self.facts.image_shape, version=version, soft_labels=soft)

    def _facts(self) -> Facts:
        info = self._ordering.generators[0]
        ledger = ledger_of_generators(self._ordering.generators)
        origins = {f"generator {g.id!r}": g.sha256 for g in self._ordering.generators}
        if self._teacher is not None:
            ledger = ledger.plus(*self._teacher.header.ledger.through("teacher"))
            origins["the teacher"] = self._teacher.header.sha256
        return Facts(
            image_shape=info.image_shape,
            class_names=info.class_names,
            classes=tuple(sorted(set(self._ordering.classes))),
            ledger=ledger,
            origins=origins,
        )
