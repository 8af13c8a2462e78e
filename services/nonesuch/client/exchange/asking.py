"""What can be asked for, as the body of a request."""

import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from nonesuch.client.exchange.answers import KEY
from nonesuch.client.exchange.wire import Ask
from nonesuch.errors import InvalidValue
from nonesuch.orders import SnapshotRef

ARROW = "application/vnd.apache.arrow.stream"
DEADLINE_S = 120.0
"""How many seconds a gateway gives a request that names no deadline, unless it was told another."""

_SEED_BITS = 53
"""How many bits a random seed has: JSON numbers of other languages are exact up to there."""


class Asked(TypedDict, total=False):
    """What images are asked for, besides how many. Keywords that are not in here are parameters of the strategy."""

    classes: Sequence[str | int]
    """Names or numbers of classes, in equal shares; all of them if left out. A name counts as it is written, else in
    any case if only one class is meant; a number is a label where no class has it for a name."""
    quota: Mapping[str, int]
    """Exact counts by class, instead of `count` and `classes`."""
    generator: str | Sequence[str]
    """Id of a generator, or several for a strategy that mixes; the service's default one if left out."""
    strategy: str
    """Name of the strategy; `random` if left out."""
    params: Mapping[str, Any]
    """Parameters of the strategy. `sigma`, `truncation` and others may be keywords of their own."""
    sigma: float
    """Standard deviation of the latents."""
    truncation: float
    """Truncation of the latents: z = truncation · truncnorm(−2, 2)."""
    seed: int
    """Same request and seed, same images; a random one if left out."""
    snapshot: int | Literal["latest"]
    """The snapshot that the strategy aims at."""
    channel: str
    """The channel that the snapshot was published in; `default` if left out."""
    teacher: str | SnapshotRef
    """The classifier that filters, verifies or gives soft labels: a channel, or channel@version."""
    deadline: float
    """Seconds until the last image must be minted; the service decides if left out."""


def mint_ask(
    count: int | None,
    asked: Mapping[str, Any],
    *,
    path: str = "/v1/batches",
    accept: str = ARROW,
    format: str | None = None,
) -> Ask:
    """The request for images. Its seed is fixed here, so that it asks for the same images when it is sent again.

    Raises `InvalidValue` for a parameter that is given twice, or that is not JSON.
    """
    names = Asked.__annotations__.keys() - {"params", "sigma", "truncation"}
    given = {name: value for name, value in asked.items() if value is not None}
    params = dict(given.pop("params", {}))
    for name in given.keys() - names:
        if name in params:
            raise InvalidValue(f"{name} is given twice, as a keyword and in params: leave one out", field=name)
        params[name] = given.pop(name)
    deadline = given.pop("deadline", None)
    body = {"count": count, "params": params, "deadline_s": deadline, **given}
    body.setdefault("seed", secrets.randbits(_SEED_BITS))
    body["teacher"] = _teacher(body.get("teacher"))
    return Ask(
        "POST",
        path,
        params={} if format is None else {"format": format},
        headers={
            "Accept": accept,
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            KEY: uuid.uuid4().hex,
        },
        content=_json({name: value for name, value in body.items() if value is not None}),
        patience_s=DEADLINE_S if deadline is None else _seconds(deadline),
    )


def _seconds(deadline: Any) -> float:
    try:
        return max(0.0, float(deadline))
    except (TypeError, ValueError):
        raise InvalidValue(f"deadline {deadline!r} is no number: give seconds", field="deadline") from None


def _teacher(given: str | SnapshotRef | None) -> dict[str, Any] | None:
    ref = SnapshotRef.parse(given, "teacher") if isinstance(given, str) else given
    return None if ref is None else ref.model_dump()


def _json(body: Mapping[str, Any]) -> bytes:
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValue(f"{name} {value!r} cannot be sent as JSON: {error}", field=name) from None
    return json.dumps(body, default=_plain).encode()


def _plain(value: Any) -> Any:
    """A value as JSON knows it: numbers and arrays of numpy or torch, and sequences such as ranges, made plain."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no number, text, list or mapping")
