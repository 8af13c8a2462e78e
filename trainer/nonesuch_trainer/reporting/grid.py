"""Images of a dataset as a picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nonesuch.host.files import replacing

MAX_ROWS = 20


def save_grid(path: Path, images_NHWC: Tensor, labels: Tensor, columns: int = 16) -> None:
    """Write a PNG with one row for each of the first `MAX_ROWS` classes: its first `columns` images.

    Args:
        images_NHWC: (N, H, W, C) uint8, of 1 or 3 channels.
        labels: (N,) integers.
    """
    _, h, w, c = images_NHWC.shape
    classes = torch.unique(labels).tolist()[:MAX_ROWS]
    canvas = np.zeros((len(classes), h, columns, w, c), np.uint8)
    for row, label in enumerate(classes):
        chosen = images_NHWC[labels == label][:columns].cpu().numpy()  # (n, H, W, C)
        canvas[row, :, : len(chosen)] = chosen.transpose(1, 0, 2, 3)
    pixels = canvas.reshape(len(classes) * h, columns * w, c)
    with replacing(path) as temporary:
        Image.fromarray(pixels.squeeze(2) if c == 1 else pixels).save(temporary, format="PNG")
