"""BigGAN-deep (Brock et al. 2019, appendix B) in its minting form.

    c = [z, embedding[y]] ─ norms ──────────────► a gain and a bias for each sample and channel of every norm
    c ─ linear ─ (4, 4) ─ block ─ ... ─ block ─ affine, relu ─ 3×3 ─ tanh

A block, of which every other one doubles the resolution:

    x ─ affine, relu, 1×1 ─ affine, relu, [upsample] 3×3 ─ affine, relu, 3×3 ─ affine, relu, 1×1 ─ + ─
    └──────────────────────── its first channels, [upsampled] ───────────────────────────────────┘

Shapes: B samples, Z = z_dim, K classes, H = W the image's side.
"""

from itertools import islice

import torch
from pytorch_pretrained_biggan import BigGAN
from pytorch_pretrained_biggan.model import BigGANBatchNorm, GenBlock, SelfAttn
from torch import Tensor, nn

from nonesuch_worker.engine.attention import Attention
from nonesuch_worker.engine.convolutions import Linear, Pointwise
from nonesuch_worker.engine.folding import folded_weight
from nonesuch_worker.engine.norms import Affine, Norm, Norms, conditional_norm, plain_norm
from nonesuch_worker.engine.pixels import to_pixels
from nonesuch_worker.engine.statistics import Rule, interpolated
from nonesuch_worker.engine.upsampling import add_upsampled, upsampled_conv
from nonesuch_worker.engine.winograd import conv3x3

NORMS_OF_A_BLOCK = 4
BASE_SIDE = 4
COLOURS = 3


class MintingBigGAN(nn.Module):
    """Upstream's generator, rewritten. Takes no gradient but in z."""

    embedding: Tensor

    def __init__(
        self,
        model: BigGAN,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        rule: Rule = interpolated,
    ) -> None:
        """Reads the model, and leaves it as it is.

        Args:
            model: upstream's, in eval mode.
            device: where to put the form, which is chosen for it.
            dtype: what its convolutions compute in: float32, bfloat16 or float16.
            rule: how the statistics of a truncation are found (`nonesuch_worker.engine.statistics`).
        """
        super().__init__()
        generator, eps = model.generator, model.config.eps
        self._dtype = dtype
        self._width = 16 * model.config.channel_width
        self.register_buffer("embedding", model.embeddings.weight.detach().T.contiguous())  # (K, Z)
        self.input = Linear(folded_weight(generator.gen_z), generator.gen_z.bias, dtype=torch.float32)
        blocks = [layer for layer in generator.layers if isinstance(layer, GenBlock)]
        last, condition = generator.bn, 2 * model.config.z_dim
        self.norms = Norms(
            [
                *(_norm(getattr(block, f"bn_{i}")) for block in blocks for i in range(NORMS_OF_A_BLOCK)),
                plain_norm(
                    last.weight.detach(), last.bias.detach(), last.running_means, last.running_vars, condition=condition
                ),
            ],
            eps=eps,
            rule=rule,
            dtype=dtype,
        )
        layers: list[nn.Module] = []
        side = BASE_SIDE
        for layer in generator.layers:
            if isinstance(layer, SelfAttn):
                layers.append(_attention(layer, dtype))
            else:
                layers.append(BigGANBlock(layer, side=side, device=device, dtype=dtype))
                side *= 2 if layer.up_sample else 1
        self.layers = nn.ModuleList(layers)
        rgb = generator.conv_to_rgb  # makes as many channels as it takes, of which three are looked at
        self.pixels = to_pixels(folded_weight(rgb)[:COLOURS], rgb.bias[:COLOURS], device=device, dtype=dtype)
        self.to(device).eval().requires_grad_(False)

    def forward(self, z: Tensor, labels: Tensor, statistics: Tensor) -> Tensor:
        """Make images.

        Args:
            z: (B, Z) float32.
            labels: (B,) int64 in [0, K).
            statistics: (2, T) float32: `norms.statistics` of a truncation.

        Returns:
            (B, 3, H, W) float32 in [-1, 1].
        """
        condition = torch.cat((z, self.embedding[labels]), dim=1)  # (B, 2 Z)
        *norms, last = self.norms(condition, statistics)
        x = self.input(condition).to(self._dtype)
        x_NCHW = x.view(-1, BASE_SIDE, BASE_SIDE, self._width).permute(0, 3, 1, 2)  # in channels_last as it is
        of_blocks = iter(norms)
        for layer in self.layers:
            own = islice(of_blocks, NORMS_OF_A_BLOCK) if isinstance(layer, BigGANBlock) else ()
            x_NCHW = layer(x_NCHW, *own)
        image: Tensor = self.pixels(last.relu_(x_NCHW))
        return torch.tanh(image.float())


class BigGANBlock(nn.Module):
    """A residual block: a bottleneck of four convolutions."""

    def __init__(self, block: GenBlock, *, side: int, device: torch.device, dtype: torch.dtype) -> None:
        """`side` is that of the images it takes."""
        super().__init__()
        self.doubles: bool = block.up_sample
        self.reduce = Pointwise(folded_weight(block.conv_0), block.conv_0.bias, dtype=dtype)
        weight, bias = folded_weight(block.conv_1), block.conv_1.bias
        self.first = (
            upsampled_conv(weight, bias, side=side, device=device, dtype=dtype)
            if self.doubles
            else conv3x3(weight, bias, side=side, device=device, dtype=dtype)
        )
        grown = 2 * side if self.doubles else side
        self.second = conv3x3(folded_weight(block.conv_2), block.conv_2.bias, side=grown, device=device, dtype=dtype)
        self.expand = Pointwise(folded_weight(block.conv_3), block.conv_3.bias, dtype=dtype)

    def forward(self, x_NCHW: Tensor, *norms: Affine) -> Tensor:
        h = self.reduce(norms[0].relu(x_NCHW))
        h = self.first(norms[1].relu_(h))
        h = self.second(norms[2].relu_(h))
        h = self.expand(norms[3].relu_(h))
        kept = x_NCHW[:, : h.shape[1]]
        return add_upsampled(h, kept) if self.doubles else h.add_(kept)


def _norm(norm: BigGANBatchNorm) -> Norm:
    gain, offset = folded_weight(norm.scale), folded_weight(norm.offset)
    return conditional_norm(gain, offset, norm.running_means, norm.running_vars)


def _attention(layer: SelfAttn, dtype: torch.dtype) -> Attention:
    return Attention(
        query=folded_weight(layer.snconv1x1_theta),
        key=folded_weight(layer.snconv1x1_phi),
        value=folded_weight(layer.snconv1x1_g),
        output=folded_weight(layer.snconv1x1_o_conv),
        gate=layer.gamma.detach(),
        dtype=dtype,
    )
