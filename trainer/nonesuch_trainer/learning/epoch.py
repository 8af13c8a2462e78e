"""One epoch of learning: every image of the resident dataset once.

Legend: B images of a batch, H×W pixels, C channels, K classes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nonesuch.classifiers.narrow import to_channels_last
from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.registry import build
from nonesuch.errors import InvalidValue
from nonesuch.seeds import key, torch_rng
from nonesuch.smoothed.resident import ResidentDataset
from nonesuch_trainer.learning.augment import augment
from nonesuch_trainer.learning.optim import learning_rate
from nonesuch_trainer.settings.learning import Learning


@dataclass(frozen=True)
class Learned:
    """What an epoch of learning shows: the fields of `EpochRecord` of the same names."""

    step: int
    learning_rate: float
    loss: float
    train_accuracy: float
    train_s: float


def choose_device(named: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device to learn on. Raises `InvalidValue` when the one that is named is not there."""
    if named == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if named == "cuda" and not torch.cuda.is_available():
        raise InvalidValue("device 'cuda' is not there: torch sees no GPU; use 'cpu' or 'auto'", field="device")
    return torch.device(named)


def make_classifier(how: Learning, image_shape: tuple[int, int, int], classes: int, device: torch.device) -> nn.Module:
    """The run's classifier with the weights that its seed starts it with. Leaves torch's random numbers as they are."""
    height, _, channels = image_shape
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(key(how.seed, "weights"))
        model = build(how.classifier, in_channels=channels, classes=classes, image_size=height)
    to_channels_last(model)
    return model.to(device)


def learn(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    resident: ResidentDataset,
    how: Learning,
    epoch: int,
    between: Callable[[int, int], None],
) -> Learned:
    """Train a model in place for the epoch counted from 0, with soft labels where the dataset has them. Its
    `train_accuracy` goes by the labels in any case.

    Args:
        between: called after every step with the steps that are done of the epoch's; what it raises ends the epoch.

    Raises:
        InvalidValue: the loss is not finite.
    """
    started = time.monotonic()
    device = resident.images.device
    rng = torch_rng(how.seed, "augment", epoch)
    steps = resident.steps(how.batch_size)
    rate = 0.0
    total = torch.zeros(3, device=device)  # loss, correct, images: summed on the device, read once
    model.train()
    for i, rows in enumerate(resident.batches(epoch, how.seed, how.batch_size)):  # (B,)
        images = augment(resident.images[rows], how.augment, rng)  # (B, H, W, C) uint8
        x = input_tensor(images, how.normalisation)  # (B, C, H, W)
        y = resident.labels[rows]  # (B,)
        target = y if resident.soft is None else _probabilities(resident.soft[rows])  # (B,) or (B, K)

        rate = learning_rate(how.optimiser, epoch * steps + i, steps_per_epoch=steps, epochs=how.epochs)
        optimiser.param_groups[0]["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=how.precision == "bfloat16"):
            logits = model(x)  # (B, K)
        loss = F.cross_entropy(logits.float(), target)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()

        correct = (logits.argmax(dim=1) == y).sum()
        total += torch.stack([loss.detach() * len(rows), correct.float(), total.new_tensor(len(rows))])
        between(i + 1, steps)
    loss_sum, correct_sum, seen = total.tolist()
    if not math.isfinite(loss_sum):
        raise InvalidValue(
            f"the loss of epoch {epoch + 1} is {loss_sum}: lower optimiser.lr ({how.optimiser.lr}), or warm up",
            field="optimiser.lr",
        )
    return Learned(
        step=(epoch + 1) * steps,
        learning_rate=rate,
        loss=loss_sum / seen,
        train_accuracy=correct_sum / seen,
        train_s=time.monotonic() - started,
    )


def _probabilities(soft: Tensor) -> Tensor:
    """Soft labels (B, K) float32 that add up to 1, of the float16 in which they travelled."""
    return soft.float() / soft.float().sum(dim=1, keepdim=True)
