"""One PNG with all images, for a look."""

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch.errors import InvalidOrder, OrderFailed
from nonesuch.formats.pictures import check_channels, png
from nonesuch.schema import images_of
from nonesuch_gateway.formats.base import Format, Outline

MAX_IMAGES = 1024
MAX_BYTES = 64 * 2**20
"""How many bytes its pixels have at most, all of which are held."""


class PngGrid(Format):
    """Images side by side in index order, as many columns as makes it square; what is left of the last row is black."""

    name = "png"
    media_type = "image/png"
    signature = b"\x89PNG\r\n\x1a\n"
    opened_by = 'PIL.Image.open("batch.png")'

    def __init__(self, outline: Outline) -> None:
        if outline.count > MAX_IMAGES:
            raise InvalidOrder(
                f"{outline.count} images do not fit into one PNG, which holds {MAX_IMAGES}: ask for fewer, or for "
                "format zip",
                field="count",
            )
        self._count = outline.count
        self._columns = math.ceil(math.sqrt(outline.count))
        self._cells: NDArray[np.uint8] | None = None
        """The pixels, (rows · columns, H, W, C); None before the first batch."""
        self._filled = 0

    def add(self, batch: pa.RecordBatch) -> list[bytes]:
        images = images_of(batch)
        if self._cells is None:
            self._cells = self._blank(images.shape[1:])
        self._cells[self._filled : self._filled + len(images)] = images
        self._filled += len(images)
        return []

    def finish(self) -> Iterator[bytes]:
        assert self._cells is not None
        if not self._filled:
            raise OrderFailed("every image was rejected, so there is nothing to draw: ask for more, or filter less")
        rows = math.ceil(self._filled / self._columns)
        _, h, w, c = self._cells.shape
        cells = self._cells[: rows * self._columns].reshape(rows, self._columns, h, w, c)
        yield png(cells.transpose(0, 2, 1, 3, 4).reshape(rows * h, self._columns * w, c))

    def _blank(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        check_channels(shape[2])
        most = MAX_BYTES // math.prod(shape)
        if self._count > most:
            h, w, _ = shape
            raise InvalidOrder(
                f"{self._count} images of {h}×{w} do not fit into one PNG, which holds {most} of them: ask for fewer, "
                "or for format zip",
                field="count",
            )
        rows = math.ceil(self._count / self._columns)
        return np.zeros((rows * self._columns, *shape), np.uint8)
