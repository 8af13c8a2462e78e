"""The generator's opponent: a projection discriminator with spectral normalisation (Miyato & Koyama 2018).

    image ─ block ↓ ─ block ↓ ─ block ─ relu ─ sum over positions ─ h ─┬─ linear ──────┐
                                                                       └─ · embed(y) ──┴─ + ─ score

Half the generator's resolutions, none of its normalisation: what it must never be is weak (a discriminator at half the
price made prettier images that taught 17 points less; see the card's recipe for the sizes that work).
"""

from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from nonesuch_worker.generators.compact import Merge


class DiscriminatorConfig(BaseModel):
    """The shape of a `Discriminator`. One block for each width; all but the last halve the resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, ...] = Field(default=(48, 96, 192), min_length=2, description="channels of each block")
    block: Merge = Field(default="add", description="how a residual block joins its branch with its input")


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

    def __init__(self, config: DiscriminatorConfig, *, channels: int, classes: int) -> None:
        super().__init__()
        last = len(config.widths) - 1
        self.blocks = nn.Sequential(
            *(
                DownBlock(a, b, first=i == 0, down=i != last, merge=config.block)
                for i, (a, b) in enumerate(pairwise((channels, *config.widths)))
            )
        )
        self.linear = nn.Linear(config.widths[-1], 1)
        self.embedding = nn.Embedding(classes, config.widths[-1])
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.orthogonal_(parameter)
        spectral_norm(self.linear)
        spectral_norm(self.embedding)

    def forward(self, x_NCHW: Tensor, labels: Tensor) -> Tensor:
        """Images (B, C, H, W) float in [-1, 1] and labels (B,) int64 to scores (B,)."""
        h_NCHW = F.relu(self.blocks(x_NCHW))
        with torch.autocast(x_NCHW.device.type, enabled=False):  # a sum over positions and a score need float32
            h = h_NCHW.float().sum(dim=(2, 3))  # (B, width)
            unconditional: Tensor = self.linear(h).squeeze(1)  # (B,)
            return unconditional + torch.sum(h * self.embedding(labels), dim=1)
