"""JSON bodies, read more strictly than by default: what two readers could take for two things is refused."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nonesuch.errors import InvalidValue


class JsonRoute(APIRoute):
    """A route whose body is JSON in UTF-8, without a Content-Encoding, that names nothing twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def strict(request: Request) -> Response:
            try:
                return await answer(_JsonRequest(request.scope, request.receive))
            except HTTPException as error:
                if isinstance(error.__cause__, InvalidValue):  # FastAPI makes another error of it
                    raise error.__cause__ from None
                raise

        return strict


class _JsonRequest(Request):
    async def json(self) -> Any:
        check_coding(self.headers)
        return loads_once((await self.body()).decode())


async def no_large_body(request: Request) -> None:
    """Reads what a request sends that should send nothing. One that is too large is refused here: an answer that is
    sent already, or that only waits for its client to go away, could not refuse it any more.
    """
    if request.method in ("GET", "HEAD", "DELETE"):
        await request.body()


def check_coding(headers: Headers) -> None:
    """Raises a problem of status 415 for a body that is compressed."""
    coding = ", ".join(headers.getlist("content-encoding")) or "identity"
    if coding.lower() != "identity":
        raise HTTPException(415, f"the body has Content-Encoding {coding[:64]!r}: send it as it is")


def loads_once(text: str) -> Any:
    """What `json.loads` makes of a text. Raises `InvalidValue` too, for an object that names something twice."""
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("it begins with a byte order mark (BOM): send UTF-8 without one", text, 0)
    twice: list[tuple[dict[str, Any], str]] = []

    def found(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        part = dict(pairs)
        if len(part) < len(pairs):
            names = [name for name, _ in pairs]
            twice.append((part, next(name for name in names if names.count(name) > 1)))
        return part

    document = json.loads(text, object_pairs_hook=found)
    if twice:
        part, name = twice[-1]  # the last is never inside of a value that another name has replaced
        raise InvalidValue(
            f"the body names {name[:64]!r} twice: keep one", field=".".join([*_path_to(document, part), name[:64]])
        )
    return document


def _path_to(document: Any, part: dict[str, Any]) -> list[str]:
    """The way to a part of a document, found without recursion, as documents may be nested deeply."""
    ahead: list[tuple[list[str], Any]] = [([], document)]
    while ahead:
        path, value = ahead.pop()
        if value is part:
            return path
        if isinstance(value, dict):
            ahead += (([*path, name], each) for name, each in value.items())
        elif isinstance(value, list):
            ahead += (([*path, str(i)], each) for i, each in enumerate(value))
    raise AssertionError("a part is in its document")
