"""Every error of the tree, through the gateway's problems and the client's, is the same error again."""

import asyncio
import inspect

import httpx
import pytest
from fastapi import FastAPI

import nonesuch
from nonesuch import errors
from nonesuch_gateway.http.middleware import RequestId
from nonesuch_gateway.http.problems import install_handlers

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.NonesuchError)]


def raised_by(error: Exception) -> Exception:
    """What a client raises when the gateway raises `error`."""
    app = FastAPI()
    install_handlers(app)
    app.add_middleware(RequestId)

    @app.get("/v1/stats")
    async def stats() -> None:
        raise error

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with nonesuch.AsyncClient("http://gw", transport=transport, retries=0) as client:
            await client.stats()

    with pytest.raises(errors.NonesuchError) as raised:
        asyncio.run(ask())
    return raised.value


def test_the_tree_is_not_empty():
    assert {errors.NonesuchError, errors.InvalidOrder, errors.RateLimited} <= set(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_a_class_comes_back(kind):
    came = raised_by(kind("what is wrong: what to do"))
    assert type(came) is kind
    assert str(came) == "what is wrong: what to do"
    (note,) = came.__notes__
    assert "from http://gw/v1/stats, request id " in note and "id none" not in note


def test_the_field_comes_back():
    came = raised_by(errors.InvalidOrder("no", field="params.a/b~c"))
    assert isinstance(came, errors.InvalidOrder) and came.field == "params.a/b~c"
