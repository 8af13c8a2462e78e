"""The family `compact`: the generators that this project trains, one of which ships with it."""

from pathlib import Path

import torch
from torch import Tensor

from nonesuch.catalog import GeneratorInfo
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.card import info_of
from nonesuch_worker.generators.compact import CompactGenerator
from nonesuch_worker.generators.compact_folder import load_compact


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
    info = info_of(
        card,
        f"the card in {argument!r}",
        family="compact",
        sha256=card["sha256"],
        image_shape=(side, side, network.config.channels),
        classes=network.config.classes,
        z_dim=network.config.z_dim,
    )
    return EmbeddedGenerator(network, info, device)
