"""Is a generator what it says it is? It is loaded strictly, and mints."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nonesuch.errors import IntegrityError, NonesuchError
from nonesuch.offers import GeneratorInfo
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.card import CARD
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import latents

SEED = 0
CLEARANCE = 1e-6
"""How far beyond [-1, 1] a pixel may lie by rounding."""


@dataclass(frozen=True)
class Verdict:
    """What was found out about one generator."""

    source: str
    info: GeneratorInfo | None = None
    fault: str = ""
    """Why it cannot be used, with the file or the tensor; empty if it can."""
    carded: bool = True
    """Whether it has a card, whose sha256 was compared."""


def verify(source: str, device: torch.device | str = "cpu") -> Verdict:
    """Load a generator (which checks sha256 and every tensor) and have it mint, as `check_images` says."""
    try:
        generator = load_generator(source, device)
        check_images(generator)
    except (NonesuchError, OSError) as error:
        return Verdict(source, fault=str(error))
    folder = Path(source)
    return Verdict(source, generator.info, carded=not folder.is_dir() or (folder / CARD).is_file())


def check_images(generator: Generator) -> None:
    """Have a generator mint two images twice, of its first and its last class, and look at them.

    Raises `IntegrityError` if there are none, or if they are not of the shape it announces, not finite, not in [-1, 1],
    or not the same.
    """
    info = generator.info
    z = torch.from_numpy(latents(SEED, np.arange(2), info.z_dim)).to(generator.device)
    labels = torch.tensor([0, len(info.class_names) - 1], device=generator.device)
    with torch.no_grad():
        try:
            first, again = generator(z, labels), generator(z, labels)
        except RuntimeError as error:
            raise IntegrityError(f"generator {info.id!r} cannot mint: {error}") from error
    height, width, channels = info.image_shape
    if first.shape != (2, channels, height, width):
        raise IntegrityError(
            f"generator {info.id!r} mints {tuple(first.shape[1:])} (C, H, W), not the "
            f"{(channels, height, width)} that it announces"
        )
    if not torch.isfinite(first).all():
        raise IntegrityError(f"generator {info.id!r} mints images that are not finite")
    if first.abs().max() > 1 + CLEARANCE:
        raise IntegrityError(
            f"generator {info.id!r} mints pixels from {first.min():.3g} to {first.max():.3g}, not within [-1, 1]"
        )
    if not torch.equal(first, again):
        raise IntegrityError(
            f"generator {info.id!r} mints another image each time: the largest difference is "
            f"{(first - again).abs().max():.3g}. A sample may depend on its own latent and label alone"
        )
