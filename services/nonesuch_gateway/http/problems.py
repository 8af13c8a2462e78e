"""Every error that leaves the gateway, as problem details (RFC 9457): one table from error to status.

The `type` of a problem is the name of its error class, so that a client can raise the same class again.
"""

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nonesuch import errors
from nonesuch.errors import NonesuchError
from nonesuch_gateway.http.pointers import SHOWN_CHARACTERS, FieldProblem, field_problems, pointer_to

MEDIA_TYPE = "application/problem+json"


class Answer(NamedTuple):
    """How an error is answered: the status, and after how many seconds trying again makes sense."""

    status: int
    retry_after_s: int | None = None


ANSWERS: dict[type[NonesuchError], Answer] = {
    errors.InvalidValue: Answer(422),
    errors.NotAcceptable: Answer(406),
    errors.NotFound: Answer(404),
    errors.RecipeGone: Answer(410),
    errors.Conflict: Answer(409),
    errors.PreconditionFailed: Answer(412),
    errors.Unauthorised: Answer(401),
    errors.Denied: Answer(403),
    errors.Busy: Answer(429, 2),
    errors.NoWorkers: Answer(503, 10),
    errors.Unreachable: Answer(503, 5),
    errors.Refused: Answer(503, 30),
    errors.Unavailable: Answer(503, 2),
    errors.RingClosed: Answer(503, 2),
    errors.TakeTimeout: Answer(504),
    errors.OrderFailed: Answer(502),
    errors.IntegrityError: Answer(502),
    NonesuchError: Answer(500),
}
"""The answer to every kind of error; the most derived class that is in here counts."""


class Problem(BaseModel):
    """A problem details document."""

    type: str = Field(default="about:blank", examples=["urn:nonesuch:problem:invalid-order"])
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldProblem] = []


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers with these problems. `document.openapi` adds the schema and examples."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(NonesuchError, answer_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)


async def answer_error(request: Request, error: Exception) -> Response:
    """The problem of one of our errors."""
    answer = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    assert isinstance(error, NonesuchError)
    name = errors.problem_name(type(error))
    field = error.field if isinstance(error, errors.InvalidValue) else None
    return _respond(
        request,
        answer.status,
        str(error),
        kind=errors.PROBLEM + name,
        title=name.replace("-", " ").capitalize(),
        errors=[FieldProblem(pointer=pointer_to(field.split(".")), detail=str(error))] if field else [],
        headers={**_retry_after(error, answer), **_challenge(request, error)},
    )


def _retry_after(error: NonesuchError, answer: Answer) -> dict[str, str]:
    seconds = error.retry_after_s if isinstance(error, errors.RateLimited) else None
    if seconds is None:
        seconds = answer.retry_after_s
    return {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}


def _challenge(request: Request, error: NonesuchError) -> dict[str, str]:
    """The headers that RFC 6750 has a client told that was denied."""
    if not isinstance(error, errors.Denied):
        return {}
    parts = ['Bearer realm="nonesuch"']
    if isinstance(error, errors.Forbidden):
        parts.append('error="insufficient_scope"')
        if error.scope is not None:
            parts.append(f'scope="{error.scope}"')
    elif "authorization" in request.headers:
        parts.append('error="invalid_token"')
    return {"WWW-Authenticate": ", ".join(parts)}


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
    path: str = request.scope["path"][:SHOWN_CHARACTERS]
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request))
    detail = {
        404: f"there is nothing at {path}: {request.scope.get('root_path', '')}/docs lists what there is",
        405: f"{request.method} is not allowed at {path}; allowed: {headers.get('Allow')}",
    }.get(error.status_code, error.detail)
    return _respond(request, error.status_code, detail, headers=headers)


def _methods_at(request: Request) -> list[str]:
    """The methods of every route that has this path: the one that refused knows its own method only."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    routes = [r for r in iter_route_contexts(request.app.routes) if r.path_regex.match(path)]
    named = [r for r in routes if r.path == path]  # goes before a route with a parameter in its place
    return sorted({method for r in named or routes for method in r.methods or ()})


async def _on_bug(request: Request, error: Exception) -> Response:
    """The problem of a bug: the server logs the traceback; the client learns the id to look it up by."""
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
