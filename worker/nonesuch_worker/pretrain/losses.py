"""The hinge loss of a GAN (Lim & Ye 2017; Brock et al. 2019) and what is added to it.

Scores are (B,) float; results are scalars.
"""

from torch import Tensor
from torch.nn import functional as F


def discriminator_hinge(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Push real images above +1 and generated ones below -1; 2 when the discriminator knows nothing."""
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


def generator_hinge(fake_scores: Tensor) -> Tensor:
    """Push generated images up, without a bound."""
    return -fake_scores.mean()


def inconsistency(scores: Tensor, perturbed_scores: Tensor) -> Tensor:
    """How far scores move with a change that means nothing: mean (D(x) - D(T(x)))² (Zhang et al. 2020, eq. 2)."""
    return (scores - perturbed_scores).square().mean()
