"""Random: every index gets the image of its own latent, z ~ N(0, σ²I) or truncated; σ > 1 is expanded sampling."""

from typing import ClassVar

import numpy as np

from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.strategies.base import MintContext, Minted, MixingParams, StrategyParams


class Random:
    """The base line, and half of dataset smoothing (Besnier et al. 2019, Alg. 2)."""

    name: ClassVar[str] = "random"
    Params: ClassVar[type[StrategyParams]] = StrategyParams
    needs_snapshot: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    rejects: ClassVar[bool] = False

    def mint(self, ctx: MintContext[StrategyParams]) -> Minted:
        images = np.empty((len(ctx.indices), *ctx.generators[0].info.image_shape), np.uint8)
        generator = np.zeros(len(ctx.indices), np.int32)
        for draw in ctx.draws():
            images[draw.rows] = to_uint8_NHWC(ctx.render(draw)).cpu().numpy()
            generator[draw.rows] = draw.generator
        return Minted(images=images, labels=ctx.labels, indices=ctx.indices, generator=generator)


class Mixture(Random):
    """Random latents for several generators, one of which is drawn for each image (Pham et al. 2019, section III-C)."""

    name: ClassVar[str] = "mixture"
    Params: ClassVar[type[StrategyParams]] = MixingParams
    mixes: ClassVar[bool] = True
