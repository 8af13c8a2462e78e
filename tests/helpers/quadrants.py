"""What tests of conditioning share: an unconditional generator whose images are easy to read, and who reads them.

The first four numbers of a latent are the brightness of the four quarters of the image, the next two tilt it. The class
of an image is its brightest quarter.
"""

from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch.model import Frozen
from nonesuch.offers import GeneratorInfo

CLASSES = 4


def registered(*, group: str, **selected: Any) -> EntryPoints:
    """In the place of `entry_points`: with the family `quadrants` and the architecture `corners`."""
    ours = (
        EntryPoint(name="quadrants", value=f"{__name__}:load", group="nonesuch.generators"),
        EntryPoint(name="corners", value=f"{__name__}:architecture", group="nonesuch.classifiers"),
    )
    return EntryPoints((*entry_points(group=group), *ours)).select(group=group, **selected)


class Quadrants:
    """The generator, smooth in its latent. Its gain would take a gradient, if `learns`. Satisfies `Generator`."""

    def __init__(self, size: int = 8, *, learns: bool = False, classes: int = 1) -> None:
        self.device = torch.device("cpu")
        self.gain = torch.tensor(0.5, requires_grad=learns)
        self.info = GeneratorInfo(
            id="quadrants",
            family="quadrants",
            sha256="5" * 64,
            image_shape=(size, size, 1),
            class_names=tuple(f"thing {k}" for k in range(classes)),
            z_dim=6,
            license="CC0-1.0",
            real_information="none",
        )

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        assert not labels.any(), "it knows one label"
        size = self.info.image_shape[0]
        corners = F.interpolate(z[:, :CLASSES].view(-1, 1, 2, 2), size=(size, size), mode="nearest")
        ramp = torch.linspace(-1, 1, size)
        tilt = z[:, 4, None, None] * ramp + z[:, 5, None, None] * ramp[:, None]  # (B, H, W); 0 on average
        return torch.tanh(self.gain * (corners + 0.2 * tilt[:, None]))


class Corners(nn.Module):
    """The perfect classifier of its images, of one size if it is given."""

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        assert self.size is None or x.shape[-1] == self.size, f"images of {x.shape[-1]} px"
        return self.sharpness * F.adaptive_avg_pool2d(x, 2).flatten(1)


def load(argument: str, device: torch.device) -> Quadrants:
    """The loader of `quadrants:SIZE`, of `quadrants:SIZE,many` with two classes."""
    size, _, many = argument.partition(",")
    return Quadrants(int(size), classes=2 if many else 1)


class _Architecture:
    """Builds `Corners`, which have nothing to choose."""

    Args: ClassVar[type[Frozen]] = Frozen

    def __call__(self, args: Frozen, *, in_channels: int, classes: int, image_size: int) -> nn.Module:
        return Corners(image_size)


architecture = _Architecture()
