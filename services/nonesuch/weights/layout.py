"""A strict look at bytes that claim to be safetensors, without torch: what a server does with a stranger's weights.

    8 bytes   length n of the header, little-endian
    n bytes   JSON: {"__metadata__": {text: text}, name: {"dtype": ..., "shape": [...], "data_offsets": [start, stop]}}
    the rest  the tensors' bytes, one after the other, without gaps

The library's parser reads headers of 100 MB, and of a name that comes twice the last one; both are refused here. What
is accepted here the library reads too.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from nonesuch.errors import InvalidSnapshot
from nonesuch.model import Frozen

Bytes = bytes | bytearray | memoryview

MAX_HEADER_BYTES = 2**20
"""The longest header that is read, in bytes: a network of 1000 tensors has one of 100 KB."""
MAX_NAME = 512
MAX_RANK = 16
BLOCK_BYTES = 4 * 2**20
"""How many bytes are looked at together for values that are not finite; a multiple of every item's size."""

_METADATA = "__metadata__"
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1,
}  # fmt: skip
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_BF16_EXPONENT = 0x7F80
WHY_NOT_OPENED = "opening it would run code of whoever made it, so it is not opened"
"""What is said of a file that may hold more than tensors, in the place of opening it."""
PICKLED = (
    f"it is a pickle, as torch.save writes, and no safetensors: {WHY_NOT_OPENED}. Where it was made, write the tensors "
    "alone: safetensors.torch.save_file(model.state_dict(), FILE)"
)
"""What is said of a file that is `pickled`."""

Size = Annotated[int, Field(ge=0, lt=2**48)]


class _Entry(Frozen):
    model_config = ConfigDict(strict=True)

    dtype: Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"]
    shape: list[Size] = Field(max_length=MAX_RANK, fail_fast=True)
    data_offsets: list[Size] = Field(min_length=2, max_length=2, fail_fast=True)


@dataclass(frozen=True)
class TensorPlace:
    """The place of one tensor in a payload."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """The tensor's first byte, counted from the beginning of the payload, as is `stop`."""
    stop: int


@dataclass(frozen=True)
class Layout:
    """What a payload's header says."""

    metadata: dict[str, str]
    tensors: tuple[TensorPlace, ...]
    """The places of the tensors, in the order in which they lie."""


def pickled(start: Bytes) -> bool:
    """Whether what should be safetensors is what `torch.save` writes, now (a ZIP file) or formerly (a pickle)."""
    # The length of a header that is read is below 2^24, so that the fourth byte of safetensors is 0.
    return bytes(start[:4]) == b"PK\x03\x04" or (bytes(start[:1]) == b"\x80" and bytes(start[3:4]) not in (b"", b"\0"))


def read_layout(payload: Bytes) -> Layout:
    """The header of a payload, held against its bytes; values are not looked at.

    Raises:
        InvalidSnapshot: it is no safetensors; the message says where it goes wrong. `field` is the tensor, if any.
    """
    header, begin = _header(payload)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise InvalidSnapshot(f"{_METADATA} must be an object of texts", field=_METADATA)
    tensors = sorted(
        (_place(name, entry, begin) for name, entry in header.items()), key=lambda place: (place.start, place.stop)
    )
    if not tensors:
        raise InvalidSnapshot("the payload names no tensors: send the state of a network")
    end = begin
    for place in tensors:
        if place.start != end:
            raise InvalidSnapshot(
                f"tensor {place.name!r} starts at byte {place.start - begin} of the data and {end - begin} was due: "
                "tensors lie one after the other, without gaps or overlaps",
                field=place.name,
            )
        end = place.stop
    if end != len(payload):
        raise InvalidSnapshot(
            f"the payload has {len(payload)} bytes and its header speaks of {end}: it was cut off, or is no safetensors"
        )
    return Layout(metadata, tuple(tensors))


def check_finite(payload: Bytes, tensors: Iterable[TensorPlace]) -> None:
    """Raises `InvalidSnapshot` that names the first tensor with a value that is not finite."""
    view = memoryview(payload)
    for place in tensors:
        for start in range(place.start, place.stop, BLOCK_BYTES):
            if not _is_finite(view[start : min(start + BLOCK_BYTES, place.stop)], place.dtype):
                raise InvalidSnapshot(
                    f"tensor {place.name!r} has values that are not finite: the training diverged, publish an earlier "
                    "state",
                    field=place.name,
                )


def _is_finite(block: memoryview, dtype: str) -> bool:
    if dtype == "BF16":  # numpy has no such type
        bits = np.frombuffer(block, "<u2")
        return not ((bits & _BF16_EXPONENT) == _BF16_EXPONENT).any()
    return dtype not in _FLOATS or bool(np.isfinite(np.frombuffer(block, _FLOATS[dtype])).all())


def _header(payload: Bytes) -> tuple[dict[str, Any], int]:
    """The header's JSON object, and the byte after it."""
    if pickled(payload):
        raise InvalidSnapshot(f"the payload cannot be read: {PICKLED}")
    length = int.from_bytes(payload[:8], "little")
    if len(payload) < 8 or length > len(payload) - 8:
        raise InvalidSnapshot(
            f"the payload has {len(payload)} bytes, fewer than its header needs: it was cut off, or is no safetensors"
        )
    if length > MAX_HEADER_BYTES:
        raise InvalidSnapshot(
            f"the header of the payload has {length} bytes and {MAX_HEADER_BYTES} are allowed: shorten its metadata"
        )
    text = bytes(payload[8 : 8 + length])
    if not text.startswith(b"{"):
        raise InvalidSnapshot("the header of the payload is no JSON object: it is no safetensors")
    try:
        header = json.loads(text.decode(), object_pairs_hook=_each_once, parse_constant=_no_number)
        json.dumps(header, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8 form
    except (ValueError, RecursionError) as error:
        raise InvalidSnapshot(f"the header of the payload is not JSON: {error}") from None
    return header, 8 + length


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"it names {twice[:MAX_NAME]!r} twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _place(name: str, given: Any, begin: int) -> TensorPlace:
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidSnapshot(
            f"a tensor is called {name[:64]!r}…: names are printable and have {MAX_NAME} characters at most"
        )
    try:
        entry = _Entry.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "entry"
        raise InvalidSnapshot(f"tensor {name!r}: {where}: {first['msg']}", field=name) from None
    start, stop = entry.data_offsets
    needed = _ITEM_BYTES[entry.dtype] * prod(entry.shape)
    if stop - start != needed:
        raise InvalidSnapshot(
            f"tensor {name!r} of {entry.dtype} {tuple(entry.shape)} takes {needed} bytes and data_offsets "
            f"[{start}, {stop}] are {stop - start}",
            field=name,
        )
    return TensorPlace(name, entry.dtype, tuple(entry.shape), begin + start, begin + stop)
