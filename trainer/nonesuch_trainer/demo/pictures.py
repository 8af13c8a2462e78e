"""The demo's pictures: a grid of minted images and the learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from nonesuch_trainer.demo.arms import TITLES
from nonesuch_trainer.events import EpochRecord

COLOURS = {"fixed_random": "#c2571a", "smoothing": "#1a6fc2", "real": "#555555"}


def save_grid(images_NHWC: NDArray[np.uint8], path: Path, *, columns: int, scale: int = 2) -> None:
    """Write (N, H, W, C) images as one PNG, row by row, each pixel `scale` pixels wide."""
    n, h, w, c = images_NHWC.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, c), np.uint8)
    sheet[:n] = images_NHWC
    sheet = sheet.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c)
    picture = Image.fromarray(sheet.squeeze(-1) if c == 1 else sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(partial, "PNG")
    partial.replace(path)


def save_curves(histories: Mapping[str, Sequence[EpochRecord]], path: Path) -> None:
    """Write accuracy on real images over the epochs, a line for each arm, as a PNG."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for arm, history in histories.items():
        judged = [record for record in history if record.accuracy is not None]
        accuracies = [100 * (record.accuracy or 0.0) for record in judged]
        label = f"{TITLES[arm]}: {accuracies[-1]:.1f} %"
        axes.plot([record.epoch for record in judged], accuracies, color=COLOURS[arm], label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on real images (%)")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    partial = path.with_suffix(".tmp")
    figure.savefig(partial, format="png", dpi=150)
    partial.replace(path)
