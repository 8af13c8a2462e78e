"""A sheet of images to look at."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.conditioned.loading import ConditionedGenerator
from nonesuch_worker.latents import latents


@torch.no_grad()
def save_sheet(generator: ConditionedGenerator, path: Path, *, columns: int = 12, seed: int = 0) -> None:
    """Write a PNG with a row for each class. Every row has the same ε, so that columns can be compared."""
    height, width, channels = generator.info.image_shape
    epsilon = torch.from_numpy(latents(seed, np.arange(columns), generator.info.z_dim)).to(generator.device)
    rows = []
    for label in range(len(generator.info.class_names)):
        images = generator(epsilon, torch.full((columns,), label, device=generator.device))
        row = to_uint8_NHWC(images).cpu().numpy()  # (columns, H, W, C)
        rows.append(row.transpose(1, 0, 2, 3).reshape(height, columns * width, channels))
    sheet = np.concatenate(rows)
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3]).save(path)
