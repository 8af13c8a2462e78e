"""A classifier as a file: what a run leaves, what teachers are kept in, what adaptation reads and writes.

One safetensors file of every parameter and buffer. Its metadata holds a `SnapshotHeader` as JSON, so the file can be
published as a snapshot as it is. No pickle.
"""

from hashlib import sha256
from pathlib import Path

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from nonesuch.classifiers.published import CLASSIFIER, snapshot_of
from nonesuch.config import explain
from nonesuch.errors import IntegrityError, NotFound
from nonesuch.host.files import replacing
from nonesuch.snapshots import METADATA_KEY, SnapshotHeader
from nonesuch.weights.layout import PICKLED, pickled


def write_classifier(path: Path, header: SnapshotHeader, model: nn.Module) -> SnapshotHeader:
    """Write a model with its header, whole or not at all; returns the header with the sha256 of these weights."""
    snapshot = snapshot_of(model, header)
    document = {METADATA_KEY: snapshot.header.model_dump_json()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(safetensors.torch.load(snapshot.payload), temporary, document)
    return snapshot.header


def read_classifier(path: Path) -> tuple[SnapshotHeader, bytes]:
    """A classifier file's header and payload, as `snapshots.publish` and `load_snapshot` take them.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is damaged, or no classifier file.
    """
    if path.is_dir():
        path = path / CLASSIFIER
    if not path.is_file():
        raise NotFound(f"there is no classifier file {path}: a finished run leaves one as {CLASSIFIER} in its folder")
    try:
        with safe_open(path, framework="pt") as file:
            document = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if document is None:
            raise IntegrityError(f"{path} has no classifier's header: use the {CLASSIFIER} that a run has left")
        header = SnapshotHeader.model_validate_json(document)
    except ValidationError as error:
        raise IntegrityError(explain(error, f"the header of {path}")) from None
    except (SafetensorError, OSError) as error:
        with path.open("rb") as opened:
            start = opened.read(8)
        if pickled(start):
            raise IntegrityError(
                f"{path} cannot be read: {PICKLED}; a classifier file, with its header, is written by a run, or by "
                "nonesuch.classifiers.file.write_classifier"
            ) from None
        raise IntegrityError(f"{path} cannot be read as safetensors ({error}): it is damaged") from error
    payload = safetensors.torch.save(tensors)
    if sha256(payload).hexdigest() != header.sha256:
        raise IntegrityError(f"{path} was damaged: its tensors do not have the sha256 of its header")
    return header, payload
