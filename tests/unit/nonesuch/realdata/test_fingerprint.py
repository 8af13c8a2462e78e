"""A fingerprint tells real images from any others, says what differs, and does not care where they lie."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nonesuch.errors import IntegrityError
from nonesuch.ledger import RealInformation
from nonesuch.offers import GeneratorInfo, ledger_of_generators
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint, pixels_digest
from nonesuch.realdata.labelled import read_labelled

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
REAL = RealImages(IMAGES, np.array([0, 0, 0, 1, 1, 2], np.int32), ("bird", "cat", "dog"), "data")
FINGERPRINT = Fingerprint.taken(REAL)


def test_it_has_names_counts_and_a_stated_digest() -> None:
    assert (FINGERPRINT.class_names, FINGERPRINT.counts) == (("bird", "cat", "dog"), (3, 2, 1))
    assert FINGERPRINT.image_shape == (4, 5, 3)
    assert str(FINGERPRINT) == f"sha256 of contents {FINGERPRINT.digest}"
    assert Fingerprint.read(FINGERPRINT.model_dump_json(), "it") == FINGERPRINT


@given(st.integers(0, IMAGES.size - 1), st.integers(1, 255))
def test_any_pixel_changes_it(place: int, change: int) -> None:
    images = IMAGES.copy()
    images.reshape(-1)[place : place + 1] += np.uint8(change)  # of an array, which wraps around
    (difference,) = FINGERPRINT.differences(Fingerprint.taken(replace(REAL, images=images)))
    assert "other contents" in difference
    assert pixels_digest(images) != pixels_digest(IMAGES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("bird", "cat", "zebra")}, ["no class 'dog' any more", "a class 'zebra' that was not there"]),
        (
            {"class_names": ("cat", "bird", "dog")},
            ["the classes 'bird', 'cat', 'dog' in another order: 'cat', 'bird', 'dog'", "cat has 3 images, and had 2"],
        ),
        ({"images": IMAGES[:5], "labels": REAL.labels[:5]}, ["dog has 0 images, and had 1"]),
        ({"images": IMAGES[:, :, :4]}, ["images of (4, 5, 3) then, of (4, 4, 3) now"]),
        ({"labels": REAL.labels[[3, 0, 1, 2, 4, 5]]}, ["as many images of the same classes, but other contents"]),
        ({"images": IMAGES[::-1]}, ["as many images of the same classes, but other contents"]),
        ({"name": "elsewhere"}, []),
        ({"images": np.asfortranarray(IMAGES)}, []),
    ],
)
def test_what_differs_is_said(change: dict[str, Any], words: list[str]) -> None:
    found = FINGERPRINT.differences(Fingerprint.taken(replace(REAL, **change)))
    assert bool(found) == bool(words)
    assert all(word in "; ".join(found) for word in words)


def test_many_classes_make_a_short_message() -> None:
    names = tuple(f"class {k}" for k in range(1000))
    real = RealImages(np.zeros((1000, 1, 1, 1), np.uint8), np.arange(1000, dtype=np.int32), names, "data")
    other = replace(real, class_names=tuple(name.upper() for name in names))
    found = Fingerprint.taken(real).differences(Fingerprint.taken(other))
    assert len("".join(found)) < 500 and "and 995 more" in found[0]


def test_a_copy_elsewhere_is_the_same_and_a_renamed_class_is_not(tmp_path: Path) -> None:
    for k, name in enumerate(("bird", "cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(IMAGES[3 * k + i]).save(tmp_path / "data" / name / f"{i}.png")
    first = Fingerprint.taken(read_labelled(str(tmp_path / "data")))
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert Fingerprint.taken(read_labelled(str(tmp_path / "copy"))) == first
    (tmp_path / "copy" / "bird").rename(tmp_path / "copy" / "zebra")
    assert "no class 'bird' any more" in first.differences(Fingerprint.taken(read_labelled(str(tmp_path / "copy"))))


def test_a_damaged_document_is_named() -> None:
    with pytest.raises(IntegrityError, match="the fingerprint of real images in checkpoint x"):
        Fingerprint.read('{"digest": 3}', "checkpoint x")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"fingerprint": FINGERPRINT.model_dump(mode="json", exclude={"class_names"})}, str(FINGERPRINT)),
        ({"fingerprint": {"digest": "x" * 500}}, ""),
        ({"fingerprint": 3}, ""),
        ("birds", ""),
        (None, ""),
    ],
)
def test_a_ledger_says_which_images_a_generator_has_seen(data: object, told: str) -> None:
    level: RealInformation = "labelled"
    info = GeneratorInfo(
        id="g", family="f", sha256="0" * 64, image_shape=(4, 4, 1), class_names=("a",), z_dim=2,
        real_information=level, card={"data": data},
    )  # fmt: skip
    (use,) = ledger_of_generators([info]).uses
    assert use.data == told
