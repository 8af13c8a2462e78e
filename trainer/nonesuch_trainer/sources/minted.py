"""Images from the service: what a run orders, and what comes."""

import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Self

import torch
from torch import nn

from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.ledger import Ledger
from nonesuch.link.connection import Link
from nonesuch.link.patience import Patience, Say
from nonesuch.offers import ledger_of_generators
from nonesuch.orders import wait_for_workers
from nonesuch.smoothed.intake import Intake
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch.smoothed.supply import OnProgress, Supply
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tally import Tally
from nonesuch_trainer.learning.published import snapshot
from nonesuch_trainer.settings.config import Collected, Minted, TrainConfig, Wait
from nonesuch_trainer.sources.ordering import Ordering
from nonesuch_trainer.sources.source import Facts, First, Fresh, Smoothing
from nonesuch_trainer.sources.teacher import read_teacher


class MintedSource:
    """A `Source` that places orders.

    Raises, when it is made, `Unreachable` at once, `NoWorkers` after `outage_s`, `GeneratorNotFound`, `InvalidOrder`
    for whatever the run would order in vain, and what `read_teacher` raises.
    """

    def __init__(self, config: TrainConfig, link: Link, *, stop: threading.Event, say: Say) -> None:
        assert isinstance(config.dataset, Minted | Collected)
        self._config, self._dataset = config, config.dataset
        link.ping()
        patience = Patience(link, outage_s=self._dataset.outage_s, stop=stop, say=say)
        catalog = patience.run(partial(wait_for_workers, link.keys))
        self._ordering = Ordering(config, catalog)
        self._ordering.check(catalog)
        self._teacher: tuple[SnapshotHeader, bytes] | None = None
        if self._dataset.teacher is not None and self._ordering.teacher is not None:
            self._teacher = patience.run(
                partial(read_teacher, link.keys, self._dataset.teacher, self._ordering.teacher)
            )
        self._supply = Supply(patience, self._ordering.ring, stop)
        self._intake: Intake | None = None
        self.staleness, self.victims = self._dataset.staleness, self._dataset.victims
        self.facts = self._facts()

    def __enter__(self) -> Self:
        try:
            self._supply.open()
            if self._teacher is not None:
                self._supply.publish(*self._teacher)
        except BaseException:
            self._supply.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._supply.close()

    @property
    def smoothing(self) -> Smoothing | None:
        return self if self._dataset.replacement > 0 else None

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        images, tally = self.first_images(on_progress)
        return First(ResidentDataset.of(images, device), tally)

    def first_images(self, on_progress: OnProgress) -> tuple[LabelledImages, Tally]:
        """What the run begins with. Blocks until it is there.

        Raises `OrderFailed` when the strategy could not make every image.
        """
        self._intake = intake = Intake(self._ordering.first(), self.facts.image_shape, 0, self._soft_labels)
        self._supply.place(intake)
        late = self._dataset.late
        self._supply.collect(late if isinstance(late, Wait) else Wait(), on_progress)
        if short := intake.short:
            lacking = ", ".join(f"{self.facts.class_names[label]} {n}" for label, n in short.most_common(10))
            raise OrderFailed(
                f"the first dataset lacks {short.total()} of {intake.wanted} images that strategy "
                f"{intake.orders[0].strategy!r} could not make ({lacking}): let dataset.first be less choosy, or leave "
                "these classes out"
            )
        return intake.collected(), intake.tally

    def publish(self, model: nn.Module, *, epoch: int, step: int, ledger: Ledger) -> None:
        header, payload = snapshot(
            model, self._config, self.facts, ledger, channel=self._ordering.name, version=epoch, step=step
        )
        self._supply.publish(header, payload)

    def order(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> None:
        orders = self._ordering.fresh(birth, version, errors)
        self._intake = Intake(orders, self.facts.image_shape, version, self._soft_labels)
        self._supply.place(self._intake)

    def poll(self) -> None:
        self._supply.poll()

    def collect(self, version: int, on_progress: OnProgress) -> Fresh:
        """Raises `IntegrityError` when a batch is older than the run's staleness allows."""
        intake = self._intake
        assert intake is not None, "order comes first"
        started = time.monotonic()
        self._supply.collect(self._dataset.late, on_progress)
        age = None if intake.oldest_version is None else version - intake.oldest_version
        if age is not None and age > self.staleness:
            raise IntegrityError(
                f"a batch was aimed at snapshot {intake.oldest_version} and the trainer is at {version}: older than "
                f"dataset.staleness {self.staleness} allows"
            )
        return Fresh(
            images=intake.collected(),
            ordered=intake.wanted,
            short=intake.short.total(),
            age=age,
            mint_s=intake.last_at - intake.placed_at,
            wait_s=time.monotonic() - started,
            tally=intake.tally,
        )

    @property
    def _soft_labels(self) -> int | None:
        return len(self.facts.class_names) if self._dataset.labels == "soft" else None

    def _facts(self) -> Facts:
        info = self._ordering.generators[0]
        ledger = ledger_of_generators(self._ordering.generators)
        origins = {f"generator {g.id!r}": g.sha256 for g in self._ordering.generators}
        if self._teacher is not None:
            header, _ = self._teacher
            ledger = ledger.plus(*header.ledger.through("teacher"))
            origins["the teacher"] = header.sha256
        return Facts(
            image_shape=info.image_shape,
            class_names=info.class_names,
            classes=tuple(sorted(set(self._ordering.classes))),
            ledger=ledger,
            origins=origins,
        )
