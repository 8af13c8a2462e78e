"""Hard sample mining: walk a latent towards images that a classifier finds hard (Besnier et al. 2019, section 3.1).

    k* = argmax s(z₀)                               (Eq. 2)
    z ← z − η ∇ s(z)[k*]                            (Eq. 3)      s(z) = C(G(z, y))
    z ← z ‖z₀‖ / ‖z‖

after every step. The predicted class goes down, not the labelled one: an image that is mistaken already gets easier.

S steps take S+1 forward and S backward passes of the generator, and as many of the classifier. Samples do not see each
other: the sum over the batch of what each follows has each one's gradient in its own rows.

Shapes: B samples, Z = z_dim, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.finite import IMAGES, FiniteChecks
from nonesuch_worker.strategies.base import ONE_SCALE, MixingParams
from nonesuch_worker.strategies.scores import answers, entropy

MAX_RELATIVE = 1.0
STEEP = 1e12
"""Components of a step above which it is scaled, so that float32 holds its square."""
_ETA: JsonDict = {
    "if": {"properties": {"step": {"const": "relative"}}},
    "then": {
        "properties": {
            "eta": {
                "maximum": MAX_RELATIVE,
                "description": "a relative step is eta times the length of z: more than 1 leaves nothing of where it "
                "started; lower eta, or use raw steps",
            }
        }
    },
}
_SCORED: JsonDict = {
    "if": {"required": ["objective"], "properties": {"objective": {"enum": ["entropy", "loss"]}}},
    "then": {
        "properties": {
            "score": {"const": "logit", "description": "only objective max_score follows a score: leave it out"},
            "target": {"const": "live", "description": "only objective max_score has a target class: leave it out"},
        }
    },
}


class MiningParams(MixingParams):
    """How far latents are walked, and along what."""

    model_config = ConfigDict(json_schema_extra={"allOf": [ONE_SCALE, _ETA, _SCORED]})

    objective: Literal["max_score", "entropy", "loss"] = "max_score"
    """What is made hard: the score of the predicted class goes down (the paper's), the entropy of the prediction goes
    up, or the cross-entropy of the label goes up."""
    score: Literal["logit", "prob"] = "logit"
    """What max_score takes for a score. A probability near 1 has next to no gradient."""
    target: Literal["frozen", "live"] = "live"
    """The class that max_score pushes down: the one predicted at the start (Eq. 2), or at every step."""
    step: Literal["raw", "relative"] = "relative"
    """raw: eta times the gradient (Eq. 3). relative: eta times the length of z, along the gradient."""
    steps: int = Field(default=5, ge=1, le=100)
    """S, how many steps."""
    eta: float = Field(default=0.05, gt=0, le=100)
    """η, how far each step goes; at most 1 for relative steps."""

    @model_validator(mode="after")
    def _eta_fits_the_step(self) -> Self:
        if self.step == "relative" and self.eta > MAX_RELATIVE:
            raise ValueError(
                f"eta {self.eta} is too far for a relative step, which is eta times the length of z: 0 to 1"
            )
        return self

    @model_validator(mode="after")
    def _a_score_is_followed(self) -> Self:
        if self.objective != "max_score" and (self.score, self.target) != ("logit", "live"):
            raise ValueError(f"objective {self.objective} follows no score and no target: leave score and target out")
        return self


@dataclass(frozen=True)
class Mined:
    """The ends of the walks of B latents. Nothing here requires a gradient."""

    z: Tensor
    """The latents at the end, (B, Z) of the first latents' dtype; each as long as it was."""
    rounded: Tensor
    """`z` as it is recorded, (B, Z) float16."""
    images: Tensor
    """The images of `rounded`, (B, C, H, W)."""
    score_before: Tensor
    """The scores (B,) of the images of the first latents: for max_score the score of the target class, at its maximum
    there; for entropy the entropy in nats; for loss the cross-entropy of the label in nats."""
    score: Tensor
    """The scores (B,) of `images`. A live target is the class that is predicted now, a frozen one that of the start."""
    flips: Tensor
    """How many steps changed the predicted class, (B,) int16."""


def mine(
    render: Callable[[Tensor], Tensor],
    classifier: nn.Module,
    z: Tensor,
    labels: Tensor,
    params: MiningParams,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Mined:
    """Walk latents. Gradients may be on or off; only those with respect to z are computed.

    Args:
        render: (B, Z) to (B, C, H, W): the generator at the rows' labels, differentiable.
        classifier: images to logits (B, K); in eval mode, or samples would depend on the batch.
        z: (B, Z) the first latents; left as they are.
        labels: (B,) int64.
        params: how.
        watch: called before every step and at the end with the number of steps so far, the images and the logits.

    Raises:
        InvalidValue: images, logits, scores or gradients were not finite on the way; the message names the first.
    """
    assert not any(module.training for module in classifier.modules()), "a classifier that is mined is in eval mode"
    radius = z.norm(dim=1, keepdim=True)  # (B, 1)
    followed, checks = _Followed(labels, params), FiniteChecks()
    before = None

    def seen(step: int, images: Tensor, logits: Tensor, score: Tensor) -> None:
        checks.add(images, IMAGES)
        checks.add(logits, answers("classifier"))
        checks.add(score, "scores")
        if watch is not None:
            checks.require()
            watch(step, images.detach(), logits.detach())

    for step in range(params.steps):
        with torch.enable_grad():
            here = z.detach().requires_grad_()
            images = render(here)
            logits = classifier(images)  # (B, K)
            score = followed.score(logits)  # (B,)
            (gradient,) = torch.autograd.grad(score.sum(), here)  # (B, Z)
        before = score.detach() if before is None else before
        seen(step, images, logits, score)
        checks.add(gradient, "gradients")
        direction = -gradient if params.objective == "max_score" else gradient
        z = _stepped(here.detach(), direction, radius, params)
    assert before is not None
    rounded = z.half()
    with torch.no_grad():
        images = render(rounded.to(z.dtype))
        logits = classifier(images)
        score = followed.score(logits)
    seen(params.steps, images, logits, score)
    checks.require()
    return Mined(z=z, rounded=rounded, images=images, score_before=before, score=score, flips=followed.flips)


class _Followed:
    """What the objective makes of the logits along the way, and how often the predicted class changes."""

    def __init__(self, labels: Tensor, params: MiningParams) -> None:
        self._labels, self._params = labels, params
        self._first: Tensor | None = None
        self._predicted: Tensor | None = None
        self.flips = torch.zeros(len(labels), dtype=torch.int16, device=labels.device)

    def score(self, logits: Tensor) -> Tensor:
        """The scores (B,) of the logits (B, K) at the next place of the way."""
        predicted = logits.detach().argmax(dim=1)  # (B,)
        if self._first is None or self._predicted is None:
            self._first = self._predicted = predicted
        self.flips += predicted != self._predicted
        self._predicted = predicted
        if self._params.objective == "entropy":
            return entropy(logits)
        if self._params.objective == "loss":
            return F.cross_entropy(logits, self._labels, reduction="none")
        target = predicted if self._params.target == "live" else self._first
        scores = logits if self._params.score == "logit" else logits.softmax(dim=1)
        return scores.gather(1, target[:, None])[:, 0]


def _stepped(z: Tensor, direction: Tensor, radius: Tensor, params: MiningParams) -> Tensor:
    """(B, Z): one step, and back to the sphere of that radius (B, 1)."""
    if params.step == "relative":
        direction = radius * _unit(direction)
    # The square of a steep step would overflow: both sides are scaled then, for of their sum only the direction counts.
    largest = direction.abs().amax(dim=1, keepdim=True)  # (B, 1)
    scale = largest.where(abs(params.eta) * largest > STEEP, 1)  # (B, 1)
    z = z / scale + params.eta * (direction / scale)
    length: Tensor = z.norm(dim=1, keepdim=True)  # (B, 1)
    return z * (radius / length.clamp_min(torch.finfo(z.dtype).tiny))


def _unit(v: Tensor) -> Tensor:
    """(B, Z) rows of length 1; a row of zeros stays. Scaled first: the square of a faint row would vanish, that of a
    steep one overflow."""
    tiny = torch.finfo(v.dtype).tiny
    v = v / v.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    length: Tensor = v.norm(dim=1, keepdim=True)  # (B, 1)
    return v / length.clamp_min(tiny)
