"""Labelled images, in whatever form the next step wants them."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch import schema
from nonesuch.client.images import pictures
from nonesuch.client.images.extras import needed
from nonesuch.client.images.saving import save
from nonesuch.ledger import Ledger

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image
    from torch import Tensor, device

SHOWN = 64
"""How many images a notebook shows."""


class Batch:
    """N labelled images and where each came from. Immutable: its arrays are read-only views of one Arrow batch.

    `len`, iteration over (image, label), and slices, which are batches of the same images without a copy:

        x, y = batch.torch()
        for image, label in batch[:10]: ...
    """

    __slots__ = ("_arrow", "_recipe")

    def __init__(self, arrow: pa.RecordBatch, *, recipe: str | None = None) -> None:
        """`arrow` has the schema of `nonesuch.schema`, or its previous version; `recipe` is the id of its recipe.

        Raises `IntegrityError` for another schema.
        """
        self._arrow = schema.upgraded(arrow)
        self._recipe = recipe

    @property
    def arrow(self) -> pa.RecordBatch:
        """Every column, provenance too."""
        return self._arrow

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, H, W, C) uint8. No copy."""
        return schema.images_of(self._arrow)

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) int32. No copy."""
        return schema.labels_of(self._arrow)

    @property
    def indices(self) -> NDArray[np.int64]:
        """(N,) int64: the place of each image in what was ordered. A strategy that rejects leaves some out."""
        return schema.indices_of(self._arrow)

    @property
    def soft_labels(self) -> NDArray[np.float16] | None:
        """(N, K) float16: the teacher's probabilities; None if none were asked for."""
        return schema.soft_labels_of(self._arrow)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return schema.class_names_of(self._arrow.schema)

    @property
    def label_names(self) -> list[str]:
        """The name of each image's class, N of them."""
        names = self.class_names
        return [names[label] for label in self.labels]

    @property
    def ledger(self) -> Ledger:
        """The real information behind the images."""
        return schema.ledger_of(self._arrow.schema)

    @property
    def recipe(self) -> str | None:
        """The recipe's id, by which `Client.again` gets all images of the request; None if it is too long for a URL."""
        return self._recipe

    @property
    def seed(self) -> int | None:
        """The seed of the request; None of an empty batch."""
        found: int | None = self._first("seed")
        return found

    @property
    def order(self) -> str | None:
        """The name of the recipe, the same whenever the same images are minted; None of an empty batch."""
        found: str | None = self._first("order")
        return found

    @property
    def snapshot(self) -> int | None:
        """The version of the snapshot that was aimed at, if any."""
        found: int | None = self._first("snapshot")
        return found

    def torch(self, *, uint8: bool = False, device: "str | device | None" = None) -> "tuple[Tensor, Tensor]":
        """Images and labels as tensors, which are copies.

        Args:
            uint8: leave the images as they are.
            device: where to; the CPU if left out.

        Returns:
            (N, C, H, W) float32 in [−1, 1], or uint8 in [0, 255], in channels-last memory; and (N,) int64.
        """
        torch = needed("torch", "torch", "Batch.torch")
        x_NHWC = torch.from_numpy(self.images.copy()).to(device or "cpu")
        x_NCHW = x_NHWC.permute(0, 3, 1, 2)
        if not uint8:
            x_NCHW = x_NCHW.float().div_(127.5).sub_(1)
        return x_NCHW, torch.from_numpy(self.labels.astype(np.int64)).to(device or "cpu")

    @overload
    def pil(self) -> "list[Image]": ...

    @overload
    def pil(self, i: int) -> "Image": ...

    def pil(self, i: int | None = None) -> "Image | list[Image]":
        """The i-th image, or all of them, for Pillow. Raises `InvalidValue` unless they are grey or in colours."""
        if i is not None:
            return pictures.picture(self.images[i])
        return [pictures.picture(image) for image in self.images]

    def pandas(self, *, images: bool = False) -> "pandas.DataFrame":
        """A row for each image: `class`, and every column that is a number or a category.

        Args:
            images: add `image`, of (H, W, C) uint8 arrays.
        """
        needed("pandas", "notebook", "Batch.pandas")
        columns = [name for name in self._arrow.schema.names if name not in ("image", "z", "soft_label")]
        frame: pandas.DataFrame = self._arrow.select(columns).to_pandas()
        frame.insert(1, "class", self.label_names)
        if images:
            frame.insert(0, "image", list(self.images))
        return frame

    def show(self, columns: int | None = None) -> "Image":
        """All images side by side, row by row; as many columns as make it square if none are named.

        The last line of a notebook's cell, `batch` shows the first 64 of them. Raises `InvalidValue` for an empty one.
        """
        return pictures.grid(self.images, columns)

    def save(self, path: str | Path) -> None:
        """Write a file, whole or not at all: .arrows, .arrow, .parquet, .npz or .png by its ending.

        Parquet is the gateway's, which `datasets` reads. Raises `InvalidValue` for another ending, and for images that
        are neither grey nor in colours, which Parquet and PNG cannot hold.
        `Client.export` has more formats, and does not hold the images.
        """
        save(self._arrow, Path(path))

    def __len__(self) -> int:
        rows: int = self._arrow.num_rows
        return rows

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        return zip(self.images, self.labels.tolist(), strict=True)

    @overload
    def __getitem__(self, key: int) -> tuple[NDArray[np.uint8], int]: ...

    @overload
    def __getitem__(self, key: "slice | Sequence[int] | NDArray[Any]") -> "Batch": ...

    def __getitem__(self, key: Any) -> Any:
        """An (image, label) by its place; a batch by a slice, a list of places or a mask."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return Batch(self._arrow.slice(start, max(0, stop - start)), recipe=self._recipe)
            return self[range(start, stop, step)]
        places = np.asarray(key)
        if places.ndim == 0:
            return self.images[key], int(self.labels[key])
        if places.size == 0:
            return self[:0]
        return Batch(self._arrow.take(pa.array(np.arange(len(self))[places])), recipe=self._recipe)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.images.shape[1:]))
        return f"<Batch of {len(self)} images {shape}, {len(self.class_names)} classes, seed {self.seed}>"

    def _repr_png_(self) -> bytes | None:
        if not len(self):
            return None
        out = io.BytesIO()
        self[:SHOWN].show().save(out, "PNG")
        return out.getvalue()

    def _first(self, column: str) -> Any:
        return self._arrow.column(column)[0].as_py() if len(self) else None
