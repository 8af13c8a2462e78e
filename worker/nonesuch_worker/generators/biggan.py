"""BigGAN-deep (Brock et al. 2019) with upstream's network, pytorch-pretrained-biggan, from a local folder.

What differs from calling upstream:

- The statistics of batch normalisation depend on the truncation: upstream stores them for 0, 0.02, ..., 1 and swaps
  the weights when it interpolates between two rows. `InterpolatedNorm` does not. With `upstream_compatible` nothing is
  replaced and the images are upstream's to the bit.
- Labels are indices; upstream multiplies one-hot rows with the embedding, which selects the same numbers.
- Loading is strict, from a local folder (`biggan_folder`), without a download and without a pickle.

This is the plain, correct form; biggan-deep-128 makes 4 images a second on two cores.
"""

from pathlib import Path

import torch
from pytorch_pretrained_biggan import BigGAN
from pytorch_pretrained_biggan.model import BigGANBatchNorm
from torch import Tensor, nn

from nonesuch.catalog import GeneratorInfo
from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.biggan_folder import BigGANFolder, save_biggan
from nonesuch_worker.generators.biggan_seeded import seeded_biggan
from nonesuch_worker.generators.library import find

__all__ = [
    "BigGANGenerator",
    "InterpolatedNorm",
    "interpolate",
    "interpolate_norms",
    "load",
    "save_biggan",
    "seeded_biggan",
]

COMPATIBLE = "upstream_compatible"


class BigGANGenerator:
    """Upstream's network behind the protocol `Generator`."""

    def __init__(
        self, model: BigGAN, info: GeneratorInfo, device: torch.device, *, upstream_compatible: bool = False
    ) -> None:
        """Takes the model over: freezes it, moves it, and replaces its norms unless `upstream_compatible`."""
        self.info = info
        self.device = device
        if not upstream_compatible:
            interpolate_norms(model)
        self._model = model.to(self.device).eval().requires_grad_(False)

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """See `Generator`. No truncation means the statistics of 1. Raises `InvalidValue` outside of (0, 1]."""
        truncation = 1.0 if truncation is None else truncation
        if not 0 < truncation <= 1:
            raise InvalidValue(f"truncation {truncation} must be in (0, 1]: BigGAN has statistics for no other")
        embedded = self._model.embeddings.weight.T[labels]  # (B, z_dim)
        x: Tensor = self._model.generator(torch.cat((z, embedded), dim=1), truncation)
        return x


class InterpolatedNorm(nn.Module):
    """Upstream's batch normalisation with statistics that are continuous in the truncation."""

    def __init__(self, upstream: BigGANBatchNorm) -> None:
        super().__init__()
        self.upstream = upstream

    def forward(self, x_NCHW: Tensor, truncation: float, condition: Tensor | None = None) -> Tensor:
        norm = self.upstream
        mean = interpolate(norm.running_means, truncation)[:, None, None]  # (C, 1, 1)
        var = interpolate(norm.running_vars, truncation)[:, None, None]
        if norm.conditional:
            gain = (1 + norm.scale(condition))[:, :, None, None]  # (B, C, 1, 1)
            bias = norm.offset(condition)[:, :, None, None]
        else:
            gain, bias = norm.weight[:, None, None], norm.bias[:, None, None]  # (C, 1, 1)
        normal: Tensor = (x_NCHW - mean) / torch.sqrt(var + norm.eps) * gain + bias
        return normal


def interpolate(rows: Tensor, truncation: float) -> Tensor:
    """Linear interpolation in statistics that are stored for truncations 0, 1/(n-1), ..., 1.

    Args:
        rows: (n, C).
        truncation: in [0, 1].

    Returns:
        (C,)
    """
    place = truncation * (len(rows) - 1)
    below = min(int(place), len(rows) - 2)
    return torch.lerp(rows[below], rows[below + 1], place - below)


def interpolate_norms(model: BigGAN) -> None:
    """Replace every batch normalisation of a model by its `InterpolatedNorm`, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BigGANBatchNorm):
                setattr(parent, name, InterpolatedNorm(child))


def load(argument: str, device: torch.device) -> Generator:
    """The loader of `biggan:FOLDER`, and of `biggan:FOLDER,upstream_compatible` for upstream's images to the bit.

    FOLDER may be the name of a generator in the library.

    Raises:
        GeneratorNotFound: the folder lacks the configuration or the weights.
        IntegrityError: it has a card, which is of other weights or of another configuration.
        InvalidValue: a file of it cannot be used: for weights, each tensor at fault is named; for upstream's pickle,
            the command that converts it.
    """
    path, _, option = (argument, "", "") if Path(argument).is_dir() else argument.partition(",")
    if option not in ("", COMPATIBLE):
        raise InvalidValue(f"biggan has no option {option!r}: it has {COMPATIBLE!r}")
    model, info = BigGANFolder(find(path) or Path(path)).load(id_suffix="-upstream" if option else "")
    return BigGANGenerator(model, info, device, upstream_compatible=bool(option))
