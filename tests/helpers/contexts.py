"""Contexts in which a strategy mints a few rows on the CPU."""

from typing import TypeVar

import numpy as np
import torch
from torch import nn

from nonesuch_worker.generators.base import Generator
from nonesuch_worker.strategies.base import MintContext, StrategyParams

P = TypeVar("P", bound=StrategyParams)


def context(
    params: P,
    *generators: Generator,
    seed: int,
    n: int,
    first: int = 0,
    classifier: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> MintContext[P]:
    """Of the indices `first` to `first` + `n`, whose labels go round the classes of the first generator."""
    indices = np.arange(first, first + n)
    return MintContext(
        seed=seed,
        indices=indices,
        labels=(indices % len(generators[0].info.class_names)).astype(np.int32),
        generators=generators,
        params=params,
        classifier=classifier,
        device=torch.device("cpu"),
        teacher=teacher,
    )
