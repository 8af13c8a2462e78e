"""Stochastic gradient descent with momentum, and its learning rate as a function of the step alone."""

import torch
from torch import nn

from nonesuch_trainer.settings.config import Optimiser


def make_optimiser(model: nn.Module, config: Optimiser) -> torch.optim.SGD:
    """SGD over every parameter of the model, batch norm's included, as in the paper."""
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: Optimiser, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """The rate for the step counted from 0 over the whole run."""
    passed = sum(step >= milestone * epochs * steps_per_epoch for milestone in config.milestones)
    warmup = config.warmup_epochs * steps_per_epoch
    return config.lr * config.decay**passed * min(1.0, (step + 1) / max(warmup, 1.0))
