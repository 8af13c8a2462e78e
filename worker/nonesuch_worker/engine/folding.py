"""Weights as they act, with spectral norm divided in."""

import torch
from torch import Tensor, nn


def folded_weight(layer: nn.Module) -> Tensor:
    """The weight that a layer applies in eval mode, detached: W, or W / (uᵀ W v) under spectral norm.

    Upstream's spectral norm (`torch.nn.utils.spectral_norm`) sets the quotient at every forward pass; ours is a
    parametrization, which computes it whenever the weight is read. A weight of any rank counts as a matrix with a row
    for each output.
    """
    state = layer.state_dict()
    if "weight_orig" in state:
        weight: Tensor = state["weight_orig"].detach()
        return weight / torch.dot(state["weight_u"], torch.mv(weight.flatten(1), state["weight_v"]))
    assert not layer.training, "in train mode spectral norm moves its vectors when the weight is read"
    applied: Tensor = layer.weight  # type: ignore[assignment]
    return applied.detach()
