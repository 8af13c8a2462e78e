"""The classifier that is mined and the teacher that watches, from files."""

from pathlib import Path

import torch
from torch import nn

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.snapshot import load_on_generated
from nonesuch.errors import InvalidValue
from nonesuch.offers import GeneratorInfo
from nonesuch.snapshots import SnapshotHeader, misfit


def load_judge(path: Path, what: str, info: GeneratorInfo, device: torch.device) -> tuple[SnapshotHeader, nn.Module]:
    """A classifier of a generator's images: (B, C, H, W) in [-1, 1] to logits (B, K), in eval mode, frozen.

    Args:
        path: a classifier file, or the folder of a run.
        what: what it is called in a message.
        info: the generator's.
        device: where to.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is damaged.
        InvalidValue: it takes other images than the generator makes, or knows other classes.
    """
    header, payload = read_classifier(path)
    if reason := misfit(header, info):
        raise InvalidValue(f"{what} {path} {reason}", field=what)
    return header, load_on_generated(header, payload, device)
