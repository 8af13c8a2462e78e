"""Images of a batch for people to look at, by Pillow."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonesuch.client.images.extras import needed
from nonesuch.errors import InvalidValue

if TYPE_CHECKING:
    from PIL.Image import Image


def picture(image: NDArray[np.uint8]) -> "Image":
    """The picture of an (H, W, C) image. Raises `InvalidValue` unless C is 1 or 3."""
    pillow = needed("PIL.Image", "notebook", "a picture")
    channels = image.shape[2]
    if channels not in (1, 3):
        raise InvalidValue(f"images of {channels} channels are no pictures; 1 (grey) or 3 (colours) would be")
    made: Image = pillow.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
    return made


def grid(images: NDArray[np.uint8], columns: int | None = None) -> "Image":
    """(N, H, W, C) images side by side; what is left of the last row is black. Raises `InvalidValue`."""
    n, h, w, c = images.shape
    if n == 0:
        raise InvalidValue("the batch is empty: there is nothing to show")
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    if columns < 1:
        raise InvalidValue(f"{columns} columns cannot be shown: give 1 or more", field="columns")
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, h, w, c), np.uint8)
    cells[:n] = images
    return picture(cells.reshape(rows, columns, h, w, c).transpose(0, 2, 1, 3, 4).reshape(rows * h, columns * w, c))
