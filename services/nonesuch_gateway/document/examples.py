"""Examples for the OpenAPI document: requests by strategy, errors by status, a snapshot."""

import json
import struct
from typing import Any, NamedTuple

from nonesuch import errors
from nonesuch.snapshots import METADATA_KEY

REQUESTS: dict[str, dict[str, Any]] = {
    "random": {"count": 64, "classes": ["Sneaker", "Ankle boot"], "params": {"sigma": 1.0}, "seed": 7},
    "quota": {"quota": {"Bag": 10, "Shirt": 30}, "deadline_s": 30},
    "hsm": {"count": 64, "strategy": "hsm", "params": {"steps": 5, "eta": 0.05}, "snapshot": "latest"},
    "select": {"count": 64, "strategy": "select", "params": {"k": 11}, "snapshot": 3, "channel": "mine"},
    "filtered": {
        "count": 64,
        "strategy": "filtered",
        "params": {"threshold": 0.9},
        "teacher": {"channel": "teacher", "version": "latest"},
    },
    "mixture": {
        "count": 64,
        "strategy": "mixture",
        "generator": ["fashion-mnist", "another"],
        "params": {"weights": [3, 1]},
        "format": "parquet",
    },
}
"""Bodies of `POST /v1/batches` and `POST /v1/orders`: one for each strategy, and one with exact counts."""


class Failure(NamedTuple):
    """An error as a client meets it."""

    status: int
    kind: type[errors.NonesuchError] | None
    """The class of the error; None for what only HTTP has a name for."""
    at: str
    """A regular expression for the operations that answer so: for the beginning of their `method path`."""
    detail: str
    pointer: str | None = None


_MINT = "post /v1/(batches|orders)$"
_AGAIN = "get /v1/batches/"
_RESULTS = "get /v1/orders/{order_id}/results"
_IMAGES = f"{_MINT}|{_AGAIN}|{_RESULTS}"
_UPLOAD = "put /v1/snapshots/"
_FETCH = "get /v1/snapshots"

FAILURES = (
    Failure(400, None, _MINT, "the body is not JSON: Expecting ',' delimiter at character 11"),
    Failure(400, None, _UPLOAD, "the client went away before its body was complete"),
    Failure(401, errors.Unauthorised, "", "this needs a token: send one as Authorization: Bearer …"),
    Failure(403, errors.Forbidden, "", "the token lacks the scope that this needs: create one that has it"),
    Failure(404, errors.GeneratorNotFound, f"{_MINT}|get /v1/gen", "no worker hosts a generator 'x'; hosted now: none"),
    Failure(404, errors.SnapshotNotFound, f"{_MINT}|{_FETCH}", "no snapshot was published in channel 'mine'"),
    Failure(404, errors.RecipeNotFound, _AGAIN, "this id is no recipe: it must begin with r3."),
    Failure(404, errors.OrderNotFound, ".* /v1/orders/", "there is no order '23ac4d63': it was cancelled"),
    Failure(406, errors.NotAcceptable, "", "there is no format 'parket' (did you mean parquet?): choose one of …"),
    Failure(408, None, "", "no part of the body came for 60 s: send it again"),
    Failure(409, errors.Conflict, _MINT, "a request with this Idempotency-Key is being answered: wait for it"),
    Failure(409, errors.Conflict, _UPLOAD, "version 4 of channel 'mine' is not above the latest, 5"),
    Failure(409, errors.Conflict, _RESULTS, "the results are being read by another client: they can be read once"),
    Failure(410, errors.RecipeGone, "", "a generator of the recipe has other weights now: make a new request"),
    Failure(412, errors.PreconditionFailed, "", "the latest snapshot is not the one that was expected"),
    Failure(413, None, "", "the body has 2097152 bytes and 1048576 are allowed: send a smaller request"),
    Failure(415, None, _MINT, "the body has Content-Type 'text/plain': send JSON"),
    Failure(415, None, _UPLOAD, "the body has Content-Type 'image/png': send safetensors"),
    Failure(422, errors.InvalidOrder, _IMAGES, "2000 images do not fit into one PNG, which holds 1024", "#/count"),
    Failure(422, errors.InvalidSnapshot, _UPLOAD, "tensor 'fc' has values that are not finite", "#/fc"),
    Failure(422, errors.InvalidValue, _MINT, "#/seed: Input should be a valid integer", "#/seed"),
    Failure(422, errors.InvalidValue, "(get|put) /v1/snap", "#/channel: String should match pattern", "#/channel"),
    Failure(422, errors.InvalidValue, "get /v1/gen", "#/generator_id: String should match pattern", "#/generator_id"),
    Failure(429, errors.RateLimited, "", "the token may make 60 requests a minute, and made them: wait for 1 s"),
    Failure(
        429,
        errors.Busy,
        f"{_IMAGES}|{_UPLOAD}",
        "64 requests are being answered, which is the limit: try again in a moment",
    ),
    Failure(502, errors.OrderFailed, _IMAGES, "the order ended as failed after 0 of 64 images: out of memory"),
    Failure(502, errors.IntegrityError, _FETCH, "the payload of snapshot 3 does not have its sha256"),
    Failure(503, errors.NoWorkers, f"{_IMAGES}|get /readyz|get /v1/generators/", "no worker is connected: start one"),
    Failure(503, errors.Unreachable, "", "Redis at redis://127.0.0.1:6379 does not answer"),
    Failure(503, errors.Refused, "", "Redis at redis://127.0.0.1:6379 has keys of another program"),
    Failure(503, errors.Unavailable, "", "this gateway is stopping: try again, another one may answer"),
    Failure(504, errors.TakeTimeout, "", "the deadline passed before all 64 images were minted: ask for fewer"),
)


EVENTS = (
    "retry: 2000\n\n"
    'event: progress\ndata: {"state": "open", "images": 64, "count": 128, …}\nid: 1\n\n'
    'event: end\ndata: {"state": "done", "images": 128, "count": 128, …}\nid: end\n\n'
)
"""What `GET /v1/orders/{id}/events` sends; the data is an order's status."""


def _safetensors() -> str:
    """A whole file of one tensor, a character for each byte."""
    said = {
        "architecture": "resnet18",
        "args": {"width": 2},
        "image_shape": [28, 28, 1],
        "classes": 10,
        "mean": [0.5],
        "std": [0.5],
        "epoch": 1,
        "step": 400,
    }
    header = {
        "__metadata__": {METADATA_KEY: json.dumps(said)},
        "fc.bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (struct.pack("<Q", len(text)) + text + bytes(8)).decode("latin-1")


SNAPSHOT = _safetensors()
"""A body of `PUT /v1/snapshots/{version}`."""
