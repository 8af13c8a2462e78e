"""Filtered: only images that a teacher recognises, and surely enough (Pham et al. 2019, Alg. 1).

An index whose image is rejected is tried again with its next latent. Its label stays, so the classes stay balanced
however unlike their acceptance is. An index that runs out of attempts is left out and counted as short.
"""

from typing import ClassVar

from pydantic import Field

from nonesuch.tally import NOTHING, Tally, count
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.strategies.base import MintContext, MintedRows, MixingParams
from nonesuch_worker.strategies.filled_rows import FilledRows
from nonesuch_worker.strategies.scores import look


class FilteredParams(MixingParams):
    """Which images are kept, and for how long they are looked for."""

    threshold: float = Field(default=0.5, ge=0, lt=1)
    """t: an image is kept if the teacher takes it for its label with a probability above t."""
    attempts: int = Field(default=20, ge=1, le=1000)
    """How many latents an index may take; then it is given up and reported as short."""


class Filtered:
    """The first of an index's latents whose image x, as it is delivered, has argmax p(x) = y and p(x)[y] > t.

    `score` is p(x)[y], the teacher's; `attempt` says which latent it was.
    """

    name: ClassVar[str] = "filtered"
    Params: ClassVar[type[FilteredParams]] = FilteredParams
    needs_snapshot: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = False
    mixes: ClassVar[bool] = True
    rejects: ClassVar[bool] = True

    def mint(self, ctx: MintContext[FilteredParams]) -> MintedRows:
        assert ctx.teacher is not None
        filled, tally = FilledRows(ctx), NOTHING
        for attempt in range(ctx.params.attempts):
            for draw in ctx.draws(attempt, filled.open):
                images = to_uint8_NHWC(ctx.render(draw))
                p = look(ctx.teacher, images, "teacher").softmax(dim=1)  # (n, K)
                score = p.gather(1, draw.labels[:, None])[:, 0]
                right = (p.argmax(dim=1) == draw.labels).cpu().numpy()
                sure = (score > ctx.params.threshold).cpu().numpy()
                filled.put(draw, attempt, images, right & sure, score=score.float().cpu().numpy())
                labels = ctx.labels[draw.rows]
                tally += Tally(
                    tried=count(labels), wrong_label=count(labels[~right]), below_threshold=count(labels[right & ~sure])
                )
        return filled.minted(tally + Tally(short=count(ctx.labels[filled.open])))
