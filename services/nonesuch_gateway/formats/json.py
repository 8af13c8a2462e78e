"""JSON in the shape of the OpenAI images API."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa

from nonesuch.formats.pictures import png
from nonesuch.schema import class_names_of, images_of, labels_of
from nonesuch_gateway.formats.base import Format, Outline

CREATED = 0
"""The time of making, in seconds since 1970, which the API's clients expect; always the same, as the rest is."""

_ITEM = {
    "type": "object",
    "required": ["b64_json", "label", "class", "index"],
    "properties": {
        "b64_json": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        "label": {"type": "integer", "minimum": 0},
        "class": {"type": "string"},
        "index": {"type": "integer", "minimum": 0},
    },
}
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


class JsonImages(Format):
    """`{"created": 0, "data": [{"b64_json": PNG in base64, "label", "class", "index"}, …]}`, an image a line."""

    name = "json"
    media_type = "application/json"
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["created", "data"],
        "properties": {"created": {"type": "integer", "const": CREATED}, "data": {"type": "array", "items": _ITEM}},
    }
    opened_by = "client.images.generate of an OpenAI client reads it"
    example: ClassVar[Any] = {
        "created": CREATED,
        "data": [{"b64_json": _PIXEL, "label": 7, "class": "Sneaker", "index": 0}],
    }

    def __init__(self, outline: Outline) -> None:
        self._before = f'{{"created": {CREATED}, "data": [\n'

    def add(self, batch: pa.RecordBatch) -> list[bytes]:
        names, indices = class_names_of(batch.schema), batch.column("index").to_pylist()
        parts: list[str] = []
        for image, label, index in zip(images_of(batch), labels_of(batch).tolist(), indices, strict=True):
            item = {"b64_json": b64encode(png(image)).decode(), "label": label, "class": names[label], "index": index}
            parts += (self._before, json.dumps(item))
            self._before = ",\n"
        return ["".join(parts).encode()]

    def finish(self) -> Iterator[bytes]:
        opening = "" if self._before == ",\n" else self._before
        yield f"{opening}\n]}}\n".encode()
