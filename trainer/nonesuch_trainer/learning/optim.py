"""Stochastic gradient descent with momentum, and its learning rate as a function of the step alone."""

import torch
from torch import nn

from nonesuch_trainer.settings.learning import Optimiser


def make_optimiser(model: nn.Module, wanted: Optimiser) -> torch.optim.SGD:
    """SGD over every parameter of the model, batch norm's included, as in the paper."""
    return torch.optim.SGD(
        model.parameters(),
        lr=wanted.lr,
        momentum=wanted.momentum,
        nesterov=wanted.nesterov,
        weight_decay=wanted.weight_decay,
    )


def learning_rate(wanted: Optimiser, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """The learning rate for a step, counted from 0 over the whole run."""
    passed = sum(step >= milestone * epochs * steps_per_epoch for milestone in wanted.milestones)
    warmup = wanted.warmup_epochs * steps_per_epoch
    return wanted.lr * wanted.decay**passed * min(1.0, (step + 1) / max(warmup, 1.0))
