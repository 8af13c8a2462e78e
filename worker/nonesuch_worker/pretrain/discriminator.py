"""The generator's opponent: a projection discriminator with spectral normalisation (Miyato & Koyama 2018).

    image ─ block ↓ ─ block ↓ ─ block ─ relu ─ sum over positions ─ h ─┬─ linear ──────┐
                                                                       └─ · embed(y) ──┴─ + ─ score

Half the generator's resolutions, none of its normalisation: what it must never be is weak (a discriminator at half the
price made prettier images that taught 17 points less; see the card's recipe for the sizes that work).
"""

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch.model import Frozen
from nonesuch_worker.networks.attention import SelfAttention
from nonesuch_worker.networks.compact import Init, Merge, initialise
from nonesuch_worker.networks.spectral import spectral_norm


class DiscriminatorConfig(Frozen):
    """The shape of a `Discriminator`. One block for each width; all but the last halve the resolution."""

    widths: tuple[int, ...] = Field(default=(48, 96, 192), min_length=2, description="channels of each block")
    block: Merge = Field(default="add", description="how a residual block joins its branch with its input")
    attention: int | None = Field(default=None, description="the resolution, px, that gets a self-attention layer")

    def resolutions(self, image_size: int) -> tuple[int, ...]:
        """The side, in px, that each halving block makes of an image of `image_size`."""
        return tuple(image_size >> halvings for halvings in range(1, len(self.widths)))


class DownBlock(nn.Module):
    """A residual block without normalisation layers; `first` leaves out the ReLU that would spoil the image."""

    def __init__(self, width_in: int, width_out: int, *, first: bool, down: bool, merge: Merge) -> None:
        super().__init__()
        self.first, self.down, self.concat = first, down, merge == "concat"
        self.conv1 = spectral_norm(nn.Conv2d(width_in, width_out, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(width_out, width_out, 3, padding=1))
        self.skip = spectral_norm(nn.Conv2d(width_in + (width_out if self.concat else 0), width_out, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h: Tensor = self.conv1(x_NCHW if self.first else F.relu(x_NCHW))
        h = self.conv2(F.relu(h))
        if self.down:  # a 1x1 convolution and average pooling commute: convolve the small image
            h, x_NCHW = F.avg_pool2d(h, 2), F.avg_pool2d(x_NCHW, 2)
        if self.concat:
            merged: Tensor = self.skip(torch.cat((h, x_NCHW), dim=1))
            return merged
        skip: Tensor = self.skip(x_NCHW)
        return h + skip


class Discriminator(nn.Module):
    """D(x, y): a score for each labelled image, high for real ones."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        *,
        image_size: int,
        channels: int,
        classes: int,
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        last = len(config.widths) - 1
        self.blocks = nn.ModuleList(
            DownBlock(a, b, first=i == 0, down=i != last, merge=config.block)
            for i, (a, b) in enumerate(pairwise((channels, *config.widths)))
        )
        self.attended = None if config.attention is None else config.resolutions(image_size).index(config.attention)
        self.attention = None if self.attended is None else SelfAttention(config.widths[self.attended])
        self.linear = nn.Linear(config.widths[-1], 1)
        self.embedding = nn.Embedding(classes, config.widths[-1])
        for parameter in self.parameters():
            if parameter.ndim > 1:
                initialise(parameter, init)
        spectral_norm(self.linear)
        spectral_norm(self.embedding)
        if self.attention is not None:
            for module in self.attention.children():
                spectral_norm(module)

    def forward(self, x_NCHW: Tensor, labels: Tensor) -> Tensor:
        """Images (B, C, H, W) float in [-1, 1] and labels (B,) int64 to scores (B,)."""
        for i, block in enumerate(self.blocks):
            x_NCHW = block(x_NCHW)
            if self.attention is not None and i == self.attended:
                x_NCHW = self.attention(x_NCHW)
        h_NCHW = F.relu(x_NCHW)
        with torch.autocast(x_NCHW.device.type, enabled=False):  # a sum over positions and a score need float32
            h = h_NCHW.float().sum(dim=(2, 3))  # (B, width)
            unconditional: Tensor = self.linear(h).squeeze(1)  # (B,)
            return unconditional + torch.sum(h * self.embedding(labels), dim=1)
