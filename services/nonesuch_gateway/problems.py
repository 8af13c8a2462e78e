"""Every error that leaves the gateway, as problem details (RFC 9457): one table from error to status.

The `type` of a problem is the name of its error class, so that a client can raise the same class again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nonesuch.errors import (
    Busy,
    Conflict,
    IntegrityError,
    InvalidValue,
    NonesuchError,
    NotAcceptable,
    NotFound,
    NoWorkers,
    OrderFailed,
    PreconditionFailed,
    RecipeGone,
    RingClosed,
    TakeTimeout,
    Unreachable,
)
from nonesuch_gateway.pointers import FieldProblem, field_problems, pointer_to

MEDIA_TYPE = "application/problem+json"


class Answer(NamedTuple):
    """How an error is answered: the status, and after how many seconds trying again makes sense."""

    status: int
    retry_after_s: int | None = None


ANSWERS: dict[type[NonesuchError], Answer] = {
    InvalidValue: Answer(422),
    NotAcceptable: Answer(406),
    NotFound: Answer(404),
    RecipeGone: Answer(410),
    Conflict: Answer(409),
    PreconditionFailed: Answer(412),
    Busy: Answer(429, 2),
    NoWorkers: Answer(503, 10),
    Unreachable: Answer(503, 5),
    RingClosed: Answer(503, 2),
    TakeTimeout: Answer(504),
    OrderFailed: Answer(502),
    IntegrityError: Answer(502),
    NonesuchError: Answer(500),
}
"""The most derived class of an error that is in here counts."""


class Problem(BaseModel):
    """A problem details document."""

    type: str = Field(default="about:blank", examples=["urn:nonesuch:problem:invalid-order"])
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] = []


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problems."""
    schema = Problem.model_json_schema()
    # OpenAPI keeps definitions elsewhere than JSON Schema, so this one goes where it is used.
    schema["properties"]["errors"]["items"] = schema.pop("$defs")["FieldProblem"]
    content = {MEDIA_TYPE: {"schema": schema}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(NonesuchError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def _on_our_error(request: Request, error: Exception) -> Response:
    answer = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    field = error.field if isinstance(error, InvalidValue) else None
    return _respond(
        request,
        answer.status,
        str(error),
        kind=f"urn:nonesuch:problem:{name}",
        title=name.replace("-", " ").capitalize(),
        errors=[FieldProblem(pointer=pointer_to(field.split(".")), detail=str(error))] if field else [],
        headers={} if answer.retry_after_s is None else {"Retry-After": str(answer.retry_after_s)},
    )


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    media_type = request.headers.get("content-type", "none")
    if found[0]["type"] == "json_invalid":
        reason, place = found[0]["ctx"]["error"], found[0]["loc"][-1]
        return _respond(request, 400, f"the body is not JSON: {reason} at character {place}")
    if isinstance(error.body, bytes) and found[0]["loc"] == ("body",):
        return _respond(
            request, 415, f"the body has Content-Type {media_type!r}: send JSON, with Content-Type: application/json"
        )
    errors = field_problems(found, error.body)
    return _respond(
        request,
        422,
        "; ".join(f"{e.pointer}: {e.detail}" for e in errors),
        kind="urn:nonesuch:problem:invalid-value",
        title="Invalid value",
        errors=errors,
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = {
        404: f"there is nothing at {request.url.path}: /docs lists what there is",
        405: f"{request.method} is not allowed at {request.url.path}; allowed: {(error.headers or {}).get('Allow')}",
    }.get(error.status_code, error.detail)
    return _respond(request, error.status_code, detail, headers=error.headers or {})


async def _on_bug(request: Request, error: Exception) -> Response:
    """The server logs the traceback; the client learns the id to look it up by."""
    detail = "an error that the gateway did not foresee; its log has the details"
    return _respond(request, 500, detail, headers={"Connection": "close"})  # the server closes it anyway


def _respond(
    request: Request,
    status: int,
    detail: str,
    *,
    kind: str = "about:blank",
    title: str | None = None,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = getattr(request.state, "request_id", "unknown")
    problem = Problem(
        type=kind,
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        request_id=request_id,
        errors=list(errors),
    )
    # ASCII, because a string from JSON may hold half of a surrogate pair, which has no UTF-8 form.
    body = json.dumps(problem.model_dump(exclude_none=True)).encode("ascii")
    # No cache keeps a problem: what is missing may be there in a moment, and 404 and 410 are kept unless told not to.
    fixed = {"X-Request-Id": request_id, "Cache-Control": "no-store"}
    return Response(body, status, {**fixed, **(headers or {})}, MEDIA_TYPE)
