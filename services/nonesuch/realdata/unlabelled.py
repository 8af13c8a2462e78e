"""Real images without their labels, from wherever they lie: a folder, Parquet files, an IDX file. Nothing is fetched.

Only the images that are drawn are read (of an IDX file, which has no index, all of them). Imports numpy; Pillow and
pyarrow when an image asks for them.

Legend: N images, H×W×C pixels wanted, h×w×c pixels as found.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch.realdata import sources
from nonesuch.realdata.decoding import Canvas, OnImages, check_shape
from nonesuch.realdata.fashion_mnist import Split, load_fashion_mnist, read_idx
from nonesuch.realdata.shards import Shards
from nonesuch.realdata.splits import files_by_split, split_folders, split_of, tree_of

KINDS = f"{sources.KINDS}, or fashion-mnist/train, fashion-mnist/validation or fashion-mnist/test"
_NAMED = re.compile(r"fashion-mnist/(train|validation|test)")


@dataclass(frozen=True, eq=False)
class UnlabelledImages:
    """Images that were drawn from a source."""

    images: NDArray[np.uint8]
    """(N, H, W, C), in the source's order"""
    name: str
    """What the source is, for people: "fashion-mnist/train", or the name of the folder or file."""
    total: int
    """How many images the source has."""

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        of = "" if len(self) == self.total else f" of the {self.total:,}"
        return f"{len(self):,}{of} images of {self.name}"


def read_images(
    path: Path | str,
    image_shape: tuple[int, int, int],
    *,
    limit: int,
    seed: int,
    folder: Path | None = None,
    on_images: OnImages = lambda images: None,
) -> UnlabelledImages:
    """Read `limit` images, or all if there are fewer, drawn without replacement.

    The same source, limit and seed give the same images on every machine. Labels are not looked at. Images of another
    size are scaled until they cover H×W and cut to its middle (bilinear, with antialiasing); colours become grey, or
    grey becomes colours, as C says; what EXIF says to be turned is turned (`decoding.Canvas`).

    Args:
        path: one of
            - "fashion-mnist/train", "…/validation" or "…/test" (`load_fashion_mnist`); as a string only, a
              `Path` is always a path;
            - a folder of PNG, JPEG, BMP or WebP files, in subfolders or not; of splits (`splits`) one is named, as in
              FOLDER/train;
            - a Parquet file whose column `image` holds fixed-shape uint8 tensors as we export them, encoded images,
              or Hugging Face's {bytes, path} of such; or a folder of such files, in subfolders or not; where
              their names say that they are of several splits, as in train-00000-of-00003.parquet, FOLDER/train;
            - an IDX file of bytes, (N, h, w) or (N, h, w, c), gzipped or plain.
        image_shape: (H, W, C) wanted; C is 1 or 3.
        limit: at least 1.
        seed: of the draw, not negative.
        folder: of Fashion-MNIST's files, for its names; None is where they are found.
        on_images: told now and then how many more images were read; what it raises ends the reading.

    Raises:
        DataNotFound: there is nothing at `path`, it cannot be read, it holds no images, or a numbered shard is missing.
        InvalidValue: the arguments cannot work, or the source is of another kind.
        IntegrityError: an image is damaged (the message names its file or row), or the source is.
    """
    check_shape(image_shape)
    if limit < 1 or seed < 0:
        raise InvalidValue(f"limit {limit} with seed {seed} draws nothing: give at least 1 and 0", field="limit")
    source: sources.ImageSource
    if isinstance(path, str) and (named := _NAMED.fullmatch(path)):
        source, name = sources.Arrays(load_fashion_mnist(cast(Split, named[1]), folder).images, path), path
    else:
        path = Path(path)
        sources.check_text(path)
        source = _open(path)
        name = sources.name_of(path) if path.exists() else f"{sources.name_of(path.parent)}/{path.name}"
    rng = np.random.Generator(np.random.Philox(seed))
    rows = np.sort(rng.permutation(len(source))[:limit])
    canvas = Canvas(len(rows), image_shape, on_images)
    source.fill(canvas, rows)
    return UnlabelledImages(canvas.images, name, len(source))


def _open(path: Path) -> sources.ImageSource:
    """The images at a path. Raises what `read_images` does."""
    if path.is_dir():
        return _open_folder(path)
    folder = path.parent
    if (split := split_of(path.name)) and folder.is_dir() and not path.exists():  # of shards, or of FOLDER/Training
        images = sources.files_below(folder, sources.ENDINGS)
        if root := split_folders(folder, tree_of(folder, images)).get(split):
            return _open_folder(root)
        if found := files_by_split(folder, sources.files_below(folder, (sources.PARQUET,))).get(split):
            return Shards(found)
    match sources.first_bytes(path, KINDS):
        case b"PAR1":
            return Shards([path])
        case start if sources.is_idx(start):
            return sources.Arrays(read_idx(path), str(path))
        case start:
            raise InvalidValue(
                f"{path} is neither a folder of images nor a Parquet or IDX file (it starts with "
                f"{start.hex() or 'nothing'}): name one of these, or fashion-mnist/train"
            )


def _open_folder(folder: Path) -> sources.ImageSource:
    images, shards = sources.files_in(folder)
    if images:
        roots = split_folders(folder, tree_of(folder, images))
        if len(roots) > 1:
            raise InvalidValue(
                f"{folder} holds images of {', '.join(roots)}: name one of them, as in {next(iter(roots.values()))}"
            )
        return sources.ImageFiles(images)
    found = files_by_split(folder, shards)
    if len(found) > 1:
        raise InvalidValue(
            f"{folder} holds Parquet files of {', '.join(found)}: name one of them, as in {folder / next(iter(found))}"
        )
    return Shards(shards)
