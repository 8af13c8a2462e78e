"""The family `compact`: the generators that this project trains, some of which ship with it."""

from pathlib import Path

import torch
from torch import Tensor

from nonesuch.offers import GeneratorInfo
from nonesuch_worker.engine.compact import MintingCompact
from nonesuch_worker.generators.base import Generator, check_arguments
from nonesuch_worker.generators.card import info_of
from nonesuch_worker.generators.compact.folder import load_compact
from nonesuch_worker.networks.compact import CompactGenerator


class EmbeddedGenerator:
    """A `CompactGenerator`, in its minting form, behind the protocol `Generator`."""

    def __init__(self, network: CompactGenerator, info: GeneratorInfo, device: torch.device) -> None:
        """Rewrites the network, which is not needed any more."""
        self.info = info
        self.device = device
        self.network = MintingCompact(network, device=device)

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """Make images, as `Generator` says. `truncation` changes nothing here: the network has one set of statistics.

        Raises `InvalidValue` for latents or labels of another shape.
        """
        check_arguments(self.info, z, labels)
        x: Tensor = self.network(z, labels)
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
