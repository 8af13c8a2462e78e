"""Arrays of an NPZ file, without ever unpickling anything. numpy only."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.realdata.sources import Arrays


def names_in(path: Path) -> set[str]:
    """The names of the arrays in a file. Raises `IntegrityError` if it is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            return {name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")}
    except (OSError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path} cannot be read as NPZ ({error}): it is damaged") from None


def read_array(path: Path, name: str) -> NDArray[Any]:
    """An array that is in a file.

    Raises:
        InvalidValue: it holds Python objects, which are pickles.
        IntegrityError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = file[name]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise InvalidValue(
                f"{path}: {name!r} holds Python objects, which only unpickling could read, and that would run code: "
                "save numbers, or strings as an array of numpy.str_"
            ) from None
        raise IntegrityError(f"{path}: {name!r} cannot be read ({error}): it is damaged") from None
    if not isinstance(found, np.ndarray):  # numpy hands out as bytes what does not begin like an array
        raise IntegrityError(f"{path}: {name!r} is no array: it is damaged")
    return found


def read_labels(path: Path, name: str) -> NDArray[Any]:
    """(N,) integers or strings, which may be stored as (N, 1). Raises `InvalidValue` for anything else."""
    found = read_array(path, name)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or found.dtype.kind not in "iuU":
        raise InvalidValue(
            f"{path}: {name!r} is {found.dtype} {found.shape}, not one integer or string for each image; of one-hot "
            "rows, save the argmax"
        )
    return found


def read_images(path: Path, name: str) -> Arrays:
    """(N, h, w) or (N, h, w, c) uint8. Raises `InvalidValue` for anything else."""
    found = read_array(path, name)
    if found.dtype != np.uint8:
        raise InvalidValue(
            f"{path}: {name!r} is {found.dtype}, not uint8: save pixels of 0..255, which of values in [0, 1] are "
            "(255 * x).round().astype(numpy.uint8)"
        )
    return Arrays(found, f"{name!r} of {path}")
