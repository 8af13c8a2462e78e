"""Self-attention over the positions of an image, as BigGAN and our own family have it: the products unscaled, keys and
values pooled 2 by 2.

On a GPU the two products are PyTorch's scaled-dot-product attention. On a CPU that goes through the BLAS of the build,
which keeps AVX-512 from some processors; convolutions go through oneDNN, which does not. A product with one matrix for
each sample is a 1×1 convolution whose weights are that sample's keys, or values.

Shapes: B samples, C channels, N = H·W positions, M = N/4 pooled ones, Q channels of queries and keys, V of values.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Pointwise, pointwise


class Attention(nn.Module):
    """x + gate · W_o attention(W_q x, pool(W_k x), pool(W_v x)), all W being 1×1 convolutions without bias."""

    def __init__(
        self, *, query: Tensor, key: Tensor, value: Tensor, output: Tensor, gate: Tensor, dtype: torch.dtype
    ) -> None:
        """query, key: (Q, C, 1, 1). value: (V, C, 1, 1). output: (C, V, 1, 1). gate: a number."""
        super().__init__()
        self.query = Pointwise(query, dtype=dtype)
        self.key = Pointwise(key, dtype=dtype)
        self.value = Pointwise(value, dtype=dtype)
        self.output = Pointwise(output * gate, dtype=dtype)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        query = self.query(x_NCHW)  # (B, Q, H, W)
        key = F.max_pool2d(self.key(x_NCHW), 2)  # (B, Q, H/2, W/2)
        value = F.max_pool2d(self.value(x_NCHW), 2)  # (B, V, H/2, W/2)
        attend = attend_by_convolutions if x_NCHW.device.type == "cpu" else attend_by_sdpa
        attended: Tensor = self.output(attend(query, key, value))
        return attended.add_(x_NCHW)


def attend_by_sdpa(query_NCHW: Tensor, key_NCHW: Tensor, value_NCHW: Tensor) -> Tensor:
    """softmax(qᵀ k) v at every position of the query: (B, Q, H, W), (B, Q, h, w), (B, V, h, w) to (B, V, H, W)."""
    batch, _, height, width = query_NCHW.shape
    query, key, value = (x.flatten(2).mT[:, None] for x in (query_NCHW, key_NCHW, value_NCHW))  # (B, 1, N or M, ...)
    attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, 1, N, V)
    return attended.mT.reshape(batch, -1, height, width)


def attend_by_convolutions(query_NCHW: Tensor, key_NCHW: Tensor, value_NCHW: Tensor) -> Tensor:
    """What `attend_by_sdpa` gives, sample by sample, which also keeps no more than one sample's N × M scores."""
    keys = key_NCHW.flatten(2).mT[..., None, None]  # (B, M, Q, 1, 1)
    values = value_NCHW.flatten(2)[..., None, None]  # (B, V, M, 1, 1)
    attended = []
    for i in range(len(query_NCHW)):
        scores = pointwise(query_NCHW[i : i + 1], keys[i])  # (1, M, H, W)
        # In channels_last this is a softmax along contiguous rows.
        weights = scores.permute(0, 2, 3, 1).softmax(dim=-1).permute(0, 3, 1, 2)
        attended.append(pointwise(weights, values[i]))
    return torch.cat(attended)
