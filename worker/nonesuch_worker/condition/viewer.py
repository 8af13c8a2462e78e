"""A classifier that looks at a generator's images through a change of size.

The generator of Mekonnen 2024 makes 32 × 32 and its classifier takes 224 × 224: without resampling "feeding the images
directly did not result in effective conditioning".
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.snapshot import load_on_generated
from nonesuch.errors import InvalidValue
from nonesuch.offers import GeneratorInfo
from nonesuch.snapshots import SnapshotHeader
from nonesuch_worker.generators.conditioned.config import Resample


class Viewer(nn.Module):
    """Images (B, C, H, W) in [-1, 1] of any size to logits (B, K). Grey images are shown in three equal channels to a
    classifier of colours."""

    def __init__(self, classifier: nn.Module, image_shape: tuple[int, int, int], resample: Resample) -> None:
        """Takes the classifier over and freezes it. `image_shape` is the (H, W, C) that it takes."""
        super().__init__()
        self.classifier = classifier
        self._size, self._channels = image_shape[:2], image_shape[2]
        self._resample = resample
        self.eval().requires_grad_(False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if x_NCHW.shape[1] != self._channels:
            x_NCHW = x_NCHW.expand(-1, self._channels, -1, -1)
        if x_NCHW.shape[2:] != self._size:
            smooth = self._resample == "bilinear"
            x_NCHW = F.interpolate(x_NCHW, self._size, mode=self._resample, antialias=smooth)
        logits: Tensor = self.classifier(x_NCHW)
        return logits


def load_viewer(
    path: Path, what: str, info: GeneratorInfo, resample: Resample, device: torch.device
) -> tuple[SnapshotHeader, Viewer]:
    """A classifier file, or the folder of a run, for the images of a generator. Its classes are its own.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is damaged.
        InvalidValue: it takes images of other channels, or does not fit its architecture.
    """
    header, payload = read_classifier(path)
    given, wanted = info.image_shape[2], header.image_shape[2]
    if given != wanted and given != 1:
        raise InvalidValue(
            f"{what} {path} takes images of {wanted} channels and generator {info.id!r} makes {given}: name a "
            f"classifier of {given}-channel images",
            field=what,
        )
    return header, Viewer(load_on_generated(header, payload, device), header.image_shape, resample)


def class_names(header: SnapshotHeader) -> tuple[str, ...]:
    """A classifier's classes; numbered if nobody named them."""
    return header.class_names or tuple(f"class {k}" for k in range(header.classes))
