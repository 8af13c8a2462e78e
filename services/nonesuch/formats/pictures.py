"""Images as PNG, by Pillow. The same image gives the same bytes with the same versions of Pillow and its zlib."""

import io

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidOrder


def check_channels(channels: int) -> None:
    """Raises `InvalidOrder` for what is neither grey (1) nor colours (3)."""
    if channels not in (1, 3):
        raise InvalidOrder(
            f"images of {channels} channels are no PNGs (1 or 3 would be): choose format arrow or npz", field="format"
        )


def png(image: NDArray[np.uint8]) -> bytes:
    """The PNG of an (H, W, C) image. Raises what `check_channels` does."""
    from PIL import Image  # Arrow does without

    channels = image.shape[2]
    check_channels(channels)
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if channels == 1 else image).save(out, "PNG")
    return out.getvalue()


def stem(index: int) -> str:
    """The name of an image's file without its ending; files sort by it."""
    return f"{index:09d}"
