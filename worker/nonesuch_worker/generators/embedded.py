"""The family `compact`: the generators that this project trains, one of which ships with it."""

from pathlib import Path

import torch
from torch import Tensor

from nonesuch.catalog import GeneratorInfo
from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.compact import CompactGenerator
from nonesuch_worker.generators.compact_folder import load_compact

MAX_SIGMA = 2.0
"""It was trained at σ = 1. Images of a wider latent are more varied and worse; beyond 2 they are no longer images."""


class EmbeddedGenerator:
    """A `CompactGenerator` behind the protocol `Generator`."""

    def __init__(self, network: CompactGenerator, info: GeneratorInfo, device: torch.device) -> None:
        """Takes the network over: freezes it and moves it, in the memory format that convolutions are fastest in."""
        self.info = info
        self.device = device
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.to(device).eval().requires_grad_(False)

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """See `Generator`. `truncation` changes nothing here: the network has one set of statistics."""
        x: Tensor = self._network(z, labels)
        return x


def load(argument: str, device: torch.device) -> Generator:
    """The loader of `compact:FOLDER`. Raises what `load_compact` raises, and `InvalidValue` for an incomplete card."""
    network, card = load_compact(Path(argument))
    side = network.config.image_size
    described = {
        "id": card.get("name"),
        "family": "compact",
        "sha256": card["sha256"],
        "image_shape": (side, side, network.config.channels),
        "class_names": card.get("class_names"),
        "z_dim": network.config.z_dim,
        "max_sigma": MAX_SIGMA,
        "license": card.get("license", "unknown"),
        "real_information": card.get("real_information"),
        "description": card.get("description", ""),
    }
    info = validated(GeneratorInfo, described, f"the card in {argument!r}")
    if len(info.class_names) != network.config.classes:
        raise InvalidValue(
            f"the card in {argument!r} names {len(info.class_names)} classes and the network has "
            f"{network.config.classes}: make them equal"
        )
    return EmbeddedGenerator(network, info, device)
