"""The files of pytorch-pretrained-biggan: found, read, and held against what is made of them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_pretrained_biggan import BigGAN
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.weights.checkpoints import read_pickle
from nonesuch_worker.generators.biggan.folder import CONFIG, SAFE_WEIGHTS, UPSTREAM_WEIGHTS, BigGANFolder
from nonesuch_worker.generators.biggan.loading import BigGANGenerator
from nonesuch_worker.generators.biggan.options import BigGANOptions
from nonesuch_worker.latents import latents

TRUNCATIONS = (0.14, 0.5, 1.0)
"""The truncations to compare at. At the first one upstream reads a neighbouring row of its statistics, by rounding."""
TOLERANCE = 2e-3
"""How far a pixel in [-1, 1] may be from upstream's: a quarter of the step between two values of a pixel in 0..255."""
SEED = 0
CPU = torch.device("cpu")


@dataclass(frozen=True)
class UpstreamFiles:
    """A configuration and the weights that go with it."""

    config: Path
    weights: Path

    @property
    def pickled(self) -> bool:
        """Whether the weights are a pickle."""
        return self.weights.suffix != ".safetensors"

    @property
    def name(self) -> str:
        """What to call the generator if nobody says: upstream's prefix, or else the folder's name."""
        prefix = self.weights.name.removesuffix(UPSTREAM_WEIGHTS).rstrip("-")
        return prefix if prefix and prefix != self.weights.name else self.weights.resolve().parent.name


@dataclass(frozen=True)
class Agreement:
    """How far our images were from upstream's: the largest difference of a pixel in [-1, 1] at each truncation."""

    truncations: tuple[float, ...]
    classes: tuple[int, ...]
    compatible: tuple[float, ...]
    """The differences with `upstream_compatible`: rounding, at most `TOLERANCE`."""
    interpolated: tuple[float, ...]
    """The differences with statistics interpolated as they should be: rounding where upstream reads the right row."""


def find_upstream(path: Path) -> UpstreamFiles:
    """The files that a folder or a file of weights stands for.

    The configuration is beside the weights: `config.json`, or `NAME-config.json` where these are
    `NAME-pytorch_model.bin`, as upstream names its downloads. In upstream's cache, which has hashes for names, both are
    found by the URL in the JSON file beside each.

    Raises `GeneratorNotFound`.
    """
    if path.is_dir():
        candidates = [path / SAFE_WEIGHTS, path / UPSTREAM_WEIGHTS, *sorted(path.glob(f"*-{UPSTREAM_WEIGHTS}"))]
        there = [weights for weights in candidates if weights.is_file()]
        if not there:
            raise GeneratorNotFound(
                f"{path} holds no generator: there is no card.json, and no {SAFE_WEIGHTS} or {UPSTREAM_WEIGHTS}"
            )
        path = there[0]
    if not path.is_file():
        raise GeneratorNotFound(f"{path} does not exist: name a folder, or upstream's file of weights")
    beside = path.with_name(path.name.removesuffix(UPSTREAM_WEIGHTS) + CONFIG)
    for config in (beside, _cached_config(path), path.with_name(CONFIG)):
        if config is not None and config.is_file():
            return UpstreamFiles(config, path)
    raise GeneratorNotFound(f"{path} comes without its configuration: put upstream's {CONFIG} beside it")


def _cached_config(weights: Path) -> Path | None:
    """The configuration of weights in upstream's cache, where `HASH.json` holds the URL of `HASH`."""
    if not weights.with_name(f"{weights.name}.json").is_file():
        return None
    urls = {}
    for about in weights.parent.glob("*.json"):
        try:
            urls[str(json.loads(about.read_bytes())["url"])] = about.with_suffix("")
        except (ValueError, LookupError, TypeError):
            continue
    url = next((url for url, file in urls.items() if file == weights), "")
    return urls.get(url.removesuffix(UPSTREAM_WEIGHTS) + CONFIG)


def read_weights(files: UpstreamFiles, sha256: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, on the CPU, and its sha256. A pickle is read without running anything that it holds.

    Raises:
        IntegrityError: the file does not have the sha256 asked for; it is not opened then.
        InvalidValue: it is damaged, or holds anything but tensors by name.
    """
    path = files.weights
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise IntegrityError(f"{path} has sha256 {digest}, not {sha256}: it is damaged or another file, fetch it again")
    if files.pickled:
        return read_pickle(path), digest
    try:
        return load_file(path), digest
    except SafetensorError as error:
        raise InvalidValue(f"{path} is not a file of weights: {error}. Is it complete? Copy it again") from error


def compare(upstream: BigGAN, folder: Path, advance: Callable[[int], None] = lambda more: None) -> Agreement:
    """Hold the generator in `folder` against upstream's own network with the original tensors.

    Args:
        upstream: that network, in eval mode on the CPU.
        folder: what was made of its tensors.
        advance: is told after each of `len(TRUNCATIONS)` comparisons.

    Raises:
        IntegrityError: a tensor differs in a bit, or the images of `upstream_compatible` by more than `TOLERANCE`.
        InvalidValue: the network cannot make any.
    """
    config = upstream.config
    model, info = BigGANFolder(folder).load()
    kept = model.state_dict()
    for name, tensor in upstream.state_dict().items():
        if not torch.equal(kept[name], tensor):
            raise IntegrityError(f"{folder} has other numbers than upstream in tensor {name}: convert it again")
    compatible = BigGANGenerator(model, info, CPU, BigGANOptions(compatible=True))
    interpolated = BigGANGenerator(model, info, CPU)
    classes = tuple(sorted({0, config.num_classes // 2, config.num_classes - 1}))
    labels = torch.tensor(classes)
    differences = []
    others = []
    for truncation in TRUNCATIONS:
        z = torch.from_numpy(latents(SEED, np.arange(len(classes)), config.z_dim, truncation=truncation))
        one_hot = torch.nn.functional.one_hot(labels, config.num_classes).float()
        with torch.no_grad():
            try:
                theirs = upstream(z, one_hot, truncation)
            except RuntimeError as error:  # layers whose channels do not fit together are found out here
                raise InvalidValue(f"upstream's {CONFIG} describes a network that cannot mint: {error}") from error
            ours, other = compatible(z, labels, truncation), interpolated(z, labels, truncation)
        differences.append(float((ours - theirs).abs().max()))
        if not differences[-1] <= TOLERANCE:  # nor if it is not a number
            raise IntegrityError(
                f"{folder} does not make upstream's images: at truncation {truncation}, classes {classes}, "
                f"pixels differ by up to {differences[-1]:.3g}, and rounding explains no more than {TOLERANCE}"
            )
        others.append(float((other - theirs).abs().max()))
        advance(1)
    return Agreement(TRUNCATIONS, classes, tuple(differences), tuple(others))
