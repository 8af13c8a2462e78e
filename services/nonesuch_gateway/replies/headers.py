"""Headers of answers that hold images."""

from fastapi import Request

import nonesuch
from nonesuch_gateway.formats.negotiation import FormatChoice
from nonesuch_gateway.recipes.recipe import Recipe


def immutable(*, shared: bool) -> str:
    """Cache-Control of what a recipe makes, for caches that people share or not. A year is the longest that caches are
    asked for.
    """
    return f"{'public' if shared else 'private'}, max-age=31536000, immutable"


def image_headers(recipe: Recipe, choice: FormatChoice) -> dict[str, str]:
    """Headers that say what the answer is: order, seed, snapshot, ETag and a name for its file."""
    headers = {
        "X-Nonesuch-Order": recipe.digest,
        "X-Nonesuch-Seed": str(recipe.content.seed),
        "ETag": etag(recipe, choice),
        "Content-Disposition": f'inline; filename="nonesuch-{recipe.digest[:12]}{choice.suffix}"',
    }
    if recipe.content.snapshot is not None:
        headers["X-Nonesuch-Snapshot"] = str(recipe.content.snapshot.version)
    return headers


def location(request: Request, recipe: Recipe, choice: FormatChoice) -> dict[str, str]:
    """The header that says where to get the same bytes again: Content-Location; none for a recipe that has no id."""
    if recipe.id is None:
        return {}
    root = request.scope.get("root_path", "")
    return {"Content-Location": f"{root}/v1/batches/{recipe.id}?{choice.query}"}


def etag(recipe: Recipe, choice: FormatChoice) -> str:
    """The ETag, a strong one: one version of Nonesuch makes the same bytes of a recipe in a format, always."""
    form = choice.name if choice.codec == "none" else choice.codec
    return f'"{recipe.digest}.{form}.{nonesuch.__version__}"'


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the client has these bytes, or with `*` any, by its If-None-Match (RFC 9110, 13.1.2)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in given.split(",")}
