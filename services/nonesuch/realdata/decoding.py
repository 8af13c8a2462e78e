"""Pictures of any size and mode, encoded or not, into one array of uint8. numpy; Pillow when a picture asks for it.

Legend: N images, H×W×C pixels wanted, h×w×c pixels as found.
"""

import io
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, InvalidValue

if TYPE_CHECKING:
    from PIL.Image import Image

Shape = tuple[int, int, int]
OnImages = Callable[[int], None]
"""What is told how many more images were read."""

_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # of EXIF
_TURNS = {  # what makes a picture of this orientation upright
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class Canvas:
    """One array for `count` images, filled in order: images that are added are decoded into it.

    Images of another size than `shape` are scaled until they cover H×W and cut to its middle (bilinear, with
    antialiasing); colours become grey, or grey becomes colours, as C says. With `shape` None nothing is scaled: the
    first image says what the shape is, and the others must agree. Pictures are turned as their EXIF orientation says.

    Args:
        count: N.
        shape: (H, W, C), where C is 1 or 3; or None.
        on_images: told now and then how many more images were added.
    """

    def __init__(self, count: int, shape: Shape | None, on_images: OnImages = lambda images: None) -> None:
        self._count = count
        self._done = 0
        self._on_images = on_images
        self._asked = shape
        self._first = ""
        self._images: NDArray[np.uint8] | None = None
        if shape is not None:
            check_shape(shape)
            self._images = np.empty((count, *shape), np.uint8)

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, H, W, C), once all are there."""
        assert self._images is not None and self._done == self._count, f"{self._done} of {self._count} images"
        return self._images

    def add_encoded(self, data: bytes, name: str) -> None:
        """Add a PNG, JPEG, … file's content.

        Raises:
            IntegrityError: it cannot be decoded; the message names it.
            InvalidValue: its shape is not that of the others, and none was asked for.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                picture = _plain(_upright(opened))
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
            reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
            raise IntegrityError(f"{name} cannot be decoded ({reason}): mend it, or take it away") from error
        shape = (picture.height, picture.width, len(picture.getbands()))
        self._place(name, shape, 1)[0] = _pixels(picture, self._asked or shape)
        self._added(1)

    def add_arrays(self, images: NDArray[np.uint8], name: str) -> None:
        """Add (n, h, w, c) images. Raises `InvalidValue` as `add_encoded` does, or for c that is neither 1 nor 3."""
        h, w, c = images.shape[1:]
        if c not in _MODES or min(h, w) < 1:
            raise InvalidValue(
                f"{name} has images of {(h, w, c)}: 1 (grey) or 3 channels (colours) can be read, and they come last"
            )
        place = self._place(name, (h, w, c), len(images))
        if place.shape == images.shape:
            place[...] = images
        else:
            from PIL import Image

            flat = images if c == 3 else images[..., 0]
            for i, image in enumerate(flat):
                place[i] = _pixels(Image.fromarray(image), place.shape[1:])
        self._added(len(images))

    def _place(self, name: str, found: Shape, n: int) -> NDArray[np.uint8]:
        """(n, H, W, C) where the next images go."""
        if self._images is None:
            self._images = np.empty((self._count, *found), np.uint8)
            self._first = name
        elif self._asked is None and found != self._images.shape[1:]:
            raise InvalidValue(
                f"{self._first} is {_text(self._images.shape[1:])}, but {name} is {_text(found)}: say which shape "
                "(height, width, channels) the images shall have, and they are scaled and cut to it",
                field="image_shape",
            )
        return self._images[self._done : self._done + n]

    def _added(self, n: int) -> None:
        self._done += n
        self._on_images(n)


def check_shape(shape: Shape) -> None:
    """Raises `InvalidValue` for what is no (H, W, C) with 1 or 3 channels."""
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in _MODES:
        raise InvalidValue(
            f"images of {shape} cannot be read: give (H, W, C) with 1 or 3 channels", field="image_shape"
        )


def _upright(image: "Image") -> "Image":
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, struct.error):  # damage there says nothing of the pixels
        return image
    return image if turn is None else image.transpose(Image.Transpose[turn])


def _plain(image: "Image") -> "Image":
    """The picture with 8 bits a channel, in mode L or RGB, whichever it is."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which `convert` would clip to 8
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode == "P":  # a palette may have transparency, which only RGBA can hold
        image = image.convert("RGBA")
    return image.convert("L" if image.mode in _GREY else "RGB")


def _pixels(image: "Image", shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W, C) of a picture in mode L or RGB."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    image = image.convert(_MODES[channels])
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(shape)


def _text(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}×{shape[1]} in {'grey' if shape[2] == 1 else 'colours'}"
