"""An exported generator: a folder with `generator.safetensors` and `card.json`.

The card says what the weights are: architecture, data and split, the whole recipe, seed, metrics (and those of the
run's earlier exports, its curve) and the sha256 of the weights. It is written last, so a folder with a card is whole.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save

from nonesuch.host.files import write_atomically, write_json
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch_worker.generators.compact.folder import CARD, FORMAT, WEIGHTS
from nonesuch_worker.networks.compact import CompactGenerator
from nonesuch_worker.pretrain.config import FASHION_MNIST, PretrainConfig


def export_generator(
    network: CompactGenerator,
    folder: Path,
    *,
    config: PretrainConfig,
    iterations: int,
    real: RealImages,
    metrics: Mapping[str, float],
    fingerprint: Fingerprint | None = None,
    missing: Mapping[str, str] | None = None,
) -> Path:
    """Write the weights of a network in eval mode (spectral norm folded in) and their card; returns the folder.

    `fingerprint` is that of the real images, taken here if it is not given. `missing` says, by the name of a metric,
    why it leaves classes out or could not be taken.
    """
    plain = _plain(network)
    data = save({name: tensor.contiguous() for name, tensor in plain.state_dict().items()})
    fingerprint = fingerprint or Fingerprint.taken(real)
    kind = "class-conditional" if config.conditional else "unconditional"
    known = "MIT, Zalando SE" if config.data == FASHION_MNIST else "unknown: set `data_license` in the config"
    height, width, channels = real.images.shape[1:]
    card = {
        "format": FORMAT,
        "family": "compact",
        "name": config.generator_id,
        "description": f"{kind} BigGAN-style generator, {iterations:,} iterations on {real.name}",
        "license": "Apache-2.0",
        "architecture": plain.config.model_dump(mode="json"),
        "parameters": sum(parameter.numel() for parameter in plain.parameters()),
        "z_dim": plain.config.z_dim,
        "latents": "normal",
        "image_shape": [height, width, channels],
        "image_range": [-1.0, 1.0],
        "class_names": list(real.class_names),
        "data": {
            "name": real.name,
            "images": len(real),
            "licence": config.data_license or known,
            "fingerprint": fingerprint.model_dump(mode="json", exclude={"class_names", "image_shape"}),
        },
        "real_information": "labelled" if config.conditional else "unlabelled",
        "recipe": config.model_dump(mode="json"),
        "seed": config.seed,
        "iterations": iterations,
        "metrics": dict(metrics),
        **({"missing": dict(missing)} if missing else {}),
        "curve": _curve(folder.parent, config, iterations, fingerprint),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, data)
    write_json(folder / CARD, card)
    return folder


def _curve(exports: Path, config: PretrainConfig, iterations: int, real: Fingerprint) -> list[dict[str, Any]]:
    """The metrics of the exports that this run made on its way here, a row for each, in order."""
    rows: list[dict[str, Any]] = []
    for path in exports.glob(f"[0-9]*/{CARD}"):  # a run names its exports by their iterations
        card = json.loads(path.read_bytes())
        try:
            theirs = PretrainConfig.model_validate(card["recipe"])
        except ValidationError:
            continue  # of another version, so of another run
        known = card.get("data", {}).get("fingerprint")
        if known is not None and known["digest"] != real.digest:
            continue  # of a run on other images
        done = card["iterations"]
        if done < iterations and not config.differing(theirs) and config.same_rates(theirs, done):
            rows.append({"iteration": done, **card["metrics"]})
    return sorted(rows, key=lambda row: row["iteration"])


def _plain(network: CompactGenerator) -> CompactGenerator:
    """The same network in eval mode, with its normalised weights as plain ones."""
    plain = CompactGenerator(network.config.model_copy(update={"spectral_norm": False})).eval()
    with torch.no_grad():
        for key, tensor in plain.state_dict().items():
            owner, _, leaf = key.rpartition(".")
            tensor.copy_(getattr(network.get_submodule(owner), leaf))
    return plain
