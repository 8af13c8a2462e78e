"""The network that the metrics see images through: any classifier file, or the one that ships.

The shipped one (`nonesuch train trainer/configs/features.toml` makes it) is a third network: it has its own seed and
has learned from its own half of Fashion-MNIST's training images, so it is neither the teacher that filters nor a
classifier that is mined, and half of the real images and the whole validation split are new to it.

Legend: N images of H×W×C pixels, d features, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.classifiers.spec import Normalisation
from nonesuch.errors import InvalidValue
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.seeds import numpy_rng
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.sources.real import balanced_rows

SHIPPED = Path(__file__).parent / "weights" / "fashion-mnist" / "features.safetensors"
_SEED, _SEEN = 7, 27_500  # of the shipped network's config: they say which images it has learned from
_BATCH = 500


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees in N images."""

    features: NDArray[np.float64]
    """The features of each image, (N, d)."""
    probabilities: NDArray[np.float64]
    """The probabilities of the classes for each image, (N, K)."""


FeatureNetwork = Callable[[NDArray[np.uint8]], Seen]
"""Images (N, H, W, C) uint8 to what is seen in them. Anything that does this will do for the metrics."""


class ClassifierFeatures:
    """A `FeatureNetwork` of a classifier: its features are what its last linear layer sees."""

    def __init__(
        self, header: SnapshotHeader, network: nn.Module, device: torch.device | str = "cpu", *, shipped: bool = False
    ) -> None:
        """Takes the network over. Raises `InvalidValue` if it has no linear layer."""
        linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise InvalidValue(f"architecture {header.architecture!r} has no linear layer whose input are features")
        self.header = header
        self._shipped = shipped
        self._network = network.to(device).eval()
        self._device = torch.device(device)
        self._normalisation = Normalisation(mean=header.mean, std=header.std)
        self._features = torch.empty(0)
        linears[-1].register_forward_pre_hook(self._keep)

    @classmethod
    def load(cls, path: Path | None = None, device: torch.device | str = "cpu") -> Self:
        """The network of a classifier file or a run's folder; None is the shipped one.

        Raises what `read_classifier` raises.
        """
        header, payload = read_classifier(path or SHIPPED)
        return cls(header, load_snapshot(header, payload), device, shipped=path is None)

    def check(self, image_shape: tuple[int, int, int], class_names: tuple[str, ...], what: str) -> None:
        """Raises `InvalidValue` unless `what` has images of this network's shape and classes."""
        if not self.knows(image_shape, class_names):
            header = self.header
            raise InvalidValue(
                f"the feature network sees {header.image_shape} of {', '.join(header.class_names[:3])}, …, and {what} "
                f"has {image_shape} of {', '.join(class_names[:3])}, …: name a classifier of such images by --features"
            )

    def knows(self, image_shape: tuple[int, int, int], class_names: tuple[str, ...]) -> bool:
        """Whether it has learned from images of this shape and these classes."""
        return image_shape == self.header.image_shape and self.header.class_names in ((), class_names)

    def unseen(self, real: RealImages) -> NDArray[np.int64]:
        """The rows, ascending, of Fashion-MNIST's training split that the shipped network has not learned from. Of
        another network nobody knows them: all rows."""
        rows = np.arange(len(real))
        if not self._shipped:
            return rows
        seen = balanced_rows(real.labels, _SEEN, numpy_rng(_SEED, "subset"))
        left: NDArray[np.int64] = np.setdiff1d(rows, seen)
        return left

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> Seen:
        features, probabilities = [], []
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start : start + _BATCH]).to(self._device)  # (B, H, W, C)
            logits = self._network(input_tensor(batch, self._normalisation))  # (B, K)
            features.append(self._features.double().cpu().numpy())  # (B, d)
            probabilities.append(logits.double().softmax(dim=1).cpu().numpy())
        return Seen(np.concatenate(features), np.concatenate(probabilities))

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (self._features,) = inputs
