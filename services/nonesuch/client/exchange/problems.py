"""The error that the gateway raised, made again from an answer that is not what was asked for."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from nonesuch import errors
from nonesuch.client.exchange.wire import Head
from nonesuch.errors import NonesuchError

SHOWN_CHARACTERS = 200

CLASSES: dict[str, type[NonesuchError]] = {
    errors.PROBLEM + errors.problem_name(kind): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, NonesuchError)
}
"""Every class of the tree of errors, by the `type` of its problem."""

_BY_STATUS: dict[int, type[NonesuchError]] = {
    401: errors.Unauthorised,
    403: errors.Forbidden,
    404: errors.NotFound,
    406: errors.NotAcceptable,
    408: errors.Unreachable,
    409: errors.Conflict,
    410: errors.NotFound,
    412: errors.PreconditionFailed,
    429: errors.Busy,
    502: errors.Unreachable,
    503: errors.Unreachable,
    504: errors.Unreachable,
}
"""Classes by status, for what is no problem of ours: the web framework's own answers, and those of proxies."""


def error_of(head: Head, body: bytes) -> NonesuchError:
    """The error of an answer: of the class that its problem names, or else of one that its status suggests.

    A note that a traceback shows has the status, the URL and the id of the request.
    """
    problem = _problem(head, body)
    detail = str(problem.get("detail") or _text(head, body))
    kind = CLASSES.get(str(problem.get("type"))) or _by_status(head.status)
    error = kind(detail, field=_field(problem)) if issubclass(kind, errors.InvalidValue) else kind(detail)
    if isinstance(error, errors.RateLimited):
        error.retry_after_s = retry_after_s(head.headers) or None
    request_id = head.headers.get("x-request-id", "none")
    error.add_note(f"(HTTP {head.status} from {head.url}, request id {request_id})")
    return error


def retry_after_s(headers: Mapping[str, str]) -> float:
    """What Retry-After says, in seconds or as a date; 0 if it says nothing that can be read."""
    given = headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given)
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _problem(head: Head, body: bytes) -> dict[str, Any]:
    if not head.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(head: Head, body: bytes) -> str:
    if 300 <= head.status < 400:
        return f"{head.url} answers from {head.headers.get('location', 'another place')}: give that URL"
    text = body.decode(errors="replace").strip()[:SHOWN_CHARACTERS]
    return f"{head.url} answered {head.status}" + (f": {text}" if text else "")


def _by_status(status: int) -> type[NonesuchError]:
    return _BY_STATUS.get(status, errors.InvalidValue if status < 500 else errors.ServiceError)


def _field(problem: Mapping[str, Any]) -> str | None:
    """The dotted path of the first part of the request that is named."""
    try:
        pointer = str(problem["errors"][0]["pointer"])
    except (LookupError, TypeError):
        return None
    parts = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    return ".".join(parts) or None
