"""BigGAN-deep (Brock et al. 2019) of pytorch-pretrained-biggan, from a local folder, in its minting form.

What differs from calling upstream:

- It is several times faster (`nonesuch_worker.engine`, `benchmarks/generator.py`).
- The statistics of batch normalisation depend on the truncation: upstream stores them for 0, 0.02, ..., 1 and swaps
  the weights when it interpolates between two rows. Here they are interpolated as they should be, unless
  `upstream_compatible` asks for upstream's numbers.
- Labels are indices; upstream multiplies one-hot rows with the embedding, which selects the same numbers.
- Loading is strict, from a local folder (`folder`), without a download and without a pickle.
"""

from pathlib import Path

import torch
from pytorch_pretrained_biggan import BigGAN
from torch import Tensor

from nonesuch.offers import GeneratorInfo
from nonesuch_worker.engine.biggan import MintingBigGAN
from nonesuch_worker.engine.compiling import compiled
from nonesuch_worker.engine.statistics import check_truncation
from nonesuch_worker.generators.base import Generator, check_arguments
from nonesuch_worker.generators.biggan.folder import BigGANFolder, save_biggan
from nonesuch_worker.generators.biggan.options import COMPATIBLE, BigGANOptions
from nonesuch_worker.generators.biggan.seeded import seeded_biggan
from nonesuch_worker.generators.places import find

__all__ = ["COMPATIBLE", "BigGANGenerator", "load", "save_biggan", "seeded_biggan"]


class BigGANGenerator:
    """The minting form behind the protocol `Generator`."""

    def __init__(
        self, model: BigGAN, info: GeneratorInfo, device: torch.device, options: BigGANOptions | None = None
    ) -> None:
        """Rewrites the model, which is not needed any more."""
        options = options or BigGANOptions()
        self.info = info
        self.device = device
        self.network = MintingBigGAN(model, device=device, dtype=options.dtype, rule=options.rule)
        self._run = compiled(self.network) if options.compiled else self.network

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """Make images, as `Generator` says. No truncation means the statistics of 1.

        Raises `InvalidValue` for a truncation outside of (0, 1], and for latents or labels of another shape.
        """
        truncation = check_truncation(truncation)
        check_arguments(self.info, z, labels)
        x: Tensor = self._run(z, labels, self.network.norms.statistics(truncation))
        return x


def load(argument: str, device: torch.device) -> Generator:
    """The loader of `biggan:FOLDER[,OPTION ...]`, with the options of `options`.

    FOLDER may be the name of a generator in the library.

    Raises:
        GeneratorNotFound: the folder lacks the configuration or the weights.
        IntegrityError: it has a card, which is of other weights or of another configuration.
        InvalidValue: an option is unknown; or a file of the folder cannot be used: for weights, each tensor at fault is
            named; for upstream's pickle, the command that converts it.
    """
    path, *words = [argument] if Path(argument).is_dir() else argument.split(",")
    options = BigGANOptions.parse(words, device)
    model, info = BigGANFolder(find(path) or Path(path)).load(id_suffix=options.id_suffix)
    return BigGANGenerator(model, info, device, options)
