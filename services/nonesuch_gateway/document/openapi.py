"""The OpenAPI document: what FastAPI derives from the routes, and what it cannot know from them.

The routes say which statuses they answer with (`http.problems.documented`). Here are the headers, the examples and the
groups, as tables, and the function that lays them over the document.
"""

import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from nonesuch.errors import PROBLEM, problem_name
from nonesuch_gateway.document.examples import EVENTS, FAILURES, REQUESTS, SNAPSHOT, Failure
from nonesuch_gateway.http.pointers import FieldProblem
from nonesuch_gateway.http.problems import MEDIA_TYPE, Problem

TAGS = [
    {"name": "batches", "description": "Images in the answer, and the same ones again."},
    {"name": "orders", "description": "More images than one answer should hold: made now, fetched later."},
    {"name": "snapshots", "description": "Weights of the classifiers that strategies aim at or ask."},
    {"name": "catalogue", "description": "What can be asked for, and what is going on."},
    {"name": "health", "description": "For load balancers and orchestrators."},
]

_EVENTS = "text/event-stream"
_REF = "#/components/{}/{}"

HEADERS: dict[str, tuple[str, str]] = {
    "Cache-Control": ("How long caches may keep it.", "public, max-age=31536000, immutable"),
    "Content-Digest": ("RFC 9530; of an answer that was whole before it was sent.", "sha-256=:47DEQpj8HBSa+…:"),
    "Content-Disposition": ("A name for the file.", 'inline; filename="nonesuch-5feceb66ffc8.arrows"'),
    "Content-Location": ("Where the same bytes can be had again.", "/v1/batches/r3.eNqrVkrOzytJ…?format=arrow"),
    "ETag": (
        "Names the bytes; for If-None-Match, and of snapshots for If-Match.",
        '"5feceb66ffc86f38d952786c6d696c79"',
    ),
    "Location": ("Where it is.", "/v1/orders/5feceb66ffc86f38d952786c6d696c79.4a44dc15364204a8"),
    "RateLimit": ("What is left of the token's limits.", '"requests";r=59;t=1'),
    "RateLimit-Policy": ("The token's limits, if it has any.", '"requests";q=60;w=60'),
    "Retry-After": ("After so many seconds trying again makes sense.", "2"),
    "Vary": ("Another Accept gets another file.", "Accept"),
    "WWW-Authenticate": ("What is wanted.", "Bearer"),
    "X-Nonesuch-Order": ("The recipe: the `order` of every row.", "5feceb66ffc86f38d952786c6d696c79"),
    "X-Nonesuch-Seed": ("The seed that was used.", "7"),
    "X-Nonesuch-Snapshot": ("The version of the snapshot.", "3"),
    "X-Request-Id": ("Names the request in the log; a caller's own is kept.", "9f86d081884c7d659a2feaa0c55ad015"),
}
"""The headers of answers: what each says, and an example."""

_NUMBERS = {"Retry-After", "X-Nonesuch-Seed", "X-Nonesuch-Snapshot"}
_ALWAYS = {"X-Request-Id", "Retry-After", "X-Nonesuch-Order", "X-Nonesuch-Seed", "Location", "WWW-Authenticate"}
"""Headers that never lack where they are listed in `_OF_OPERATION` or `_OF_STATUS`."""

_IMAGES = ("Content-Digest", "Content-Disposition", "Content-Location", "ETag", "X-Nonesuch-Order", "X-Nonesuch-Seed",
           "X-Nonesuch-Snapshot")  # fmt: skip
_PAYLOAD = ("Cache-Control", "Content-Digest", "Content-Disposition", "ETag", "X-Nonesuch-Snapshot")

_OF_OPERATION: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("post", "/v1/batches", "200"): _IMAGES,
    ("get", "/v1/batches/{recipe_id}", "200"): ("Cache-Control", *_IMAGES, "Vary"),
    ("get", "/v1/batches/{recipe_id}", "304"): ("Cache-Control", "Content-Location", "ETag", "Vary"),
    ("post", "/v1/orders", "202"): ("Location",),
    ("get", "/v1/orders/{order_id}", "200"): ("Cache-Control",),
    ("get", "/v1/orders/{order_id}/results", "200"): ("Cache-Control", *_IMAGES),
    ("put", "/v1/snapshots/{version}", "200"): ("ETag", "Location"),
    ("put", "/v1/snapshots/{version}", "201"): ("ETag", "Location"),
    ("get", "/v1/snapshots/{version}", "200"): _PAYLOAD,
    ("get", "/v1/snapshots/{version}", "304"): ("Cache-Control", "ETag", "X-Nonesuch-Snapshot"),
    ("get", "/v1/snapshots/latest", "200"): _PAYLOAD,
    ("get", "/v1/snapshots/latest", "304"): ("Cache-Control", "ETag", "X-Nonesuch-Snapshot"),
}
_OF_STATUS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}


def install_document(app: FastAPI) -> None:
    """Make `app.openapi()` the completed document. Routes that are added later are in it until its first use."""
    derived = app.openapi

    @cache
    def document() -> dict[str, Any]:
        return _completed(derived())

    app.openapi = document  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    document = _plain(document)
    components = document["components"]
    schema = Problem.model_json_schema(ref_template=_REF.format("schemas", "{model}"))
    components["schemas"] |= {**schema.pop("$defs"), "Problem": schema}
    used = {"X-Request-Id"}
    for path, method, operation in _operations(document):
        _complete_request(operation)
        responses = operation["responses"]
        if "HTTPValidationError" in str(responses.get("422")):
            del responses["422"]  # FastAPI's own: nothing about these parameters can be wrong
        for status, response in sorted(responses.items()):
            names = _OF_OPERATION.get((method, path, status), ()) + _OF_STATUS.get(status, ())
            if "401" in responses and status != "401":
                names += ("RateLimit", "RateLimit-Policy")
            used.update(names)
            response["headers"] = {n: {"$ref": _REF.format("headers", n)} for n in (*names, "X-Request-Id")}
            if (events := response.get("content", {}).get(_EVENTS)) is not None:
                # FastAPI writes what OpenAPI 3.2 calls it; tools for 3.1 hold the schema against each event.
                events |= {"schema": events.pop("itemSchema"), "example": EVENTS}
            if MEDIA_TYPE in response.get("content", {}):
                response["content"][MEDIA_TYPE]["examples"] = dict(_failures(f"{method} {path}", int(status)))
        operation["responses"] = dict(sorted(responses.items()))
    components["headers"] = {name: _header(name) for name in sorted(used)}
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _header(name: str) -> dict[str, Any]:
    description, example = HEADERS[name]
    schema = {"type": "integer", "minimum": 0} if name in _NUMBERS else {"type": "string"}
    return {
        "description": description,
        "required": name in _ALWAYS,
        "schema": schema,
        "example": int(example) if name in _NUMBERS else example,
    }


def _complete_request(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        if "anyOf" in parameter["schema"]:  # what is left out of a URL or a head is not null
            (only,) = (each for each in parameter["schema"].pop("anyOf") if each != {"type": "null"})
            parameter["schema"] |= only
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        content["application/json"]["examples"] = {name: {"value": value} for name, value in REQUESTS.items()}
    if "application/x-safetensors" in content:
        summary = "A file of one tensor; each character stands for a byte."
        content["application/x-safetensors"]["examples"] = {"classifier": {"summary": summary, "value": SNAPSHOT}}


def _failures(operation: str, status: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for failure in FAILURES:
        if failure.status == status and re.match(failure.at, operation):
            name = "about:blank" if failure.kind is None else problem_name(failure.kind)
            yield name, {"value": _problem(failure, name).model_dump(exclude_none=True)}


def _problem(failure: Failure, name: str) -> Problem:
    blank = failure.kind is None
    return Problem(
        type=name if blank else PROBLEM + name,
        title=HTTPStatus(failure.status).phrase if blank else name.replace("-", " ").capitalize(),
        status=failure.status,
        detail=failure.detail,
        request_id=HEADERS["X-Request-Id"][1],
        errors=[FieldProblem(pointer=failure.pointer, detail=failure.detail)] if failure.pointer else [],
    )


def _plain(value: Any) -> Any:
    """JSON Schema as every tool reads it: FastAPI makes 1 of a limit 1.0, pydantic three schemas of three equal
    items; a limit as large as 2^63 would lose its last digits.
    """
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        plain = {key: _plain(each) for key, each in value.items()}
        items = plain.get("prefixItems")
        if items and plain.get("maxItems") == len(items) and all(each == items[0] for each in items):
            del plain["prefixItems"]
            plain["items"] = items[0]
        return plain
    return int(value) if isinstance(value, float) and value.is_integer() else value
