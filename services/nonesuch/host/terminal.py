"""The one way to a person's terminal. Names and paths come out as they are: nothing in them is taken for markup."""

from rich.console import Console


def terminal(*, stderr: bool = False, soft_wrap: bool = True, width: int | None = None, quiet: bool = False) -> Console:
    """A console that prints `[brackets]` and `:colons:` as they are. Colours come from `rich.text.Text`.

    Args:
        stderr: print to stderr, as progress and errors are.
        soft_wrap: leave it to the terminal to break lines, so that a path can be copied in one piece.
        width: columns; the terminal's if left out.
        quiet: print nothing.
    """
    return Console(
        stderr=stderr, soft_wrap=soft_wrap, width=width, quiet=quiet, highlight=False, markup=False, emoji=False
    )
