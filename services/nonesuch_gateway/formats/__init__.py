"""Formats: what the batches of an order look like on the wire. One file for each, and `base` for what they share."""

from typing import Any

from nonesuch_gateway.formats.arrow import CODECS, ArrowStream
from nonesuch_gateway.formats.base import Format, Outline, encoded
from nonesuch_gateway.formats.folders import FolderZip
from nonesuch_gateway.formats.grid import PngGrid
from nonesuch_gateway.formats.json import JsonImages
from nonesuch_gateway.formats.npz import NpzFile
from nonesuch_gateway.formats.parquet import ParquetFile
from nonesuch_gateway.formats.webdataset import WebDatasetTar

__all__ = ["CODECS", "CONTENT", "FORMATS", "ArrowStream", "Format", "Outline", "encoded"]

FORMATS: dict[str, type[Format]] = {
    form.name: form for form in (ArrowStream, ParquetFile, NpzFile, WebDatasetTar, FolderZip, PngGrid, JsonImages)
}
"""The formats by name. The first is what a client gets that takes anything; among equals the earlier wins."""


def _example(form: type[Format]) -> dict[str, Any]:
    if form.example is not None:
        return {"summary": form.opened_by, "value": form.example}
    begins = "Binary; the value is how such a file begins, in hexadecimal."
    return {"summary": form.opened_by, "description": begins, "value": form.signature.hex(" ")}


CONTENT: dict[str, Any] = {
    form.media_type: {"schema": form.schema, "examples": {form.name: _example(form)}} for form in FORMATS.values()
}
"""The `content` of an answer in the OpenAPI document, by media type."""
