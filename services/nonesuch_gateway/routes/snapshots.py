"""Snapshots over HTTP: publish the weights of a classifier, and fetch what was published."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from hashlib import sha256
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator
from starlette.exceptions import HTTPException

from nonesuch.link import AsyncLink
from nonesuch.model import Name
from nonesuch.snapshots import (
    MAX_VERSION,
    SnapshotHeader,
    Stored,
    check_version,
    damaged,
    find,
    kept_headers,
    read_chunk,
)
from nonesuch_gateway.http.bodies import check_coding
from nonesuch_gateway.http.conditions import content_digest, declared_sha256, entity_tag, latest_wanted
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.replies.headers import is_unchanged
from nonesuch_gateway.routes.deps import Gateway, GatewayDep
from nonesuch_gateway.routes.publishing import publish_bytes

PREFIX = "/v1/snapshots"
MEDIA_TYPE = "application/x-safetensors"
ACCEPTED = ("", MEDIA_TYPE, "application/octet-stream")
"""Content-Types of a body that is taken for safetensors; "" is none."""

router = APIRouter(prefix=PREFIX, tags=["snapshots"])


def _digits(text: str) -> str:
    """The text of a version, of which each has one URL: not +1, 01 or 1.0 too."""
    if not re.fullmatch("0|[1-9][0-9]*", text):
        raise ValueError("a version is a whole number, in digits without leading zeros")
    return text


Channel = Annotated[Name, Query(description="Which line of snapshots; each has versions of its own.")]
Version = Annotated[int, Path(ge=0, le=MAX_VERSION), BeforeValidator(_digits)]

_BYTES: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_FOUND: dict[int | str, dict[str, Any]] = {
    200: {"description": "The payload as it was published.", "content": _BYTES},
    304: {"description": "The client has it: If-None-Match names its ETag."},
    **documented(404, 422, 502, 503),
}


class Snapshots(BaseModel):
    """Oldest first; empty while nothing is published."""

    snapshots: tuple[SnapshotHeader, ...]


@router.get("", summary="What snapshots of a channel are kept", responses=documented(422, 503))
async def kept(gateway: GatewayDep, channel: Channel = "default") -> Snapshots:
    """Each as its publisher described it: architecture, classes, normalisation, and the real data behind it."""
    return Snapshots(snapshots=await gateway.link.run(kept_headers(gateway.link.keys, channel)))


@router.put(
    "/{version}",
    summary="Publish a snapshot",
    status_code=201,
    responses={
        200: {"description": "It is there already, with the same payload.", "model": SnapshotHeader},
        201: {"description": "It is the latest now."},
        **documented(400, 408, 409, 412, 413, 415, 422, 429, 503),
    },
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
async def put(
    version: Version, request: Request, response: Response, gateway: GatewayDep, channel: Channel = "default"
) -> SnapshotHeader:
    """The body is a safetensors file, such as the `classifier.safetensors` of a finished run. Its metadata says under
    `nonesuch.classifier` what the classifier is; channel and version are those of the URL.

    Versions of a channel only go up (409), and the same again does no harm (200). With `If-Match` it is published only
    if the latest one has that ETag (412). A `Content-Digest` or `X-Content-SHA256` is checked. Nothing is read of a
    body that would be refused whatever it holds.
    """
    _check_media_type(request)
    declared = declared_sha256(request.headers)
    if_latest = latest_wanted(request.headers)
    await gateway.link.run(check_version(gateway.link.keys, channel, version, if_latest=if_latest))
    async with gateway.uploads.receive(request) as body:
        header, is_new = await asyncio.to_thread(
            publish_bytes,
            gateway.settings.redis,
            body,
            channel=channel,
            version=version,
            declared=declared,
            if_latest=if_latest,
        )
    root = request.scope.get("root_path", "")
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{root}{PREFIX}/{version}?channel={channel}"
    response.headers["ETag"] = entity_tag(header.sha256)
    return header


@router.head("/latest", include_in_schema=False)
@router.get("/latest", summary="Fetch the latest snapshot", response_class=Response, responses=_FOUND)
async def get_latest(request: Request, gateway: GatewayDep, channel: Channel = "default") -> Response:
    """`X-Nonesuch-Snapshot` is its version, `ETag` the sha256 of the payload."""
    return await _answer(request, gateway, channel, "latest")


@router.head("/{version}", include_in_schema=False)
@router.get("/{version}", summary="Fetch a snapshot", response_class=Response, responses=_FOUND)
async def get(version: Version, request: Request, gateway: GatewayDep, channel: Channel = "default") -> Response:
    """The last few versions are kept, and those that an open order names."""
    return await _answer(request, gateway, channel, version)


def _check_media_type(request: Request) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in ACCEPTED:
        raise HTTPException(415, f"the body has Content-Type {given!r}: send safetensors, as {MEDIA_TYPE}")
    check_coding(request.headers)


async def _answer(request: Request, gateway: Gateway, channel: str, version: int | Literal["latest"]) -> Response:
    link = gateway.link
    caching = "no-cache" if gateway.tokens is None else "private, no-cache"
    stored = await link.run(find(link.keys, channel, version))
    header = stored.header
    headers = {
        "ETag": entity_tag(header.sha256),
        "Cache-Control": caching,  # a channel that was dropped starts anew, so even a version may change
        "X-Nonesuch-Snapshot": str(header.version),
    }
    if is_unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers |= {
        "Content-Length": str(stored.bytes),
        "Content-Digest": content_digest(header.sha256),
        "Content-Disposition": f'attachment; filename="{header.channel}-{header.version}.safetensors"',
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type=MEDIA_TYPE)
    parts = _parts(link, stored)
    first = await anext(parts)  # an error until here is an answer of its own
    return StreamingResponse(_chained(first, parts), headers=headers, media_type=MEDIA_TYPE)


async def _parts(link: AsyncLink, stored: Stored) -> AsyncGenerator[bytes, None]:
    """A snapshot's payload, a chunk at a time. Whatever fails leaves it shorter than its Content-Length, so nobody
    takes it for whole; the last chunk is held back until the sha256 is right.
    """
    digest = sha256()
    for number in range(stored.chunks):
        chunk = await link.run(read_chunk(link.keys, stored, number))
        await asyncio.to_thread(digest.update, chunk)
        if number == stored.chunks - 1 and digest.hexdigest() != stored.header.sha256:
            raise damaged(stored.header)
        yield chunk


async def _chained(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part
