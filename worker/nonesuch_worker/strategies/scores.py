"""What a classifier's answers say of images.

Shapes: B images of (H, W, C), K classes.
"""

import torch
from torch import Tensor, nn

from nonesuch_worker.generators.base import from_uint8_NHWC


def look(classifier: nn.Module, images_NHWC: Tensor) -> Tensor:
    """(B, K) logits, float32 or wider, of (B, H, W, C) uint8: a classifier judges the images that are delivered."""
    logits: Tensor = classifier(from_uint8_NHWC(images_NHWC))
    return logits if logits.dtype == torch.float64 else logits.float()


def entropy(logits: Tensor) -> Tensor:
    """(B,) entropy of the probabilities, in nats: 0 where the classifier is sure, log K where it knows nothing."""
    log_p = logits.log_softmax(dim=1)  # (B, K)
    return -(log_p.exp() * log_p).sum(dim=1)


def margin(logits: Tensor) -> Tensor:
    """(B,) the largest probability less the second largest, in [0, 1]."""
    first, second = logits.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    return first - second
