"""What people read is what was said, character by character."""

import ast
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from nonesuch.host.terminal import terminal

ROOT = Path(__file__).parents[4]
NAMES = (
    "img[train].parquet",
    "a[/b].parquet",
    "[bold]x[/]",
    ":smile:",
    "nonesuch[worker]",
    "[link=x]",
    "\\[x]",
    "[@click=x]",
)
WORDS = st.one_of(
    st.sampled_from(NAMES), st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=30)
)


def printing(console: Console) -> io.StringIO:
    console.file = io.StringIO()
    return console.file


@given(WORDS)
def test_names_are_printed_as_they_are(name: str) -> None:
    console = terminal()
    out = printing(console)
    console.print(f"written: {name}.")
    assert out.getvalue() == f"written: {name}.\n"


@pytest.mark.parametrize("name", NAMES)
def test_names_in_tables_are_printed_as_they_are(name: str) -> None:
    console = terminal(soft_wrap=False, width=100)
    out = printing(console)
    table = Table("column", name, title=f"title {name}", caption=f"caption {name}")
    table.add_row("cell", f"cell {name}")
    console.print(table)
    assert all(f"{what}{name}" in out.getvalue() for what in ("title ", "caption ", "cell ", " "))


def test_nothing_goes_to_the_terminal_another_way() -> None:
    """Consoles are made in one place, and columns of progress bars take no markup."""
    wrong = []
    for folder in ("services", "worker", "trainer"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
                plain = isinstance(node, ast.Call) and any(keyword.arg == "markup" for keyword in node.keywords)
                if (name == "Console" and file.name != "terminal.py") or (name == "TextColumn" and not plain):
                    wrong.append(f"{file.name}:{node.lineno}")
    assert wrong == []
