"""What keeps the images of a class apart. Mekonnen 2024 leaves "a regularization term that maximizes the variance" to
future work; these are two.

Shapes: B samples in B/2 pairs of one label, K classes, Z = z_dim.
"""

import torch
from torch import Tensor


def divergence(mu: Tensor, sigma: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) = −(entropy of z) + (its cross-entropy with N(0, I)), in nats.

    Maximising the entropy alone would send σ to wherever the generator makes no images any more. The divergence
    rewards the same entropy and charges for leaving the latents that the generator was trained on: at 0 they are those.

    At weight 1 the loss has a meaning: E[−log p(y | G(z))] + KL(q(z | y) ‖ p(z)) is, up to a constant, the divergence
    of q(z | y) from p(z | y) ∝ p(z) p(y | G(z)), the generator's own latents of the class. Less than 1 sharpens.

    Args:
        mu: (B, Z).
        sigma: (B, Z), positive.

    Returns:
        (B,)
    """
    return 0.5 * (mu.square() + sigma.square() - 1 - 2 * sigma.log()).sum(dim=1)


class ModeSeeking:
    """How little images of one label differ for how much their ε differ (Mao et al. 2019, "Mode seeking GANs").

        r_k = mean |x − x'| / mean |ε − ε'|  over pairs of class k
        penalty = mean over classes of r₀ / r_k

    Distances are L1. Like its authors we minimise the inverse of the ratio; unlike them for each class apart, so that
    no class hides behind others, and with r₀, the ratio of the base generator's own images: the penalty of a
    class that is as diverse as all of them together is 1. It is ε that divides and not z: with z, a smaller σ
    would make up for images that are too much alike.
    """

    def __init__(self, images: Tensor, z: Tensor) -> None:
        """Takes r₀ from images (B, C, H, W) of the base generator and their latents (B, Z); pairs are B/2 apart."""
        distance, far = _apart(images), _apart(z)
        self._base = (distance.mean() / far.mean()).clamp_min(_TINY)

    def __call__(self, images: Tensor, epsilon: Tensor, labels: Tensor) -> Tensor:
        """The penalty, a scalar.

        Args:
            images: (B, C, H, W).
            epsilon: (B, Z).
            labels: (B,) int64; row i and row i + B/2 have the same.
        """
        half = labels[: len(labels) // 2]
        sums = images.new_zeros(2, int(half.max()) + 1)
        sums = sums.index_add(1, half, torch.stack((_apart(images), _apart(epsilon))))
        distance, far = sums[:, sums[1] > 0]  # of the classes that were drawn
        ratio = distance / far / self._base
        penalty: Tensor = (1 / ratio.clamp_min(_TINY)).mean()
        return penalty


_TINY = 1e-5
"""The least ratio that is divided by, as in the authors' code: a class whose images are all the same has a large
penalty and not an infinite one."""


def _apart(rows: Tensor) -> Tensor:
    """(B/2,) the mean absolute difference of row i and row i + B/2."""
    first, second = rows.flatten(1).chunk(2)
    return (first - second).abs().mean(dim=1)
