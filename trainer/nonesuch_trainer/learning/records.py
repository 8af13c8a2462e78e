"""The record that is kept of each epoch of a run."""

from nonesuch.model import Frozen


class EpochRecord(Frozen):
    """What one epoch did. Times are in seconds, accuracies and losses of the images as they were shown."""

    epoch: int
    """How many epochs are trained, this one included: also the version of the epoch's snapshot."""
    step: int
    """How many optimiser steps were done so far."""
    learning_rate: float
    """The learning rate at the epoch's last step."""
    loss: float
    """Mean cross-entropy over the epoch."""
    train_accuracy: float
    """The accuracy in [0, 1] on the training images, in train mode, over the epoch."""
    accuracy: float | None = None
    """The accuracy in [0, 1] on the real images that judge; None in an epoch that was not judged."""
    ordered: int = 0
    """How many fresh images were ordered."""
    replaced: int = 0
    """How many images were replaced after the epoch (in `collecting.jsonl`: how many were added)."""
    r: float = 0.0
    """The fraction of the replaceable images that were replaced: what was achieved, whatever was asked for."""
    short: int = 0
    """How many of the ordered images their strategy could not make."""
    tried: int = 0
    """How many latents a choosy strategy tried for the ordered images."""
    wrong_label: int = 0
    """How many of the tried latents were rejected because the teacher took the image for another class."""
    below_threshold: int = 0
    """How many of the tried latents were rejected because the teacher was not sure enough of the image."""
    shares: dict[int, float] | None = None
    """The share of each class in the dataset after the epoch's replacement, by label; None without class quotas."""
    age: int | None = None
    """The age of the oldest batch that came in: this epoch's snapshot version less the one that it was aimed at."""
    train_s: float
    evaluate_s: float = 0.0
    mint_s: float = 0.0
    """Seconds from placing the order to its last batch."""
    wait_s: float = 0.0
    """Seconds in which the trainer had nothing to do but wait for batches."""

    @property
    def line(self) -> str:
        """The record as a line for people."""
        judged = "" if self.accuracy is None else f", real {100 * self.accuracy:.2f} %"
        came = f", r {self.r:.3f} age {self.age} (waited {self.wait_s:.1f} s)" if self.ordered else ""
        if self.tried:
            came += f", kept {100 * (1 - (self.wrong_label + self.below_threshold) / self.tried):.1f} % of {self.tried}"
        if self.short:
            came += f", {self.short} short"
        return (
            f"epoch {self.epoch}: loss {self.loss:.4f}, train {100 * self.train_accuracy:.2f} %{judged}{came}, "
            f"{self.train_s:.1f} s"
        )
