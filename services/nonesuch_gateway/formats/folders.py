"""A ZIP of PNG files in a folder for each class."""

import re
from collections.abc import Iterator

import pyarrow as pa

from nonesuch.formats.pictures import png, stem
from nonesuch.schema import class_names_of, images_of, labels_of
from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.zips import ZipWriter


class FolderZip(Format):
    """Members `<label>-<class name>/<index>.png`. Labels have leading zeros, so that folders sort by them: readers of
    class folders number the classes as the labels do, if each has an image. Provenance is left out.
    """

    name = "zip"
    media_type = "application/zip"
    signature = b"PK\x03\x04"
    opened_by = 'torchvision.datasets.ImageFolder("batch"), after unzip -d batch batch.zip'

    def __init__(self, outline: Outline) -> None:
        self._zip = ZipWriter()
        self._folders: list[str] = []

    def add(self, batch: pa.RecordBatch) -> list[bytes]:
        folders = self._folders or _folders(class_names_of(batch.schema))
        self._folders = folders
        labels, indices = labels_of(batch), batch.column("index").to_numpy()
        members = (
            self._zip.member(f"{folders[label]}/{stem(index)}.png", png(image))
            for image, label, index in zip(images_of(batch), labels, indices, strict=True)
        )
        return [b"".join(members)]

    def finish(self) -> Iterator[bytes]:
        return self._zip.end()

    def close(self) -> None:
        self._zip.close()


def _folders(class_names: tuple[str, ...]) -> list[str]:
    """Names that are safe in any file system, and differ even where those of classes do not."""
    digits = len(str(len(class_names) - 1))
    return [f"{i:0{digits}d}-" + re.sub(r"[^\w-]+", "_", name)[:64] for i, name in enumerate(class_names)]
