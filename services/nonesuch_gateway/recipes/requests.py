"""What a client may ask for."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from nonesuch.labels import MAX_NAME
from nonesuch.model import Frozen, Name
from nonesuch.orders import Seed, SnapshotRef
from nonesuch.snapshots import MAX_VERSION
from nonesuch_gateway.formats import FORMATS

MAX_CLASSES = 4096
MAX_GENERATORS = 64
MAX_DEPTH = 16
"""The most levels of lists and objects in a body. What nests as deep as JSON may, only recursion could check."""

ClassName = Annotated[str, StringConstraints(max_length=MAX_NAME)]
"""A class's name, short enough to look for similar ones."""


def _are_text(params: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        json.dumps(params, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair, which is no text") from None
    return params


Params = Annotated[dict[str, JsonValue], AfterValidator(_are_text)]
"""The parameters of a strategy, by name."""

FormatName = Annotated[str, Field(max_length=64, json_schema_extra={"enum": list(FORMATS)})]
"""A format's name. Another one is refused where formats are chosen (406), which lists what there is."""


class MintRequest(Frozen):
    """The body of `POST /v1/batches` and `POST /v1/orders`. Everything but the number of images has a default."""

    model_config = ConfigDict(strict=True)

    count: int | None = Field(default=None, ge=1, description="How many images; may be left out when quota says it.")
    classes: list[ClassName | int] | None = Field(
        default=None,
        max_length=MAX_CLASSES,
        description="Names or numbers of classes, in equal shares; null is all. A name counts as it is written, else "
        "in any case if only one class is meant; a number is a label where no class has it for a name.",
    )
    quota: dict[ClassName, Annotated[int, Field(ge=0)]] | None = Field(
        default=None, max_length=MAX_CLASSES, description="Exact counts by class, instead of classes."
    )
    generator: Name | Annotated[list[Name], Field(min_length=1, max_length=MAX_GENERATORS)] | None = Field(
        default=None,
        description="Id from /v1/generators, or a list of them for a strategy that mixes; null means the default one.",
    )
    strategy: Name = Field(default="random", description="Name from /v1/strategies.")
    params: Params = Field(default={}, description="Parameters of the strategy; see its schema.")
    seed: Seed | None = Field(default=None, description="Same request and seed, same bytes; null means a random one.")
    snapshot: Annotated[int, Field(ge=0, le=MAX_VERSION)] | Literal["latest"] | None = Field(
        default=None, description="The snapshot that the strategy aims at; latest is the latest of this moment."
    )
    channel: Name = Field(default="default", description="Where that snapshot was published.")
    teacher: SnapshotRef | None = Field(
        default=None, description="The classifier that filters, verifies or gives soft labels: where it was published."
    )
    deadline_s: float | None = Field(default=None, gt=0, description="Seconds until the last image must be minted.")
    format: FormatName | None = Field(
        default=None, description="What to answer with; ?format= goes before it, and null means by Accept."
    )

    @model_validator(mode="before")
    @classmethod
    def _is_shallow(cls, body: Any) -> Any:
        if deeper_than(MAX_DEPTH, body):
            raise ValueError(f"lists and objects are nested deeper than {MAX_DEPTH} levels")
        return body


def deeper_than(levels: int, value: Any) -> bool:
    """Whether lists and objects are nested deeper than so many levels. Does not recurse."""
    level = [value]
    for _ in range(levels):
        level = [child for each in level for child in _children(each)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
