"""The moving average of a generator's weights, and the BN statistics that fit it.

Averaged weights with the live network's running statistics are a network that nobody trained: the statistics are made
anew by forward passes ("standing statistics", Brock et al. 2019, appendix C.1).
"""

from copy import deepcopy

import torch
from torch import nn

from nonesuch_worker.networks.compact import CompactGenerator
from nonesuch_worker.pretrain.randomness import RandomStream, draw_latents, generator_for


class Ema:
    """Keeps `average`, a second generator whose parameters trail the live one's."""

    def __init__(self, live: CompactGenerator, decay: float) -> None:
        self.decay = decay
        self.average = deepcopy(live).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, live: CompactGenerator, updates: int) -> None:
        """Move towards `live`, after `updates` earlier calls. The decay warms up: min(decay, (1 + n) / (10 + n))."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for average, weight in zip(self.average.parameters(), live.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for copy, buffer in zip(self.average.buffers(), live.buffers(), strict=True):
            copy.copy_(buffer)


@torch.no_grad()
def recompute_statistics(network: CompactGenerator, *, batches: int, batch: int, seed: int) -> None:
    """Set every BN layer's running statistics to the plain mean over `batches` passes of `batch` random samples.

    Latents are N(0, I) and labels even, drawn from `seed`: the same call gives the same statistics. Leaves the network
    in eval mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    network.eval()  # spectral norm must not move
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's name for a cumulative average
        norm.train()
    for i in range(batches):
        rng = generator_for(seed, RandomStream.STANDING, i)
        z, labels = draw_latents(batch, network.config.z_dim, network.config.classes, rng)
        network(z.to(device), labels.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
