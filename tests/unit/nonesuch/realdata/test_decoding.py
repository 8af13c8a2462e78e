"""Pictures of every mode and depth: what is transparent lies over white, and nothing becomes black unsaid."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from nonesuch.errors import InvalidValue
from nonesuch.realdata.decoding import BACKGROUND, Canvas

BYTE = st.integers(0, 255)


def read(data: bytes) -> NDArray[np.uint8]:
    """(h, w, c)"""
    canvas = Canvas(1, None)
    canvas.add_encoded(data, "the picture")
    found: NDArray[np.uint8] = canvas.images[0]
    return found


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(depth: int, kind: int, row: bytes, hidden: bytes | None = None, significant: bytes | None = None) -> bytes:
    """A PNG two pixels wide of a bit depth and colour type (0 grey, 2 colours) that Pillow does not write."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0), b"sBIT": significant, b"tRNS": hidden}
    parts |= {b"IDAT": zlib.compress(b"\0" + row), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
        if data is not None
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@given(st.tuples(BYTE, BYTE, BYTE), BYTE, st.sampled_from(["PNG", "WEBP", "TIFF"]))
def test_colours_lie_over_white(colour: tuple[int, int, int], alpha: int, form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    found = read(encoded(Image.new("RGBA", (3, 2), (*colour, alpha)), form, **options))
    expected = [(c * alpha + BACKGROUND * (255 - alpha)) / 255 for c in colour]
    assert found.shape == (2, 3, 3)
    assert np.abs(found - np.array(expected)).max() <= 1
    if alpha == 255:
        assert (found == colour).all()


@given(BYTE, BYTE)
def test_grey_stays_grey_over_white(grey: int, alpha: int) -> None:
    found = read(encoded(Image.new("LA", (3, 2), (grey, alpha))))
    assert found.shape == (2, 3, 1)
    assert np.abs(found - (grey * alpha + BACKGROUND * (255 - alpha)) / 255).max() <= 1


def palette(transparency: int | bytes) -> bytes:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 255, 0, 200, 0] + [0] * 762)
    image.putpixel((1, 0), 1)
    return encoded(image, transparency=transparency)


def greys(depth: int, first: int, second: int) -> tuple[bytes, int]:
    """A picture of two greys, the first of which is declared transparent, and what the second is in 8 bits."""
    samples = int(f"{first:0{depth}b}{second:0{depth}b}".ljust(8, "0"), 2)
    row = samples.to_bytes(max(1, 2 * depth // 8), "big")
    return png(depth, 0, row, struct.pack(">H", first)), round(second * 255 / (2**depth - 1))


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (palette(0), (0, 200, 0)),
        (palette(bytes([0, 255])), (0, 200, 0)),
        (png(8, 2, bytes([255, 0, 255, 0, 200, 0]), struct.pack(">HHH", 255, 0, 255)), (0, 200, 0)),
        (
            png(16, 2, struct.pack(">6H", 65535, 0, 65535, 0, 51200, 0), struct.pack(">3H", 65535, 0, 65535)),
            (0, 200, 0),
        ),
        greys(1, 0, 1),
        greys(2, 1, 2),
        greys(4, 3, 9),
        greys(8, 7, 200),
        greys(16, 300, 51200),
    ],
)
def test_a_colour_that_is_declared_transparent_is_not_seen(data: bytes, seen: int | Sequence[int]) -> None:
    found = read(data)
    assert (found[0, 0] == BACKGROUND).all()
    assert (found[0, 1] == seen).all()


RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


def tiff(pixels: NDArray[Any], order: str, photometric: int = 1, kind: int = 1) -> bytes:
    """An uncompressed TIFF of one channel; `kind` 1 is unsigned, 2 signed, 3 floating point."""
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data), 339: kind}
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(data))
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return head + data + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(Image.fromarray(RAMP)), RAMP / 257),
        (encoded(Image.fromarray(RAMP), "TIFF"), RAMP / 257),
        (tiff(RAMP, "<"), RAMP / 257),
        (tiff(RAMP, ">"), RAMP / 257),
        (tiff(RAMP, "<", photometric=0), 255 - RAMP / 257),
        (encoded(Image.fromarray(RAMP), "JPEG2000", irreversible=False), RAMP / 257),
        (b"P5 8 8 65535\n" + RAMP.astype(">u2").tobytes(), RAMP / 257),
        (b"P5 8 8 4095\n" + (RAMP // 16).astype(">u2").tobytes(), (RAMP // 16) * (255 / 4095)),
    ],
)
def test_wide_grey_is_scaled_by_its_format(data: bytes, expected: NDArray[np.float64]) -> None:
    found = read(data)
    assert found.shape == (8, 8, 1)
    assert np.abs(found[..., 0] - expected).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"),
        encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
        tiff((RAMP // 2).astype(np.int16), "<", kind=2),
        tiff(RAMP.astype(np.uint32), "<"),
        b"Pf 8 8 -1.0\n" + (RAMP / 65535).astype("<f4").tobytes(),
    ],
)
def test_pixels_without_a_known_white_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue, match=r"pixels of the picture are .* nothing says which is white: scale them"):
        read(data)


@given(st.integers(9, 13), st.data())
def test_significant_bits_of_a_png_are_its_range_scaled_or_not(bits: int, data: st.DataObject) -> None:
    """Scaled to 16 bits, as the format wants it, or as they were: the same picture."""
    most = 2**bits - 1
    odd = data.draw(st.integers(0, 2 ** (16 - bits) - 4))  # else it could be a scaled sample too, and nobody can tell
    first, second = data.draw(st.integers(0, most)), most - odd
    expected = [round(value * 255 / most) for value in (first, second)]
    ways = {
        "shifted": [value << (16 - bits) for value in (first, second)],
        "in proportion": [round(value * 65535 / most) for value in (first, second)],
        "as they were": [first, second],
    }
    for name, (one, two) in ways.items():
        found = read(png(16, 0, struct.pack(">HH", one, two), significant=bytes([bits])))
        assert np.abs(found[0, :, 0].astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize(("brightest", "said"), [(4095, 1), (8000, 1), (8192 + 64, 0), (65535, 0)])
def test_what_is_dark_in_16_bits_is_said_once(
    kind: int, brightest: int, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    samples = 3 if kind == 2 else 1
    canvas = Canvas(3, None)
    for number, value in enumerate((0, brightest, 17)):
        canvas.add_encoded(png(16, kind, struct.pack(">H", value) * samples * 2), f"picture {number}")
    for _ in range(2):
        assert canvas.images.shape == (3, 1, 2, samples)
    assert caplog.text.count("picture 0 and what was read with it is dark") == said


def test_dark_pictures_of_8_bits_are_dark(caplog: pytest.LogCaptureFixture) -> None:
    assert read(encoded(Image.new("L", (2, 2), 3))).max() == 3
    assert caplog.text == ""
