"""Random numbers that are a function of (seed, stream, counter), so that a run keeps no generator state.

An iteration draws the same images, labels and latents whether the run came to it in one go or was resumed before it.
"""

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class RandomStream(IntEnum):
    """What random numbers are for. The values are part of every recipe: never renumber them."""

    INIT = 0
    EPOCH = 1
    LATENTS = 2
    STANDING = 3
    GRID = 4
    METRICS = 5
    AUGMENTATION = 6
    CONSISTENCY = 7


def generator_for(seed: int, stream: RandomStream, counter: int = 0) -> torch.Generator:
    """A fresh torch generator for this (seed, stream, counter)."""
    state = np.random.SeedSequence([seed, int(stream), counter]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def draw_latents(
    count: int, z_dim: int, classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:  # (count, z_dim) float32, (count,) int64
    """Latents z ~ N(0, I) with labels drawn evenly."""
    z = torch.randn(count, z_dim, generator=generator)
    return z, torch.randint(classes, (count,), generator=generator)


class EpochOrder:
    """The real images that each discriminator step sees: every one once an epoch, in an order drawn anew each epoch."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self._count, self._batch, self._seed = count, batch, seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __getitem__(self, step: int) -> Tensor:
        """The indices (batch,) int64 of a step."""
        epoch, slot = divmod(step, self._count // self._batch)
        if epoch != self._epoch:
            self._order = torch.randperm(self._count, generator=generator_for(self._seed, RandomStream.EPOCH, epoch))
            self._epoch = epoch
        return self._order[slot * self._batch : (slot + 1) * self._batch]
