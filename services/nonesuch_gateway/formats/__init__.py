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
"""By name. The first is what a client gets that takes anything; among equals the earlier wins."""

CONTENT: dict[str, Any] = {
    form.media_type: {"schema": form.schema, "examples": {form.name: {"summary": form.opened_by, **form.example}}}
    for form in FORMATS.values()
}
"""The `content` of an answer in the OpenAPI document, by media type."""
