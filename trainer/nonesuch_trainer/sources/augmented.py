"""Real images with minted ones on top (Ravuri & Vinyals 2019): the real ones stay, the minted ones may be renewed."""

import threading
from typing import Self

import torch

from nonesuch.errors import InvalidValue
from nonesuch.link import Link
from nonesuch.link.patience import Say
from nonesuch.smoothed.resident import PERMANENT, ResidentDataset
from nonesuch.smoothed.source import OnProgress
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.settings.datasets import Augmented
from nonesuch_trainer.sources.minted import MintedSource
from nonesuch_trainer.sources.real import RealSource
from nonesuch_trainer.sources.source import First, Renewal


class AugmentedSource:
    """A `Source` of real and of minted images; its replacement fraction r is of the minted ones.

    Raises what `RealSource` and `MintedSource` raise, and `InvalidValue` when their images do not belong together.
    """

    def __init__(
        self, dataset: Augmented, link: Link, *, name: str, seed: int, stop: threading.Event, say: Say
    ) -> None:
        self._real = RealSource(dataset.real, seed=seed)
        self._minted = MintedSource(dataset.minted, link, name=name, seed=seed, stop=stop, say=say)
        real, minted = self._real.facts, self._minted.facts
        if real.class_names == minted.class_names and real.image_shape != minted.image_shape:
            raise InvalidValue(
                f"images {minted.image_shape} cannot augment real ones, {real.image_shape}: set "
                f"dataset.real.image_shape to {list(minted.image_shape)}, and they are fitted to it",
                field="dataset.real.image_shape",
            )
        if real.class_names != minted.class_names:
            raise InvalidValue(
                f"images of {', '.join(minted.class_names[:3])}, … cannot augment real ones of "
                f"{', '.join(real.class_names[:3])}, …: choose a generator of the same classes",
                field="dataset.minted.generators",
            )
        self.facts = Facts(
            image_shape=real.image_shape,
            class_names=real.class_names,
            classes=tuple(sorted({*real.classes, *minted.classes})),
            ledger=real.ledger.plus(*minted.ledger.uses),
            origins=minted.origins,
            real=real.real,
        )

    def __enter__(self) -> Self:
        self._minted.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._minted.__exit__(*exc)

    @property
    def renewal(self) -> Renewal | None:
        return self._minted.renewal

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        minted, tally = self._minted.first_images(on_progress)
        real = ResidentDataset.of(self._real.images, device, birth=PERMANENT)
        return First(real.extended(minted, birth=0), tally)
