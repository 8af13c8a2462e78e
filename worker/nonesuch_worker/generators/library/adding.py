"""Add a generator to the library: from its folder with a card, or from the files of pytorch-pretrained-biggan.

What is added is verified where it will stay, before it gets its name: nothing of a generator that fails, or of a copy
that is interrupted, can be loaded.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors.torch import save

from nonesuch.config import validated
from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.host.files import write_atomically, write_json
from nonesuch.labels import ClassNames
from nonesuch.model import Frozen, Name
from nonesuch.offers import GeneratorInfo
from nonesuch_worker.generators.biggan.folder import (
    CLASS_NAMES,
    CONFIG,
    FORMAT,
    SAFE_WEIGHTS,
    build,
    config_of,
    declared_names,
    load_strictly,
    read_json,
)
from nonesuch_worker.generators.biggan.upstream import Agreement, UpstreamFiles, compare, find_upstream, read_weights
from nonesuch_worker.generators.card import CARD, MAX_SIGMA, read_card
from nonesuch_worker.generators.library.verifying import check_images
from nonesuch_worker.generators.load import families, load_generator, packaged
from nonesuch_worker.generators.places import library, library_folder, staged


class Said(Frozen):
    """What a person says about a generator that is added; it goes before what its files say."""

    name: Name | None = None
    license: str | None = Field(default=None, min_length=1)
    class_names: ClassNames | None = None
    source: str | None = Field(default=None, min_length=1)
    """The source of the weights: where they come from. A pickle needs it."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    """The sha256 that the file of weights must have."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a card that are given."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"sha256"})


@dataclass(frozen=True)
class Added:
    """A generator that is in the library now."""

    folder: Path
    info: GeneratorInfo
    agreement: Agreement | None
    """How far its images are from upstream's, where the generator is upstream's."""


def add_generator(path: Path, said: Said | None = None, advance: Callable[[int], None] = lambda more: None) -> Added:
    """Verify a generator and put it into the library.

    Args:
        path: a folder with a card; or with `config.json` and upstream's `pytorch_model.bin` or `model.safetensors`; or
            one of these files of weights.
        said: what goes before what the files say.
        advance: is told after each of `len(upstream.TRUNCATIONS)` comparisons with upstream.

    Raises:
        GeneratorNotFound: there is no generator at `path`.
        IntegrityError: a sha256 is another, or its images are not what they should be.
        InvalidValue: the name is taken or cannot be one, a pickle comes without its source, or a file or tensor cannot
            be used; it is named.
    """
    said = said or Said()
    folder = _carded(path)
    fill: Callable[[Path, str, Said], Agreement | None]
    if folder is not None:
        name = _free(said.name or read_card(folder).get("name") or folder.resolve().name)
        fill = partial(_copy, folder)
    else:
        files = find_upstream(path)
        name = _free(said.name or files.name)
        fill = partial(_convert, files, advance)
    with staged(library_folder() / name) as new:
        agreement = fill(new, name, said)
        generator = load_generator(str(new))
        check_images(generator)
    return Added(library_folder() / name, generator.info, agreement)


def _carded(path: Path) -> Path | None:
    """The folder that a path stands for if it has a card and no pickle has to be converted, or None."""
    folder = path if path.is_dir() else path.parent
    if not (folder / CARD).is_file() or path.suffix == ".bin":
        return None
    family = read_card(folder).get("family")
    if family is None or (family == "biggan" and not (folder / SAFE_WEIGHTS).is_file()):
        return None
    return folder


def _free(name: str) -> str:
    """The name, if it can be one that nobody has. Raises `InvalidValue`."""
    validated(Said, {"name": name}, f"the name {name!r} (--name gives another)")
    places = {"family": families(), "packaged generator": packaged(), "generator in the library": library()}
    for place, taken in places.items():
        if name in taken:
            raise InvalidValue(f"the name {name!r} is taken by a {place}: choose another with --name")
    return name


def _copy(folder: Path, new: Path, name: str, said: Said) -> None:
    """Copy a folder with a card whole, its card changed where the person says so."""
    card = read_card(folder)
    generator = load_generator(str(folder.resolve()))  # a fault is reported where it can be mended
    if said.sha256 is not None and said.sha256.lower() != card.get("sha256"):
        raise IntegrityError(f"the weights in {folder} have sha256 {card.get('sha256')}, not {said.sha256}")
    _check_class_names(said, len(generator.info.class_names))
    shutil.copytree(folder, new, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    _write_card(new, {**card, **said.fields, "name": name})


def _convert(files: UpstreamFiles, advance: Callable[[int], None], new: Path, name: str, said: Said) -> Agreement:
    """Write upstream's weights as safetensors with a card, and compare what they make with upstream's images."""
    if files.pickled and said.source is None:
        raise InvalidValue(
            f"{files.weights} is a pickle from an unnamed source: say with --source where it comes from, a URL for "
            "example; the card will keep it"
        )
    config = config_of(read_json(files.config, dict), str(files.config))
    _check_class_names(said, config.num_classes)
    names = declared_names(files.weights.parent, config.num_classes)
    tensors, digest = read_weights(files, said.sha256)
    upstream = build(config, str(files.config))
    load_strictly(upstream, tensors, str(files.weights))
    data = save({key: tensor.clone().contiguous() for key, tensor in tensors.items()})
    write_atomically(new / SAFE_WEIGHTS, data)
    write_atomically(new / CONFIG, config.to_json_string().encode())
    named = names or [f"class {k}" for k in range(config.num_classes)]
    card = {
        "format": FORMAT,
        "family": "biggan",
        "name": name,
        "description": f"BigGAN-deep {config.output_dim} px, {config.num_classes} classes",
        "license": "unknown",
        "architecture": json.loads(config.to_json_string()),
        "z_dim": config.z_dim,
        "image_shape": [config.output_dim, config.output_dim, 3],
        "image_range": [-1.0, 1.0],
        "class_names": validated(Said, {"class_names": named}, str(files.weights.with_name(CLASS_NAMES))).class_names,
        "real_information": "labelled",
        "max_sigma": MAX_SIGMA["biggan"],
        **said.fields,
        "converted_from": {"file": files.weights.name, "sha256": digest},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    _write_card(new, {**card, "name": name})
    agreement = compare(upstream, new, advance)
    checked = {"package": f"pytorch-pretrained-biggan {version('pytorch-pretrained-biggan')}", **asdict(agreement)}
    _write_card(new, {**card, "name": name, "verified": checked})
    return agreement


def _check_class_names(said: Said, classes: int) -> None:
    if said.class_names is not None and len(said.class_names) != classes:
        raise InvalidValue(
            f"{len(said.class_names)} class names are given and the generator has {classes} classes: give one for each"
        )


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    write_json(folder / CARD, card)
