"""Errors of a request body: the part that each is about."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

SHOWN_CHARACTERS = 200


class FieldProblem(BaseModel):
    """What is wrong with one part of the request."""

    pointer: str = Field(description="JSON pointer to the part, as a URI fragment", examples=["#/params/sigma"])
    detail: str
    given: str | None = Field(default=None, description="the value as JSON, cut off when it is long")


def field_problems(errors: Sequence[Mapping[str, Any]], body: Any) -> list[FieldProblem]:
    """Pydantic's errors, one entry for each part: a value that fits neither of two kinds is one problem."""
    merged: dict[str, FieldProblem] = {}
    for problem in (_field_problem(error, body) for error in errors):
        before = merged.get(problem.pointer)
        detail = problem.detail if before is None else f"{before.detail}, or: {problem.detail}"
        merged[problem.pointer] = problem.model_copy(update={"detail": detail})
    return list(merged.values())


def pointer_to(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) as a URI fragment; `#` is the whole body."""
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _field_problem(error: Mapping[str, Any], body: Any) -> FieldProblem:
    """Follow an error's location through the body; what is not there is a name of pydantic's for a kind of value."""
    place, *rest = error["loc"]
    if place != "body":
        detail = "this is required" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
        return FieldProblem(
            pointer=pointer_to(rest), detail=f"{place} parameter: {detail}", given=_shown(error["input"])
        )
    value, path = body, []
    for part in rest:
        if _holds(value, part):
            value = value[part]
            path.append(part)
    if error["type"] == "missing":
        return FieldProblem(pointer=pointer_to([*path, *rest[-1:]]), detail="this is required")
    return FieldProblem(
        pointer=pointer_to(path), detail=error["msg"].removeprefix("Value error, "), given=_shown(value)
    )


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "…"
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
