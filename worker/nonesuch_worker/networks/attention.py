"""Self-attention over the positions of an image (Zhang et al. 2019, in the form of Brock et al. 2019, appendix B)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """x + gate · attention(x). The gate starts at 0: a fresh layer changes nothing.

    Queries and keys have an eighth of the channels, values half of them; keys and values are pooled 2 by 2. The
    products are not scaled.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner, values = max(1, width // 8), max(1, width // 2)
        self.query = nn.Conv2d(width, inner, 1, bias=False)
        self.key = nn.Conv2d(width, inner, 1, bias=False)
        self.value = nn.Conv2d(width, values, 1, bias=False)
        self.output = nn.Conv2d(values, width, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        query = self.query(x_NCHW).flatten(2).mT  # (B, HW, C/8)
        key = F.max_pool2d(self.key(x_NCHW), 2).flatten(2).mT  # (B, HW/4, C/8)
        value = F.max_pool2d(self.value(x_NCHW), 2).flatten(2).mT  # (B, HW/4, C/2)
        h = F.scaled_dot_product_attention(query, key, value, scale=1.0).mT  # (B, C/2, HW)
        attended: Tensor = self.output(h.reshape(len(h), -1, *x_NCHW.shape[2:]))
        return x_NCHW + self.gate * attended
