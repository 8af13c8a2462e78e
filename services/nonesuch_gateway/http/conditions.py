"""Entity tags and digests: the headers by which a client says which bytes it has, wants or sends (RFC 9110, 9530).

The entity tag of a payload is its sha256, so a client that has the bytes knows their tag without asking.
"""

import base64
import binascii
import re

from starlette.datastructures import Headers

from nonesuch.errors import InvalidValue
from nonesuch.snapshots import ANY

_TAG = re.compile(r'(W/)?"([^"]*)"')
_SHA256 = re.compile(r"[0-9a-f]{64}")


def entity_tag(sha256: str) -> str:
    """The ETag of bytes with this sha256."""
    return f'"{sha256}"'


def content_digest(sha256: str) -> str:
    """The Content-Digest of bytes with this sha256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def latest_wanted(headers: Headers) -> tuple[str, ...] | None:
    """The `if_latest` of `nonesuch.snapshots.publish` that If-Match asks for; None if the header is not there."""
    if "if-match" not in headers:
        return None
    given = ", ".join(headers.getlist("if-match"))
    if given.strip() == "*":
        return ANY
    return tuple(tag for weak, tag in _TAG.findall(given) if not weak and _SHA256.fullmatch(tag))


def declared_sha256(headers: Headers) -> str | None:
    """The sha256 that Content-Digest or X-Content-SHA256 declares for the body; None if neither does.

    Raises `InvalidValue` that names the header.
    """
    by_hex = headers.get("x-content-sha256")
    if by_hex is not None and not _SHA256.fullmatch(by_hex.lower()):
        raise InvalidValue("X-Content-SHA256 must be 64 hexadecimal digits", field="X-Content-SHA256")
    by_digest = _sha256_of(headers)
    if by_hex is not None and by_digest not in (None, by_hex.lower()):
        raise InvalidValue("X-Content-SHA256 and Content-Digest differ: send one of them", field="X-Content-SHA256")
    return by_digest or (by_hex and by_hex.lower())


def _sha256_of(headers: Headers) -> str | None:
    for entry in ", ".join(headers.getlist("content-digest")).split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm != "sha-256":
            continue  # one that we do not know may be ignored
        try:
            digest = base64.b64decode(value.removeprefix(":").removesuffix(":"), validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != 32:
            raise InvalidValue(
                "Content-Digest must be sha-256=:…: with the 32 bytes of the digest in base64", field="Content-Digest"
            )
        return digest.hex()
    return None
