"""Random: every index gets the image of its own latent, z ~ N(0, σ²I) or truncated."""

from typing import ClassVar

import numpy as np

from nonesuch.errors import InvalidOrder
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.strategies.base import MintContext, Minted, StrategyParams


class Random:
    """The base line, and half of dynamic sampling (Besnier et al. 2019, Alg. 2)."""

    name: ClassVar[str] = "random"
    Params: ClassVar[type[StrategyParams]] = StrategyParams
    needs_snapshot: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    def mint(self, ctx: MintContext[StrategyParams]) -> Minted:
        """Raises `InvalidOrder` for several generators: choosing between them is what `mixture` does."""
        if len(ctx.generators) != 1:
            raise InvalidOrder(
                f"strategy 'random' uses one generator and the order names {len(ctx.generators)}: "
                "name one, or choose strategy 'mixture'",
                field="generators",
            )
        x = ctx.generators[0](ctx.latents(), ctx.targets(), ctx.params.truncation)  # (B, C, H, W)
        return Minted(
            images=to_uint8_NHWC(x).cpu().numpy(),
            labels=ctx.labels,
            indices=ctx.indices,
            generator=np.zeros(len(ctx.indices), dtype=np.int32),
        )
