"""The embedded generator: a BigGAN small enough to train on two CPU cores (Brock et al. 2019, appendix B).

What it keeps of BigGAN: residual blocks with conditional batch normalisation, a class embedding that all blocks share,
and a latent split into chunks, the first of which feeds the input and one more each block. What it leaves out unless
asked: attention and width.

    z_0 ─ linear ─ (7, 7) ─ block ─ (14, 14) ─ block ─ (28, 28) ─ BN ─ relu ─ conv ─ tanh
                             ▲ z_1, y           ▲ z_2, y

Shapes: B samples, C channels, H = W the image's side, Z = z_dim, K classes.
"""

from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen
from nonesuch_worker.networks.attention import SelfAttention
from nonesuch_worker.networks.spectral import spectral_norm

Merge = Literal["add", "concat"]
"""How a residual block joins its branch F(x) with its input x: `add` is F(x) + W x, `concat` is W [F(x), x], a 1×1
convolution over both (Pham et al. 2019, III-B)."""

Init = Literal["orthogonal", "normal"]
"""How weights start: orthogonal, or N(0, 0.02²)."""


def initialise(weight: Tensor, how: Init) -> None:
    """Fill a weight with random numbers from torch's global generator."""
    if how == "orthogonal":
        nn.init.orthogonal_(weight)
    else:
        nn.init.normal_(weight, std=0.02)


class CompactConfig(Frozen):
    """The shape of a `CompactGenerator`. The defaults are the shipped one: 28 px, grey, ten classes."""

    image_size: int = Field(default=28, ge=4, le=256, description="side of the square image, px")
    channels: int = Field(default=1, ge=1, le=4, description="colour channels of the image")
    classes: int = Field(default=10, ge=1)
    z_dim: int = Field(default=96, ge=1, description="length of the latent: a multiple of the number of widths")
    embedding_dim: int = Field(default=32, ge=1, description="length of the class embedding that all blocks share")
    widths: tuple[int, ...] = Field(default=(192, 96, 48), min_length=2, description="channels at each resolution")
    block: Merge = Field(default="add", description="how a residual block joins its branch with its input")
    spectral_norm: bool = Field(default=False, description="normalise the generator's weights too (Zhang et al. 2019)")
    attention: int | None = Field(default=None, description="the resolution, px, that gets a self-attention layer")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_size % self.upscaling:
            raise ValueError(
                f"image_size {self.image_size} cannot be reached by doubling {self.stages} times "
                f"({len(self.widths)} widths): use a multiple of {self.upscaling}, or fewer widths"
            )
        if self.z_dim % len(self.widths):
            raise ValueError(
                f"z_dim {self.z_dim} does not split into {len(self.widths)} equal chunks (one for the input, one for "
                f"each of {self.stages} blocks): use a multiple of {len(self.widths)}"
            )
        if min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} must all be at least 1")
        if self.attention is not None and self.attention not in self.resolutions:
            raise ValueError(
                f"attention {self.attention} is no resolution of this generator: use one of "
                f"{', '.join(map(str, self.resolutions))}"
            )
        return self

    @property
    def stages(self) -> int:
        """How many times the resolution doubles."""
        return len(self.widths) - 1

    @property
    def upscaling(self) -> int:
        """The image's side over that of the input layer."""
        return 1 << self.stages

    @property
    def base_size(self) -> int:
        """The side, in px, that the input layer makes."""
        return self.image_size // self.upscaling

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The side, in px, that each block makes."""
        return tuple(self.base_size << stage for stage in range(1, self.stages + 1))

    @property
    def chunk_dim(self) -> int:
        """The part of the latent that each block gets to see."""
        return self.z_dim // len(self.widths)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose gain and bias are linear in a condition (de Vries et al. 2017; the gain around 1)."""

    def __init__(self, width: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.gain = nn.Linear(condition_dim, width, bias=False)
        self.bias = nn.Linear(condition_dim, width, bias=False)

    def forward(self, x_NCHW: Tensor, condition: Tensor) -> Tensor:
        gain: Tensor = 1 + self.gain(condition)  # (B, C)
        bias: Tensor = self.bias(condition)  # (B, C)
        x_NCHW = self.norm(x_NCHW)
        return torch.addcmul(bias[:, :, None, None], x_NCHW, gain[:, :, None, None])


class UpBlock(nn.Module):
    """A residual block that doubles the resolution (Brock et al. 2019, figure 15b)."""

    def __init__(self, width_in: int, width_out: int, condition_dim: int, merge: Merge) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(width_in, condition_dim)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = ConditionalBatchNorm(width_out, condition_dim)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.concat = merge == "concat"
        self.skip = nn.Conv2d(width_in + (width_out if self.concat else 0), width_out, 1)

    def forward(self, x_NCHW: Tensor, condition: Tensor) -> Tensor:
        h: Tensor = F.relu(self.norm1(x_NCHW, condition))
        h = self.conv1(F.interpolate(h, scale_factor=2.0, mode="nearest"))  # (B, width_out, 2H, 2W)
        h = self.conv2(F.relu(self.norm2(h, condition)))
        if self.concat:
            merged: Tensor = self.skip(torch.cat((h, F.interpolate(x_NCHW, scale_factor=2.0, mode="nearest")), dim=1))
            return merged
        # A 1x1 convolution and nearest upsampling commute: convolve the small image.
        return h + F.interpolate(self.skip(x_NCHW), scale_factor=2.0, mode="nearest")


class CompactGenerator(nn.Module):
    """G(z, y): an image per latent and label. Latents are N(0, I).

    In eval mode a sample depends on its own latent and label alone, and is differentiable in the latent.
    """

    def __init__(self, config: CompactConfig | None = None, init: Init = "orthogonal") -> None:
        super().__init__()
        self.config = config = config if config is not None else CompactConfig()
        condition_dim = config.embedding_dim + config.chunk_dim
        self.embedding = nn.Embedding(config.classes, config.embedding_dim)
        self.input = nn.Linear(config.chunk_dim, config.widths[0] * config.base_size**2)
        self.blocks = nn.ModuleList(UpBlock(a, b, condition_dim, config.block) for a, b in pairwise(config.widths))
        attended = None if config.attention is None else config.resolutions.index(config.attention)
        self.attention = None if attended is None else SelfAttention(config.widths[attended + 1])
        self.norm = nn.BatchNorm2d(config.widths[-1])
        self.output = nn.Conv2d(config.widths[-1], config.channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                initialise(module.weight, init)
                if config.spectral_norm and not isinstance(module, nn.Embedding):
                    spectral_norm(module)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Make images.

        Args:
            z: (B, z_dim) float, N(0, I) as in training.
            labels: (B,) int64, in [0, classes).

        Returns:
            (B, channels, image_size, image_size) float in [-1, 1].

        Raises:
            InvalidValue: the latents are not (B, z_dim), or there is not one label for each.
        """
        config = self.config
        if z.ndim != 2 or z.shape[1] != config.z_dim or labels.shape != z.shape[:1]:
            raise InvalidValue(
                f"latents {tuple(z.shape)} and labels {tuple(labels.shape)} do not fit this generator: "
                f"give latents (B, {config.z_dim}) and labels (B,)"
            )
        first, *rest = z.chunk(len(config.widths), dim=1)  # each (B, chunk_dim)
        y = self.embedding(labels)  # (B, embedding_dim)
        x_NCHW = self.input(first).view(-1, config.widths[0], config.base_size, config.base_size)
        if self.output.weight.is_contiguous(memory_format=torch.channels_last):
            x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        for block, chunk in zip(self.blocks, rest, strict=True):
            x_NCHW = block(x_NCHW, torch.cat((y, chunk), dim=1))
            if self.attention is not None and x_NCHW.shape[2] == config.attention:
                x_NCHW = self.attention(x_NCHW)
        return torch.tanh(self.output(F.relu(self.norm(x_NCHW))))
