"""Training an input network through a frozen generator and a frozen classifier (Mekonnen 2024, Eq. 5 to 8).

    labels ─► input network ─► z = μ + σε ─► generator ─► classifier ─► cross-entropy + weight · regulariser
                    ▲                                                              │
                    └──────────────────────────── Adam ◄───────────────────────────┘

No images are needed. It waits for nothing and keeps nothing: interrupted, it leaves nothing behind.

Shapes: B = batch, K classes, Z = z_dim.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch.errors import InvalidValue
from nonesuch_worker.condition.regularisers import ModeSeeking, divergence
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.conditioned.network import InputNetwork


def train(
    base: Generator,
    classifier: nn.Module,
    classes: int,
    config: ConditionConfig,
    advance: Callable[[int], None] = lambda more: None,
) -> InputNetwork:
    """An input network for `classes` labels, in eval mode, frozen, on the generator's device.

    The same arguments give the same network on the same machine; torch's global random numbers stay as they are.

    Args:
        base: an unconditional generator: it is only ever given label 0.
        classifier: (B, C, H, W) in [-1, 1] to logits (B, classes), in eval mode.
        classes: K.
        config: how.
        advance: told after every iteration that one more is done.

    Raises:
        InvalidValue: the loss is no longer finite.
    """
    assert not any(module.training for module in classifier.modules()), "what is trained through is in eval mode"
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        network = InputNetwork(classes=classes, z_dim=base.info.z_dim, hidden=config.hidden).to(base.device)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, config.lr)
    rng = torch.Generator().manual_seed(config.seed)  # on the CPU, so that every device draws the same
    unconditional = torch.zeros(config.batch, dtype=torch.int64, device=base.device)

    def noise() -> Tensor:
        return torch.randn(config.batch, base.info.z_dim, generator=rng).to(base.device)

    with torch.no_grad():
        first = noise()
        mode_seeking = ModeSeeking(base(first, unconditional), first)
    with torch.enable_grad():
        for iteration in range(config.iterations):
            labels = torch.randint(classes, (config.batch // 2,), generator=rng).repeat(2).to(base.device)  # (B,)
            epsilon = noise()  # (B, Z)
            mu, sigma = (rows[labels] for rows in network.table())  # (B, Z)
            images = base(mu + sigma * epsilon, unconditional)
            loss = F.cross_entropy(classifier(images), labels)
            if config.strength:
                if config.regulariser == "entropy":
                    penalty = divergence(mu, sigma).mean()
                else:
                    penalty = mode_seeking(images, epsilon, labels)
                loss = loss + config.strength * penalty
            if not torch.isfinite(loss):
                raise InvalidValue(
                    f"the loss is {loss.item()} at iteration {iteration + 1}: lower lr {config.lr:g} or the weight "
                    f"{config.strength:g}"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss, inputs=parameters)  # generator and classifier get no gradient, frozen or not
            optimizer.step()
            advance(1)
    return network.eval().requires_grad_(False)
