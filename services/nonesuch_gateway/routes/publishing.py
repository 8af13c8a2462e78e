"""Bytes that a stranger sends, made a snapshot: everything is checked that can be without building the network.

Whether the tensors are those of the architecture only a worker can tell, which has torch; it refuses the snapshot then,
and the order that names it fails with the reason.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidSnapshot
from nonesuch.link import Link
from nonesuch.snapshots import METADATA_KEY, SnapshotHeader, publish
from nonesuch.weights.layout import check_finite, read_layout


def publish_bytes(
    redis: RedisSettings,
    payload: bytearray,
    *,
    channel: str,
    version: int,
    declared: str | None,
    if_latest: tuple[str, ...] | None,
) -> tuple[SnapshotHeader, bool]:
    """Check a payload and publish it. Blocks, for a second per GB and the way to Redis: give it a thread of its own.

    Args:
        redis: where to.
        payload: safetensors, with the header of the classifier in its metadata under `METADATA_KEY`. What that says of
            channel, version and sha256 is passed over.
        channel: of the snapshot.
        version: of the snapshot.
        declared: the sha256 that the payload should have, if the client said so.
        if_latest: as for `nonesuch.snapshots.publish`.

    Returns:
        The header, and whether the snapshot is new.

    Raises:
        InvalidSnapshot: it is no safetensors, has no header, was damaged on its way, or a tensor is not finite.
        RequestValidationError: fields of its header are not as they must be.
        Conflict, PreconditionFailed, Unreachable, Busy: see `nonesuch.snapshots.publish`.
    """
    digest = sha256(payload).hexdigest()
    if declared not in (None, digest):
        raise InvalidSnapshot(
            f"the body has sha256 {digest} and {declared} was declared: it was damaged on its way, send it again",
            field="Content-Digest",
        )
    layout = read_layout(payload)
    header = _header(layout.metadata, {"channel": channel, "version": version, "sha256": digest})
    check_finite(payload, layout.tensors)
    with Link(redis) as link:
        return header, link.run(publish(link.keys, header, payload, if_latest=if_latest))


def _header(metadata: Mapping[str, str], known: Mapping[str, Any]) -> SnapshotHeader:
    document = metadata.get(METADATA_KEY)
    if document is None:
        raise InvalidSnapshot(
            f"the payload's __metadata__ has no {METADATA_KEY!r}: put the header of the classifier there as JSON, with "
            "architecture, args, image_shape, classes, class_names, mean, std, epoch and step",
            field="__metadata__",
        )
    try:
        said = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise InvalidSnapshot(
            f"{METADATA_KEY!r} in the payload's __metadata__ is not JSON: {error}", field="__metadata__"
        ) from None
    if not isinstance(said, dict):
        raise InvalidSnapshot(
            f"{METADATA_KEY!r} in the payload's __metadata__ must be a JSON object", field="__metadata__"
        )
    given = {**said, **known}
    try:
        return SnapshotHeader.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems, body=given) from None
