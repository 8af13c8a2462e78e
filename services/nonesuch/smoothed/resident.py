"""The resident dataset: the images that an epoch learns from, all of them on the trainer's device.

Legend: N images in the dataset, n fresh ones, H×W×C pixels, B rows of a batch, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.seeds import torch_rng
from nonesuch.smoothed.settings import Victims

PERMANENT = -1
"""The birth of rows that are never replaced."""
NO_SNAPSHOT = -1
"""What images that were aimed at no snapshot have in the place of its version."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with where they came from, in the order of their orders: however they arrived, they are the same."""

    images: NDArray[np.uint8]
    """(n, H, W, C) the images"""
    labels: NDArray[np.int32]
    """(n,) the labels of the images"""
    seeds: NDArray[np.int64]
    """(n,) seeds of the orders that images were minted for (0 for real images)"""
    indices: NDArray[np.int64]
    """(n,) places of images in their orders (for real images: in their split)"""
    snapshots: NDArray[np.int64]
    """(n,) versions of the snapshots that images were aimed at, or `NO_SNAPSHOT`"""
    soft: NDArray[np.float16] | None = None
    """(n, K) a teacher's probabilities, or None where the labels are all there is"""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class ResidentDataset:
    """N labelled images; `replace` changes them in place."""

    images: Tensor
    """(N, H, W, C) uint8, on the device: the images"""
    labels: Tensor
    """(N,) int64, on the device: the labels of the images"""
    births: Tensor
    """(N,) int32, on the CPU: the first epoch, counted from 0, that learns from a row; `PERMANENT` if it stays"""
    seeds: Tensor
    """(N,) int64, on the CPU: seeds of the orders that rows were minted for"""
    indices: Tensor
    """(N,) int64, on the CPU: places of rows in the orders that they were minted for"""
    snapshots: Tensor
    """(N,) int64, on the CPU: versions of the snapshots that rows were aimed at, or `NO_SNAPSHOT`"""
    soft: Tensor | None = None
    """(N, K) float16, on the device: what to learn in place of the labels, if there is more to it than those"""

    @classmethod
    def of(cls, first: LabelledImages, device: torch.device, birth: int = 0) -> Self:
        """A dataset of images that came together."""
        return cls(
            images=torch.from_numpy(first.images).to(device),
            labels=torch.from_numpy(first.labels).long().to(device),
            births=torch.full((len(first),), birth, dtype=torch.int32),
            seeds=torch.from_numpy(first.seeds),
            indices=torch.from_numpy(first.indices),
            snapshots=torch.from_numpy(first.snapshots),
            soft=None if first.soft is None else torch.from_numpy(first.soft).to(device),
        )

    def __len__(self) -> int:
        return len(self.images)

    def extended(self, more: LabelledImages, birth: int) -> Self:
        """A dataset of its rows, and then of `more`. Where only one of the two has soft labels, the other's are
        certain: 1 for the label."""
        added = ResidentDataset.of(more, self.images.device, birth)
        parts: list[ResidentDataset] = [self, added]
        classes = max((part.soft.shape[1] for part in parts if part.soft is not None), default=0)
        if classes:
            parts = [
                replace(part, soft=F.one_hot(part.labels, classes).half()) if part.soft is None else part
                for part in parts
            ]
        columns: dict[str, Any] = {f.name: [getattr(part, f.name) for part in parts] for f in fields(self)}
        joined: dict[str, Any] = {name: None if two[0] is None else torch.cat(two) for name, two in columns.items()}
        return type(self)(**joined)

    def replace(
        self,
        fresh: LabelledImages,
        *,
        birth: int,
        victims: Victims,
        rng: np.random.Generator,
        keep_balance: bool = True,
    ) -> NDArray[np.int64]:
        """Put `fresh` in the place of exactly as many rows; of rows that are `PERMANENT`, none.

        Args:
            birth: the first epoch that learns from them.
            victims: which rows go: drawn at random, or the oldest (drawn among those of one age).
            keep_balance: rows of the same classes go, so that how many there are of each class does not change. Where
                more of a class come than there are, rows go of the classes that there are most of. Otherwise rows go
                whatever their class.

        Returns:
            (n,) the rows that were replaced, in the order of the fresh images that came in.

        Raises:
            InvalidValue: there are more fresh images than rows to replace.
        """
        births = self.births.numpy()  # (N,)
        preference = rng.permutation(len(births))  # (N,) rows
        if victims == "oldest":
            preference = preference[np.argsort(births[preference], kind="stable")]
        preference = preference[births[preference] != PERMANENT]
        if len(fresh) > len(preference):
            raise InvalidValue(f"{len(fresh)} fresh images cannot replace the {len(preference)} in the dataset")
        if keep_balance:
            rows, order = _keeping_balance(self.labels.cpu().numpy(), preference, fresh.labels)
        else:
            rows, order = preference[: len(fresh)], np.arange(len(fresh))

        device = self.images.device
        on_cpu = torch.from_numpy(rows)
        on_device = on_cpu.to(device)
        self.images[on_device] = torch.from_numpy(fresh.images[order]).to(device)
        self.labels[on_device] = torch.from_numpy(fresh.labels[order]).long().to(device)
        if self.soft is not None:
            assert fresh.soft is not None, "a run's images have soft labels throughout, or not at all"
            self.soft[on_device] = torch.from_numpy(fresh.soft[order]).to(device)
        self.births[on_cpu] = birth
        self.seeds[on_cpu] = torch.from_numpy(fresh.seeds[order])
        self.indices[on_cpu] = torch.from_numpy(fresh.indices[order])
        self.snapshots[on_cpu] = torch.from_numpy(fresh.snapshots[order])
        replaced = np.empty_like(rows)
        replaced[order] = rows
        return replaced

    @property
    def replaceable(self) -> int:
        """How many rows are not `PERMANENT`."""
        return int((self.births != PERMANENT).sum())

    @property
    def shares(self) -> dict[int, float]:
        """The fraction of the rows that are of each class, by label."""
        labels, counts = torch.unique(self.labels, return_counts=True)
        return {label: n / len(self) for label, n in zip(labels.tolist(), counts.tolist(), strict=True)}

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


def _keeping_balance(
    labels: NDArray[np.int64], preference: NDArray[np.int64], fresh: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows, of those in `preference`, that fresh labels (n,) replace: the first of each class, as many as there are
    of these. For those that find none any more, rows go of the classes that have most, so that the counts get nearer
    to each other.

    Returns:
        (n,) rows, and (n,) the fresh images: one each takes the other's place.
    """
    by_class = np.argsort(labels[preference], kind="stable")  # (rows,) places in the preference
    preference = preference[by_class]  # by class, then by preference
    order = np.argsort(fresh, kind="stable")  # by class
    have = np.bincount(labels[preference], minlength=int(fresh.max(initial=0)) + 1)  # (K,)
    want = np.bincount(fresh, minlength=len(have))  # (K,)
    served = np.minimum(want, have)  # (K,)
    same = _rank(have) < served[labels[preference]]  # (rows,) whether a fresh image of its class takes its place
    placed = _rank(want) < served[fresh[order]]  # (n,) whether there is such a row for it
    left = preference[~same]
    height = have[labels[left]] - _rank(have - served)  # (left,) of how many of its class a row is the last one
    others = left[np.lexsort((by_class[~same], -height))][: len(fresh) - int(served.sum())]
    return np.concatenate([preference[same], others]), np.concatenate([order[placed], order[~placed]])


def _rank(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(sum,) the places within their classes, from 0, of items that are sorted by class; counts (K,) are of classes."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
