"""The resident dataset: the images that an epoch learns from, all of them on the trainer's device.

Legend: N images in the dataset, n fresh ones, H×W×C pixels, B rows of a batch, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch_trainer.seeds import torch_rng

Victims = Literal["random", "oldest"]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with where they came from, in the order of their orders: however they arrived, they are the same."""

    images: NDArray[np.uint8]
    """(n, H, W, C)"""
    labels: NDArray[np.int32]
    """(n,)"""
    seeds: NDArray[np.int64]
    """(n,) of the order that an image was minted for (0 for real images)"""
    indices: NDArray[np.int64]
    """(n,) places in that order (for real images: in their split)"""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class ResidentDataset:
    """N labelled images; `replace` changes them in place, and how many there are of each class never changes."""

    images: Tensor
    """(N, H, W, C) uint8, on the device"""
    labels: Tensor
    """(N,) int64, on the device"""
    births: Tensor
    """(N,) int32, on the CPU: the first epoch, counted from 0, that learns from a row"""
    seeds: Tensor
    """(N,) int64, on the CPU; with `indices`, what it takes to mint a row again"""
    indices: Tensor
    """(N,) int64, on the CPU"""

    @classmethod
    def of(cls, first: LabelledImages, device: torch.device) -> Self:
        """The dataset of the first epoch."""
        return cls(
            images=torch.from_numpy(first.images).to(device),
            labels=torch.from_numpy(first.labels).long().to(device),
            births=torch.zeros(len(first), dtype=torch.int32),
            seeds=torch.from_numpy(first.seeds),
            indices=torch.from_numpy(first.indices),
        )

    def __len__(self) -> int:
        return len(self.images)

    def replace(
        self, fresh: LabelledImages, *, birth: int, victims: Victims, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Put `fresh` in the place of exactly as many rows of the same classes.

        Args:
            birth: the first epoch that learns from them.
            victims: which rows go: drawn at random, or the oldest (drawn among those of one age).

        Returns:
            (n,) the rows that were replaced, in the order of the fresh images that came in.

        Raises:
            InvalidValue: there are more fresh images of a class than rows to replace.
        """
        labels = self.labels.cpu().numpy()  # (N,)
        preference = rng.permutation(len(labels))  # (N,) rows
        if victims == "oldest":
            preference = preference[np.argsort(self.births.numpy()[preference], kind="stable")]
        preference = preference[np.argsort(labels[preference], kind="stable")]  # by class, then by preference
        have = np.bincount(labels, minlength=int(fresh.labels.max(initial=0)) + 1)  # (K,)
        want = np.bincount(fresh.labels, minlength=len(have))  # (K,)
        if (want > have).any():
            label = int(np.argmax(want - have))
            raise InvalidValue(
                f"{want[label]} fresh images of class {label} cannot replace the {have[label]} in the dataset: "
                "order as many of each class as are there, or fewer"
            )
        starts = np.cumsum(have) - have  # (K,) where each class begins in `preference`
        rows = np.concatenate([preference[start : start + n] for start, n in zip(starts, want, strict=True)])  # (n,)
        order = np.argsort(fresh.labels, kind="stable")  # (n,) fresh images by class, as `rows` are

        on_cpu = torch.from_numpy(rows)
        on_device = on_cpu.to(self.images.device)
        self.images[on_device] = torch.from_numpy(fresh.images[order]).to(self.images.device)
        self.births[on_cpu] = birth
        self.seeds[on_cpu] = torch.from_numpy(fresh.seeds[order])
        self.indices[on_cpu] = torch.from_numpy(fresh.indices[order])
        replaced = np.empty_like(rows)
        replaced[order] = rows
        return replaced

    def batches(self, epoch: int, seed: int, batch_size: int) -> Iterator[Tensor]:
        """The rows of each batch, (B,) int64 on the device: every row once, in the epoch's own order.

        A last batch of a single row is left out: batch norm finds no variance in it.
        """
        rows = torch.randperm(len(self), generator=torch_rng(seed, "shuffle", epoch)).to(self.images.device)
        return (batch for batch in torch.split(rows, batch_size) if len(batch) > 1)

    def steps(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        full, rest = divmod(len(self), batch_size)
        return full + (rest > 1)
