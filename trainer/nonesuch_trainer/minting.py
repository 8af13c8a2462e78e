"""Images from the service: what a run orders, and what comes."""

import threading
import time
from functools import partial
from hashlib import sha256
from typing import Self

from torch import nn

from nonesuch.classifiers.snapshot import dump
from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.link import Link
from nonesuch.orders import wait_for_workers
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.config import Minted, TrainConfig, Wait
from nonesuch_trainer.intake import Intake
from nonesuch_trainer.ordering import Ordering
from nonesuch_trainer.patience import Patience, Say
from nonesuch_trainer.provenance import of_generators
from nonesuch_trainer.resident import LabelledImages
from nonesuch_trainer.source import Facts, Fresh, OnProgress, Smoothing
from nonesuch_trainer.supply import Supply


class MintedSource:
    """A `Source` that places orders.

    Raises, when it is made, `Unreachable` at once, `NoWorkers` after `outage_s`, `GeneratorNotFound`, `InvalidOrder`.
    """

    def __init__(self, config: TrainConfig, link: Link, *, stop: threading.Event, say: Say) -> None:
        assert isinstance(config.dataset, Minted)
        self._config, self._dataset = config, config.dataset
        link.ping()
        patience = Patience(link, outage_s=self._dataset.outage_s, stop=stop, say=say)
        self._ordering = Ordering(config, patience.run(partial(wait_for_workers, link.keys)))
        self._supply = Supply(patience, self._ordering.ring, stop)
        self._intake: Intake | None = None
        info = self._ordering.generators[0]
        self.staleness, self.victims = self._dataset.staleness, self._dataset.victims
        self.facts = Facts(
            image_shape=info.image_shape,
            class_names=info.class_names,
            classes=tuple(sorted(self._ordering.classes)),
            provenance=of_generators(self._ordering.generators),
            origins={g.id: g.sha256 for g in self._ordering.generators},
        )

    def __enter__(self) -> Self:
        try:
            self._supply.open()
        except BaseException:
            self._supply.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._supply.close()

    @property
    def smoothing(self) -> Smoothing | None:
        return self if self._dataset.replacement > 0 else None

    def first(self, on_progress: OnProgress) -> LabelledImages:
        """Raises `OrderFailed` when the strategy could not fill every image."""
        intake = Intake(self._ordering.first(), self.facts.image_shape, version=0)
        self._supply.place(intake)
        late = self._dataset.late
        self._supply.collect(late if isinstance(late, Wait) else Wait(), on_progress)
        if intake.received < intake.wanted:
            raise OrderFailed(
                f"the first dataset lacks {intake.wanted - intake.received} of {intake.wanted} images that strategy "
                f"{self._dataset.first.strategy!r} could not make: let dataset.first be less choosy"
            )
        return intake.collected()

    def publish(self, model: nn.Module, *, epoch: int, step: int) -> None:
        payload = dump(model)
        header = SnapshotHeader(
            channel=self._ordering.name,
            version=epoch,
            architecture=self._config.classifier.architecture,
            args=self._config.classifier.args,
            image_shape=self.facts.image_shape,
            classes=len(self.facts.class_names),
            mean=self._config.normalisation.mean,
            std=self._config.normalisation.std,
            epoch=epoch,
            step=step,
            sha256=sha256(payload).hexdigest(),
        )
        self._supply.publish(header, payload)

    def order(self, birth: int, version: int) -> None:
        self._intake = Intake(self._ordering.fresh(birth, version), self.facts.image_shape, version)
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
            age=age,
            mint_s=intake.last_at - intake.placed_at,
            wait_s=time.monotonic() - started,
        )
