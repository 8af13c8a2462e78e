"""What a classifier's answers say of images.

Shapes: B images of (H, W, C), K classes.
"""

import torch
from torch import Tensor, nn

from nonesuch_worker.finite import finite_rows, require_finite
from nonesuch_worker.generators.base import from_uint8_NHWC


def look(classifier: nn.Module, images_NHWC: Tensor, name: str) -> Tensor:
    """(B, K) logits, float32 or wider, of (B, H, W, C) uint8: a classifier judges the images that are delivered.

    Raises `InvalidValue`, which calls it by `name`, for logits that are not finite: no comparison would see them.
    """
    logits: Tensor = classifier(from_uint8_NHWC(images_NHWC))
    require_finite(finite_rows(logits), answers(name))
    return logits if logits.dtype == torch.float64 else logits.float()


def answers(name: str) -> str:
    """How the logits of the classifier of that name are called in an error."""
    return f"answers of the {name}"


def entropy(logits: Tensor) -> Tensor:
    """(B,) entropy of the probabilities, in nats: 0 where the classifier is sure, log K where it knows nothing."""
    log_p = logits.log_softmax(dim=1)  # (B, K)
    # The difference of two finite logits may be infinite, and 0 · -inf is NaN where the limit is 0.
    return -(log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum(dim=1)


def margin(logits: Tensor) -> Tensor:
    """(B,) the largest probability less the second largest, in [0, 1]."""
    first, second = logits.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    return first - second
