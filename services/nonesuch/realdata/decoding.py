"""Pictures of any size and mode, encoded or not, into one array of uint8. numpy; Pillow when a picture asks for it.

Legend: N images, H×W×C pixels wanted, h×w×c pixels as found.
"""

import io
import logging
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, InvalidValue

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Shape = tuple[int, int, int]
OnImages = Callable[[int], None]
"""What is told how many more images were read."""

_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA", "La")
BACKGROUND = 255
"""What lies behind transparent pictures: white, as on a page."""
_WHITE = {"PNG": 65535, "PPM": 65535, "JPEG2000": 65535}
"""The brightest of more than 8 bits, by format; Pillow scales to it what a file of the last two calls its highest."""
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_DEPTH = 24  # where a PNG says how many bits a sample has
DARK = 256 // 8
"""A brightest pixel below it, of all that were read from 16 bits, may mean fewer bits than that."""
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
    What is transparent is laid over white. Grey of 16 bits is scaled to 8 by the range that its format declares; other
    numbers (float, signed, 32 bits), whose range no format declares, are refused. A PNG that declares fewer significant
    bits (sBIT) holds them scaled to 16, as its rule is, or else, where its samples cannot be that, as they were. Where
    all that came from 16 bits is very dark, a warning says so once.

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
        self._deep = ""
        self._images: NDArray[np.uint8] | None = None
        if shape is not None:
            check_shape(shape)
            self._images = np.empty((count, *shape), np.uint8)

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, H, W, C), once all are there."""
        assert self._images is not None and self._done == self._count, f"{self._done} of {self._count} images"
        if self._deep and self._images.size and (brightest := int(self._images.max())) < DARK:
            log.warning(
                "%s and what was read with it is dark: the brightest pixel is %d of 255. If its 16 bits hold fewer, as "
                "12 of a camera, scale them to 0..65535 or declare them (sBIT of PNG)",
                self._deep, brightest,
            )  # fmt: skip
            self._deep = ""
        return self._images

    def add_encoded(self, data: bytes, name: str) -> None:
        """Add a PNG, JPEG, … file's content.

        Raises:
            IntegrityError: it cannot be decoded; the message names it.
            InvalidValue: its shape is not that of the others, and none was asked for; or nobody knows the range of its
                pixels.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(data)) as opened:
                opened.load()
                _mend_transparency(opened, data)
                if opened.mode.startswith("I") or (opened.format == "PNG" and data[_DEPTH] == 16):
                    self._deep = self._deep or name
                picture = _upright(_plain(opened, name, _significant(opened, data)), opened)
        except InvalidValue:
            raise
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
                f"{self._first} is {_text(self._images.shape[1:])}, but {name} is {_text(found)}: set "
                f"image_shape to the height, width and channels that all shall have, as in {list(found)}, and they are "
                "scaled until they cover it and cut to its middle",
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


def _upright(image: "Image", opened: "Image") -> "Image":
    """The image turned as the EXIF data of what was opened say."""
    from PIL import Image

    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, struct.error):  # damage there says nothing of the pixels
        return image
    return image if turn is None else image.transpose(Image.Transpose[turn])


def _plain(opened: "Image", name: str, significant: int) -> "Image":
    """The picture with 8 bits a channel, in mode L or RGB, whichever it is, over white."""
    from PIL import Image

    if opened.mode.startswith(("I", "F")):
        return Image.fromarray(_scaled(opened, name, significant))
    grey = opened.mode in _GREY
    if opened.has_transparency_data:
        if opened.mode == "La":  # which RGBA is not made of
            opened = opened.convert("LA")
        pasted = opened.convert("RGBA")
        opened = Image.alpha_composite(Image.new("RGBA", pasted.size, (BACKGROUND,) * 3 + (255,)), pasted)
    return opened.convert("L" if grey else "RGB")


def _scaled(opened: "Image", name: str, significant: int) -> NDArray[np.uint8]:
    """(h, w) of grey in more than 8 bits, of which a PNG declares so many as significant. Raises
    `InvalidValue` where nobody knows what is white."""
    white = _WHITE.get(opened.format or "")
    inverted = False
    if opened.format == "TIFF":
        tags = opened.tag_v2  # type: ignore[attr-defined]
        bits, kind = tags.get(_BITS, (1,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
        white = 2**bits - 1 if kind == 1 and bits <= 16 else None  # 1: unsigned
        inverted = tags.get(_PHOTOMETRIC) == 0
    if white is None or opened.mode == "F":
        kind = "floating-point numbers" if opened.mode == "F" else "whole numbers that are signed or have 32 bits"
        raise InvalidValue(
            f"the pixels of {name} are {kind}, and nothing says which is white: scale them to 0..255 and save 8 bits, "
            "or to 0..65535 and save 16 without a sign"
        )
    pixels = np.asarray(opened)
    if significant < 16 and not _is_scaled(pixels, significant):
        white = 2**significant - 1
    grey = (pixels.clip(0, white) * (255 / white)).round().astype(np.uint8)
    if inverted:
        grey = 255 - grey
    if (hidden := opened.info.get("transparency")) is not None:
        grey[pixels == hidden] = BACKGROUND
    return grey


def _significant(opened: "Image", data: bytes) -> int:
    """How many bits of 16 a PNG of grey declares as significant (chunk sBIT, before the pixels); 16 if it does not."""
    at = len(b"\x89PNG\r\n\x1a\n")
    while opened.format == "PNG" and opened.mode.startswith("I") and at + 8 < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"sBIT" and length == 1:
            return bits if 1 <= (bits := data[at + 8]) <= 16 else 16
        if name in (b"PLTE", b"IDAT"):
            break
        at += 12 + length
    return 16


def _is_scaled(pixels: NDArray[Any], bits: int) -> bool:
    """Whether samples of so many bits were scaled to 16, by a shift or in proportion, as the rule of PNG is; those that
    do not fit into `bits` cannot be unscaled ones."""
    if int(pixels.max()) >= 2**bits:
        return True
    low = pixels & (2 ** (16 - bits) - 1)
    whole = (pixels >> (16 - bits)).astype(np.float64)
    proportion = np.abs(pixels - whole * (65535 / (2**bits - 1)))
    return bool(((low == 0) | (proportion <= 1)).all())


def _mend_transparency(opened: "Image", data: bytes) -> None:
    """Pillow scales grey of 2 or 4 bits to 8, but not the value of them that a PNG declares transparent."""
    hidden = opened.info.get("transparency")
    if opened.format == "PNG" and opened.mode == "L" and isinstance(hidden, int) and data[_DEPTH] in (2, 4):
        opened.info["transparency"] = hidden * 255 // (2 ** data[_DEPTH] - 1)


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
