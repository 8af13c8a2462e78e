"""Recipes: all that the images of an answer depend on, as an id that can stand in a URL.

    r3.<base64url of zlib of canonical JSON>

Nothing is kept for a recipe: the id is the recipe, so it outlives the gateway and Redis. Anybody can write one, which
is why it is read as carefully as a request's body. The number is the version of the schema of rows: another one makes
other bytes, which caches must not take for the old ones.
"""

import binascii
import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError

from nonesuch.errors import RecipeGone, RecipeNotFound
from nonesuch.model import Frozen
from nonesuch.orders import Order
from nonesuch.schema import SCHEMA_VERSION
from nonesuch_gateway.recipes.requests import MAX_DEPTH, Params, deeper_than

VERSION = f"r{SCHEMA_VERSION}."
EARLIER = ("r1.",)
"""What ids began with whose bytes were of an earlier schema."""
MAX_ID = 7168
"""The most characters of an id. With the rest of a request's first line it stays below the 8 KiB that proxies take."""
MAX_TEXT = 65_536
"""The most bytes of JSON in an id; what unpacks to more is refused before it is unpacked."""

_NOT_CONTENT = {"id", "sink", "priority", "deadline"}

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Content(Order):
    """An order without what its images do not depend on."""

    id: Literal["recipe"] = "recipe"
    sink: Literal["recipe"] = "recipe"
    priority: Literal["bulk"] = "bulk"
    deadline: None = None
    params: Params = Field(default_factory=dict)


class Recipe(Frozen):
    """The content of an order, and the weights that fill it."""

    content: Content
    weights: tuple[Sha256, ...] = Field(min_length=1, max_length=66)
    """The sha256 of the weights: of the generators in their order, then of the snapshot, then of the teacher."""

    @cached_property
    def text(self) -> str:
        """The recipe as canonical JSON."""
        document = {"content": self.content.model_dump(mode="json", exclude=_NOT_CONTENT), "weights": self.weights}
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """The content's name, the same for every order that gives the same bytes. It is the `order` of every row."""
        return sha256((VERSION + self.text).encode()).hexdigest()[:32]

    @cached_property
    def id(self) -> str | None:
        """The recipe as an id; None where it is too long for a URL (a quota of thousands of classes)."""
        packed = urlsafe_b64encode(zlib.compress(self.text.encode(), 9)).rstrip(b"=").decode()
        return VERSION + packed if len(VERSION + packed) <= MAX_ID and len(self.text) <= MAX_TEXT else None

    @classmethod
    def from_id(cls, recipe_id: str) -> Self:
        """The recipe that an id is.

        Raises `RecipeGone` for an id of an earlier version, and `RecipeNotFound` for whatever `id` could not have made.
        """
        if recipe_id.startswith(EARLIER):
            raise RecipeGone(
                f"the id is of version {recipe_id[:2]}, whose rows had other columns, and this gateway makes those of "
                f"{VERSION[:-1]}: make a new request, which gives the same images"
            )
        if not recipe_id.startswith(VERSION) or len(recipe_id) > MAX_ID:
            raise _no_recipe(f"it must begin with {VERSION} and have {MAX_ID} characters at most")
        try:
            document = json.loads(_unpacked(recipe_id.removeprefix(VERSION)))
            if deeper_than(MAX_DEPTH + 1, document):  # a body may be as deep as that, and is one level below
                raise ValueError("nested too deeply")
            return cls.model_validate(document)
        except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
            what = f"{error.error_count()} fields are wrong" if isinstance(error, ValidationError) else str(error)
            raise _no_recipe(f"it was cut off or changed ({what})") from None


def _unpacked(packed: str) -> bytes:
    """The JSON that is packed. Raises `ValueError`, of which `binascii.Error` is one, and `zlib.error`."""
    if not packed.isascii() or not packed.replace("-", "").replace("_", "").isalnum():
        raise ValueError("characters that base64url does not have")
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MAX_TEXT + 1)
    if len(text) > MAX_TEXT or not unpacking.eof or unpacking.unused_data:
        raise ValueError("not one whole text of the length that is allowed")
    return text


def _no_recipe(why: str) -> RecipeNotFound:
    return RecipeNotFound(
        f"this id is no recipe: {why}. The Content-Location of an answer to POST /v1/batches has one that is"
    )
