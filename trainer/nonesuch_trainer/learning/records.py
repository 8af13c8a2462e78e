"""What is kept of each epoch."""

from nonesuch.model import Frozen


class EpochRecord(Frozen):
    """What one epoch did. Times are in seconds, accuracies and losses of the images as they were shown."""

    epoch: int
    """Epochs that are trained, this one included: also the version of its snapshot."""
    step: int
    """Optimiser steps so far."""
    learning_rate: float
    """At the epoch's last step."""
    loss: float
    """Mean cross-entropy over the epoch."""
    train_accuracy: float
    """In [0, 1], in train mode, over the epoch."""
    accuracy: float | None = None
    """In [0, 1], on the real images that judge; None in an epoch that was not judged."""
    ordered: int = 0
    """Fresh images that were ordered."""
    replaced: int = 0
    """Images that were replaced after the epoch (in `collecting.jsonl`: that were added)."""
    r: float = 0.0
    """The fraction that they were of the images that may be replaced: what was achieved, whatever was asked for."""
    short: int = 0
    """Of those ordered, images that their strategy could not make."""
    tried: int = 0
    """Latents that a choosy strategy tried for them."""
    wrong_label: int = 0
    """Of these, rejected because the teacher took the image for another class."""
    below_threshold: int = 0
    """Of these, rejected because it was not sure enough."""
    shares: dict[int, float] | None = None
    """By label, the fraction of the dataset that is of a class after the epoch's replacement; None without quotas."""
    age: int | None = None
    """Of the oldest batch that came in: this epoch's snapshot version less the one that it was aimed at."""
    train_s: float
    evaluate_s: float = 0.0
    mint_s: float = 0.0
    """From placing the order to its last batch."""
    wait_s: float = 0.0
    """For which the trainer had nothing to do but wait for batches."""

    @property
    def line(self) -> str:
        """For people."""
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
