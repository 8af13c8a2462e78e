"""Docstrings stand alone: where a tool shows one without the line above it, it still says what it is about."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BARE = {
    "above", "after", "among", "as", "at", "before", "below", "between", "by", "for", "from", "in", "of", "on", "over",
    "per", "since", "than", "that", "through", "to", "under", "until", "where", "which", "whose", "with",
}  # fmt: skip
"""Words that no docstring begins with: "Of one call." means nothing by itself."""
PUBLISHED = {"Acceptance", "FilteredParams", "SelectParams"}
"""Models whose docstring stands in a document of the service, below their name."""


def docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each docstring of a module, with the name that it is of; those below attributes and constants too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "name", "the module"), ast.get_docstring(node) or ""
            for one, following in zip(node.body, node.body[1:], strict=False):
                match one, following:
                    case (ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text)))):
                        yield ast.unparse(one).partition("=")[0].strip(), text


def test_no_docstring_begins_with_a_bare_preposition() -> None:
    files = [file for root in ("services", "worker", "trainer") for file in (ROOT / root).rglob("*.py")]
    found = [
        (str(file.relative_to(ROOT)), name, text.splitlines()[0])
        for file in files
        for name, text in docstrings(ast.parse(file.read_text()))
        if text.split() and text.split()[0].strip("`,.:").lower() in BARE and name not in PUBLISHED
    ]
    assert len(files) > 300 and found == []
