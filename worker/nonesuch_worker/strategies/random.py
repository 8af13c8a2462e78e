"""Random: every index gets the image of its own latent, z ~ N(0, σ²I) or truncated; σ > 1 is expanded sampling."""

from typing import ClassVar

import numpy as np
import torch

from nonesuch_worker.engine.copy_out import copy_in, copy_out
from nonesuch_worker.generators.base import rounded
from nonesuch_worker.strategies.base import MintContext, MintedRows, MixingParams, StrategyParams


class Random:
    """The base line, and half of dataset smoothing (Besnier et al. 2019, Alg. 2)."""

    name: ClassVar[str] = "random"
    Params: ClassVar[type[StrategyParams]] = StrategyParams
    needs_snapshot: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    rejects: ClassVar[bool] = False

    def mint(self, ctx: MintContext[StrategyParams]) -> MintedRows:
        draws = list(ctx.draws())
        made = [rounded(ctx.render(draw)) for draw in draws]
        generator = np.zeros(len(ctx.indices), np.int32)
        for draw in draws:
            generator[draw.rows] = draw.generator
        images, finite = made[0]
        if len(made) > 1:
            places = np.argsort(np.concatenate([draw.rows for draw in draws]))  # (B,) of each row among those made
            images, finite = (torch.cat(each)[copy_in(places, ctx.device)] for each in zip(*made, strict=True))
        return MintedRows(images=copy_out(images, finite), labels=ctx.labels, indices=ctx.indices, generator=generator)


class Mixture(Random):
    """Random latents for several generators, one of which is drawn for each image (Pham et al. 2019, section III-C)."""

    name: ClassVar[str] = "mixture"
    Params: ClassVar[type[StrategyParams]] = MixingParams
    mixes: ClassVar[bool] = True
