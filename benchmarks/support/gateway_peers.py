"""What the gateway is compared with: `python benchmarks/support/gateway_peers.py REDIS_URL` serves them on a free port.

    /png     images as a FastAPI endpoint commonly returns them: a JSON list of base64 PNGs, with their labels
    /lists   the same with every pixel as a number
    /bytes   a bare ASGI application that sends bytes which it has at hand, in pieces of 1 MiB
    /relay   the same, but each piece of 3 MiB is read from Redis before it is sent

The first line that it prints is its URL.
"""

import base64
import io
import socket
import sys
from functools import cache
from typing import Any

import numpy as np
import redis
import redis.asyncio
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from starlette.types import Receive, Scope, Send
from stub_worker import SHAPES, pictures

PIECE_BYTES = 2**20
KEY, VALUE = "relayed", bytes(3 * 2**20)
"""What is relayed: as large as a ticket's batch."""

api = FastAPI()


@api.get("/png")
def png(count: int) -> dict[str, Any]:
    return {"images": [_png(image) for image in pictures(count, SHAPES["pictures"])], "labels": [0] * count}


@api.get("/lists")
def lists(count: int) -> dict[str, Any]:
    return {"images": pictures(count, SHAPES["pictures"]).tolist(), "labels": [0] * count}


def _png(image: NDArray[Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@cache
def at_hand(size: int) -> memoryview:
    """So many bytes, as an answer is: no part of it is there twice, so none is in a cache already."""
    return memoryview(np.random.default_rng(0).bytes(size))


async def bare(scope: Scope, send: Send) -> None:
    """As many bytes as the query string says."""
    body = at_hand(int(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for start in range(0, len(body), PIECE_BYTES):
        await send({"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def relay(scope: Scope, send: Send) -> None:
    """The same out of Redis."""
    left = int(scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while left > 0:
        value = await database().get(KEY)
        await send({"type": "http.response.body", "body": value[:left], "more_body": True})
        left -= len(value)
    await send({"type": "http.response.body", "body": b""})


@cache
def database() -> redis.asyncio.Redis:
    return redis.asyncio.from_url(sys.argv[1])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == "/bytes":
        await bare(scope, send)
    elif scope["type"] == "http" and scope["path"] == "/relay":
        await relay(scope, send)
    else:
        await api(scope, receive, send)


if __name__ == "__main__":
    redis.from_url(sys.argv[1]).set(KEY, VALUE)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
