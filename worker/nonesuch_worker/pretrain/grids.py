"""A sheet of samples to look at. Looking finds a broken run early; it never ranks two that work."""

from pathlib import Path

import torch
from PIL import Image

from nonesuch.host.files import replacing
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.networks.compact import CompactGenerator
from nonesuch_worker.pretrain.randomness import RandomStream, generator_for


@torch.no_grad()
def save_grid(network: CompactGenerator, path: Path, *, columns: int = 12, seed: int = 0, scale: int = 2) -> None:
    """Write a PNG with one row for each class. The latents depend on `seed` only, so sheets of a run can be compared.

    Raises:
        OSError: the file cannot be written.
    """
    config = network.config
    z = torch.randn(config.classes * columns, config.z_dim, generator=generator_for(seed, RandomStream.GRID))
    labels = torch.arange(config.classes).repeat_interleave(columns)
    device = next(network.parameters()).device
    images = to_uint8_NHWC(network(z.to(device), labels.to(device))).cpu().numpy()  # (K * columns, H, W, C)
    side, channels = config.image_size, config.channels
    sheet = images.reshape(config.classes, columns, side, side, channels).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(config.classes * side, columns * side, channels)
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3])
    with replacing(path) as temporary:
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(temporary, "PNG")
