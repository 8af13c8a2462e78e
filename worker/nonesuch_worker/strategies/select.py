"""Select: the best of k random latents, by what the classifier in training is least sure of.

The cheap rival of hard sample mining, and its control: mining with S steps costs 2S+1 passes of the generator, so its
equal is the best of 2S+1. Candidates are an index's attempts 0 to k−1, one pass each; only the best so far is kept.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from nonesuch.tally import NOTHING, Tally, count
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.strategies.base import MintContext, MintedRows, MixingParams
from nonesuch_worker.strategies.filled_rows import FilledRows
from nonesuch_worker.strategies.scores import entropy, look, margin


class SelectParams(MixingParams):
    """From how many images one is chosen, and how."""

    k: int = Field(default=11, ge=2, le=64)
    """How many candidates an image is chosen from; 2S+1 is as dear as mining with S steps."""
    by: Literal["entropy", "margin"] = "entropy"
    """entropy: the largest entropy of the prediction. margin: the smallest lead of the first class over the second."""
    teacher_valid: bool = Field(default=False, json_schema_extra={"needs": "teacher"})
    """Choose from the candidates that the teacher takes for their label; an index without any is reported as short."""


class Select:
    """The candidate that is hardest for the snapshot, judged as it is delivered; of equals, the first.

    `score` is its entropy in nats, or its margin; `score_before` is that of the index's first latent.
    """

    name: ClassVar[str] = "select"
    Params: ClassVar[type[SelectParams]] = SelectParams
    needs_snapshot: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    mixes: ClassVar[bool] = True
    rejects: ClassVar[bool] = True

    def mint(self, ctx: MintContext[SelectParams]) -> MintedRows:
        assert ctx.classifier is not None
        measure, sign = (entropy, 1) if ctx.params.by == "entropy" else (margin, -1)
        best = np.full(len(ctx.indices), -np.inf)  # (B,)
        first = np.empty(len(ctx.indices), np.float32)  # (B,)
        filled, tally = FilledRows(ctx), NOTHING
        for attempt in range(ctx.params.k):
            for draw in ctx.draws(attempt):
                images = to_uint8_NHWC(ctx.render(draw))
                score = measure(look(ctx.classifier, images, "classifier")).float().cpu().numpy()  # (n,)
                if attempt == 0:
                    first[draw.rows] = score
                better = sign * score > best[draw.rows]
                if ctx.params.teacher_valid:
                    assert ctx.teacher is not None
                    valid = (look(ctx.teacher, images, "teacher").argmax(dim=1) == draw.labels).cpu().numpy()
                    better &= valid
                    labels = ctx.labels[draw.rows]
                    tally += Tally(tried=count(labels), wrong_label=count(labels[~valid]))
                best[draw.rows[better]] = sign * score[better]
                filled.put(draw, attempt, images, better, score=score, score_before=first[draw.rows])
        return filled.minted(tally + Tally(short=count(ctx.labels[filled.open])))
