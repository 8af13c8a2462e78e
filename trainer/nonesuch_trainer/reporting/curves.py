"""Learning curves as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.reporting.figures import new_figure, save_figure


def save_curves(path: Path, runs: Mapping[str, Sequence[EpochRecord]]) -> None:
    """Write a PNG with the runs' accuracy on real images and their training loss, by epoch."""
    figure = new_figure(10, 4)
    accuracy, loss = figure.subplots(1, 2, sharex=True)
    for name, history in runs.items():
        judged = [record for record in history if record.accuracy is not None]
        percent = [100 * (record.accuracy or 0.0) for record in judged]
        accuracy.plot([record.epoch for record in judged], percent, marker=".", label=name)
        loss.plot([record.epoch for record in history], [record.loss for record in history], marker=".", label=name)
    accuracy.set(title="real images", xlabel="epoch", ylabel="accuracy in %")
    loss.set(title="training images", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    for axes in (accuracy, loss):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)
