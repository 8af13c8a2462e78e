"""The generators of our own family in their minting form. `nonesuch_worker.networks.compact` describes the network.

Two things more than BigGAN has:

- Each block has a chunk of the latent for itself. Its gains are linear in [y, z], with zeros for the other chunks, so
  that one product serves all blocks.
- A block that concatenates, W [F(x), upsample(x)], is W₁ F(x) + upsample(W₂ x): one that adds, but for W₁.

Shapes: B samples, C channels, Z = z_dim, E numbers of a class embedding, K classes, H = W the image's side.
"""

from itertools import islice

import torch
from torch import Tensor, nn

from nonesuch_worker.engine.attention import Attention
from nonesuch_worker.engine.convolutions import Convolution, Linear, Pointwise
from nonesuch_worker.engine.folding import folded_weight
from nonesuch_worker.engine.norms import Affine, Norm, Norms, conditional_norm, plain_norm
from nonesuch_worker.engine.pixels import to_pixels
from nonesuch_worker.engine.statistics import only_row
from nonesuch_worker.engine.upsampling import add_upsampled, upsampled_conv
from nonesuch_worker.networks.attention import SelfAttention
from nonesuch_worker.networks.compact import CompactGenerator, ConditionalBatchNorm, UpBlock

NORMS_OF_A_BLOCK = 2
_ANY_TRUNCATION = 1.0
"""The truncation whose statistics are taken: any will do, as the network has one set of them."""


class MintingCompact(nn.Module):
    """A `CompactGenerator`, rewritten. Takes no gradient but in z."""

    embedding: Tensor
    statistics: Tensor

    def __init__(self, network: CompactGenerator, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """Reads the network, which must be in eval mode, and leaves it as it is."""
        super().__init__()
        config = network.config
        self._dtype, self._base = dtype, (config.base_size, config.base_size, config.widths[0])
        self.register_buffer("embedding", network.embedding.weight.detach().clone())  # (K, E)
        self._chunk = config.chunk_dim
        weight, bias = _in_channels_last(network.input, config.widths[0])
        self.input = Linear(weight, bias, dtype=torch.float32)  # chunk to base · base · C
        blocks = [block for block in network.blocks if isinstance(block, UpBlock)]
        condition = config.embedding_dim + config.z_dim
        norms = []
        for i, block in enumerate(blocks, start=1):  # the first chunk of the latent feeds the input
            columns = _columns(config.embedding_dim, config.chunk_dim, i)
            norms += [_norm(norm, condition, columns) for norm in (block.norm1, block.norm2)]
        norms.append(_last_norm(network.norm, condition))
        self.norms = Norms(norms, eps=network.norm.eps, rule=only_row, dtype=dtype)
        self.register_buffer("statistics", self.norms.statistics(_ANY_TRUNCATION))
        layers: list[nn.Module] = []
        for block, side in zip(blocks, config.resolutions, strict=True):
            layers.append(CompactBlock(block, side=side // 2, device=device, dtype=dtype))
            if network.attention is not None and side == config.attention:
                layers.append(_attention(network.attention, dtype))
        self.layers = nn.ModuleList(layers)
        self.pixels = to_pixels(folded_weight(network.output), _bias(network.output), device=device, dtype=dtype)
        self.to(device).eval().requires_grad_(False)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Make images.

        Args:
            z: (B, Z) float32.
            labels: (B,) int64 in [0, K).

        Returns:
            (B, C, H, W) float32 in [-1, 1].
        """
        *norms, last = self.norms(torch.cat((self.embedding[labels], z), dim=1), self.statistics)
        x = self.input(z[:, : self._chunk]).to(self._dtype)
        x_NCHW = x.view(-1, *self._base).permute(0, 3, 1, 2)
        of_blocks = iter(norms)
        for layer in self.layers:
            own = islice(of_blocks, NORMS_OF_A_BLOCK) if isinstance(layer, CompactBlock) else ()
            x_NCHW = layer(x_NCHW, *own)
        image: Tensor = self.pixels(last.relu_(x_NCHW))
        return torch.tanh(image.float())


class CompactBlock(nn.Module):
    """A residual block that doubles the resolution."""

    def __init__(self, block: UpBlock, *, side: int, device: torch.device, dtype: torch.dtype) -> None:
        """`side` is that of the images it takes."""
        super().__init__()
        self.first = upsampled_conv(folded_weight(block.conv1), block.conv1.bias, side=side, device=device, dtype=dtype)
        self.second = Convolution(folded_weight(block.conv2), block.conv2.bias, dtype=dtype, padding=1)
        skip = folded_weight(block.skip)
        branch = skip.shape[0] if block.concat else 0
        self.merge = Pointwise(skip[:, :branch], dtype=dtype) if block.concat else nn.Identity()
        self.skip = Pointwise(skip[:, branch:], block.skip.bias, dtype=dtype)

    def forward(self, x_NCHW: Tensor, first: Affine, second: Affine) -> Tensor:
        h = self.first(first.relu(x_NCHW))
        h = self.merge(self.second(second.relu_(h)))
        return add_upsampled(h, self.skip(x_NCHW))


def _in_channels_last(layer: nn.Linear, channels: int) -> tuple[Tensor, Tensor]:
    """The weight and bias of a linear layer to (C, h, w), in the order of (h, w, C)."""
    weight = folded_weight(layer)
    rows = torch.arange(len(weight)).view(channels, -1).T.flatten()
    return weight[rows], layer.bias.detach()[rows]


def _columns(embedding: int, chunk: int, number: int) -> Tensor:
    """The places in [y, z] of the condition of a block: the embedding, then chunk `number` of the latent."""
    return torch.cat((torch.arange(embedding), embedding + number * chunk + torch.arange(chunk)))


def _norm(norm: ConditionalBatchNorm, condition: int, columns: Tensor) -> Norm:
    mean, var = _statistics(norm.norm)
    gain, bias = folded_weight(norm.gain), folded_weight(norm.bias)
    wide = gain.new_zeros(2, len(gain), condition)
    wide[:, :, columns] = torch.stack((gain, bias))
    return conditional_norm(wide[0], wide[1], mean, var)


def _last_norm(norm: nn.BatchNorm2d, condition: int) -> Norm:
    return plain_norm(norm.weight.detach(), norm.bias.detach(), *_statistics(norm), condition=condition)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean[None], norm.running_var[None]


def _attention(layer: SelfAttention, dtype: torch.dtype) -> Attention:
    return Attention(
        query=folded_weight(layer.query),
        key=folded_weight(layer.key),
        value=folded_weight(layer.value),
        output=folded_weight(layer.output),
        gate=layer.gate.detach(),
        dtype=dtype,
    )
