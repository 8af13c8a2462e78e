"""HSM: latents mined to be hard for the classifier that is being trained right now (Besnier et al. 2019, section 3.1).

The walk is `mining.mine`. A mined latent is recorded as float16 and the image is made of the rounded numbers, so a row
can be made again without the snapshot. Optionally an independent teacher looks at the image that is delivered; what it
does not take for its label is dropped, and the index's next latent is mined instead.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nonesuch.tally import NOTHING, Tally, count
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.strategies.base import Draw, MintContext, MintedRows
from nonesuch_worker.strategies.filled_rows import FilledRows
from nonesuch_worker.strategies.mining import MiningParams, mine
from nonesuch_worker.strategies.scores import look


class HsmParams(MiningParams):
    """How latents are mined, and whether a teacher verifies what came of them."""

    verify: bool = Field(default=False, json_schema_extra={"needs": "teacher"})
    """Drop images that the teacher does not recognise, and mine another latent instead."""
    attempts: int = Field(default=4, ge=1, le=1000)
    """How many latents an index may take until the teacher recognises one; without `verify` it takes one."""


class HardSampleMining:
    """Each index gets its own latent, mined. `score`, `score_before` and `flips` are those of `mining.Mined`."""

    name: ClassVar[str] = "hsm"
    Params: ClassVar[type[HsmParams]] = HsmParams
    needs_snapshot: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    rejects: ClassVar[bool] = True

    def mint(self, ctx: MintContext[HsmParams]) -> MintedRows:
        filled = FilledRows(ctx)
        if not ctx.params.verify:
            for draw in ctx.draws():
                _mine_into(filled, ctx, draw, attempt=0)
            return filled.minted()
        tally = NOTHING
        for attempt in range(ctx.params.attempts):
            for draw in ctx.draws(attempt, filled.open):
                taken = _mine_into(filled, ctx, draw, attempt)
                labels = ctx.labels[draw.rows]
                tally += Tally(tried=count(labels), wrong_label=count(labels[~taken]))
        return filled.minted(tally + Tally(short=count(ctx.labels[filled.open])))


def _mine_into(filled: FilledRows, ctx: MintContext[HsmParams], draw: Draw, attempt: int) -> NDArray[np.bool_]:
    """Mine a draw of n rows and put those that are valid; returns (n,) which are."""
    assert ctx.classifier is not None
    mined = mine(lambda z: ctx.render(draw, z), ctx.classifier, draw.z, draw.labels, ctx.params)
    images = to_uint8_NHWC(mined.images)
    taken = np.ones(len(draw.rows), bool)
    if ctx.params.verify:
        assert ctx.teacher is not None
        taken = (look(ctx.teacher, images, "teacher").argmax(dim=1) == draw.labels).cpu().numpy()
    filled.put(
        draw,
        attempt,
        images,
        taken,
        score=mined.score.float().cpu().numpy(),
        score_before=mined.score_before.float().cpu().numpy(),
        flips=mined.flips.cpu().numpy(),
        z=mined.rounded.cpu().numpy(),
    )
    return taken
