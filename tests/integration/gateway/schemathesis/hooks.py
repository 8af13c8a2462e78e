"""What schemathesis cannot know by the document: which names mean something in the gateway that is tested, which has
the workers and the generator of `conftest`. Only requests that should succeed are changed.
"""

import uuid
from typing import Any

import httpx
import schemathesis
from schemathesis import Case, HookContext, SerializationContext

from nonesuch_gateway.document.examples import SNAPSHOT

MEANT = {"generator": "small", "strategy": "random", "snapshot": None, "teacher": None}


@schemathesis.serializer("application/x-safetensors")
def safetensors(ctx: SerializationContext, value: object) -> bytes:
    """As in the document's example, a character stands for a byte."""
    return str(value).encode("latin-1", "replace")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, object]) -> None:
    """Put names that mean something into a request that should succeed."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    url = case.operation.schema.get_base_url().rstrip("/")
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex  # one that was used is for the same request only
    if case.method == "POST" and isinstance(case.body, dict):
        case.body = possible(case.body)
    elif case.method == "PUT":
        case.body = SNAPSHOT
    if "recipe_id" in case.path_parameters:
        minted = httpx.post(f"{url}/v1/batches", json={"count": 5, "seed": 1})
        case.path_parameters["recipe_id"] = minted.headers["content-location"].split("/")[-1].split("?")[0]
    if "order_id" in case.path_parameters:
        case.path_parameters["order_id"] = httpx.post(f"{url}/v1/orders", json={"count": 5}).json()["id"]
    if "generator_id" in case.path_parameters:
        case.path_parameters["generator_id"] = "small"


def possible(body: dict[str, Any]) -> dict[str, Any]:
    """A body that can be minted, as much like the given one as may be."""
    changed = {**body, **{name: value for name, value in MEANT.items() if name in body}, "deadline_s": 60}
    changed["params"] = {"sigma": 1.5} if body.get("params") else {}
    if body.get("seed") is not None:
        changed["seed"] = int(body["seed"])  # JSON Schema takes 1.0 for an integer, and we do not
    if body.get("quota"):
        return {**changed, "quota": {"ant": 2, "bee": 1}, "count": None, "classes": None}
    changed |= {"quota": None, "classes": ["ant", 1] if body.get("classes") else None}
    return {**changed, "count": min(int(body.get("count") or 1), 200)}
