"""What real images are, in a few numbers: a run does not go on with others, and whoever learned from them can say so.

The digest is of contents: of the pixels as they were decoded and fitted, and of the labels. So it does not depend on
where files lie, what they are called or when they were written, and a change of any pixel changes it. (Another version
of a decoder may round a JPEG's pixels otherwise: those are other images then.)

Legend: N images, H×W×C pixels, K classes.
"""

import hashlib
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, ValidationError

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.model import Frozen
from nonesuch.realdata.fashion_mnist import RealImages

LISTED = 5
"""How many classes of one kind of difference are named."""


class Fingerprint(Frozen):
    """Labelled real images, told from any others."""

    class_names: tuple[str, ...]
    """K, by label."""
    counts: tuple[int, ...]
    """K: how many images each class has."""
    image_shape: tuple[int, int, int]
    """(H, W, C)"""
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """sha256 of what `of` says."""
    of: Literal["contents"] = Field(default="contents")
    """What the digest is of: the N·H·W·C bytes of pixels, and then the labels as little-endian int32."""

    @classmethod
    def taken(cls, real: RealImages) -> Self:
        """The fingerprint of some images. Takes a second for each GB of pixels."""
        height, width, channels = real.images.shape[1:]
        digest = _hashed(real.images)
        digest.update(real.labels.astype("<i4").tobytes())
        counts = np.bincount(real.labels, minlength=len(real.class_names))
        return cls(
            class_names=real.class_names,
            counts=tuple(counts.tolist()),
            image_shape=(height, width, channels),
            digest=digest.hexdigest(),
        )

    @classmethod
    def read(cls, document: str, what: str) -> Self:
        """The fingerprint that a document of `what` holds as JSON. Raises `IntegrityError` if it is none."""
        try:
            return cls.model_validate_json(document)
        except ValidationError as error:
            raise IntegrityError(
                f"the fingerprint of real images in {what} is damaged: {error.errors()[0]['msg']}"
            ) from None

    def differences(self, now: "Fingerprint") -> list[str]:
        """How other images are other than these, in words for people; empty if they are the same."""
        found = []
        if self.image_shape != now.image_shape:
            found.append(f"images of {self.image_shape} then, of {now.image_shape} now")
        gone = [name for name in self.class_names if name not in now.class_names]
        new = [name for name in now.class_names if name not in self.class_names]
        if gone:
            found.append(f"no class {_first(gone)} any more")
        if new:
            found.append(f"a class {_first(new)} that was not there")
        if not gone and not new and self.class_names != now.class_names:
            found.append(f"the classes {_first(self.class_names)} in another order: {_first(now.class_names)}")
        then = dict(zip(self.class_names, self.counts, strict=True))
        other = [(n, then[n], k) for n, k in zip(now.class_names, now.counts, strict=True) if then.get(n, k) != k]
        if other:
            found.append(_first([f"{name!s} has {k} images, and had {count}" for name, count, k in other], plain=True))
        if not found and self.digest != now.digest:
            found.append(f"as many images of the same classes, but other contents (sha256 {self.digest}, {now.digest})")
        return found

    def check(self, now: "Fingerprint", what: str, remedy: str) -> None:
        """Raises `InvalidValue` that says how the images of now are other than these, which `what` was made with."""
        if others := self.differences(now):
            raise InvalidValue(f"{what} was made with other real images: {'; '.join(others)}. {remedy}")

    def __str__(self) -> str:
        return f"sha256 of {self.of} {self.digest}"


def pixels_digest(images: NDArray[np.uint8]) -> str:
    """What tells images without labels, (N, H, W, C) as they were decoded, from others, as a ledger says it."""
    return f"sha256 of pixels {_hashed(images).hexdigest()}"


def _hashed(images: NDArray[np.uint8]) -> "hashlib._Hash":
    return hashlib.sha256(np.ascontiguousarray(images).reshape(-1).data)


def _first(items: "list[str] | tuple[str, ...]", *, plain: bool = False) -> str:
    shown = ", ".join(item if plain else repr(item) for item in items[:LISTED])
    more = len(items) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown
