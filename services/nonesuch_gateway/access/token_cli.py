"""`nonesuch token`: make, list and revoke the bearer tokens of the gateway."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    from datetime import datetime

    from nonesuch_gateway.access.tokens import Token

VARIABLE = "NONESUCH_GATEWAY_TOKENS"

token = typer.Typer(help="Make, list and revoke the tokens that the gateway accepts.", no_args_is_help=True)

FileOption = Annotated[
    Path | None, typer.Option(help=f"The file of tokens; {VARIABLE} if left out. The gateway notices its changes.")
]


@token.command("create")
def create(
    label: Annotated[str, typer.Argument(help="Whose it is, for `nonesuch token list`.")],
    file: FileOption = None,
    scope: Annotated[list[str] | None, typer.Option(help="mint, snapshot or admin; may be repeated. [mint]")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="It expires after so many; never.")] = None,
    images_per_day: Annotated[int | None, typer.Option(min=1, help="How many it may have minted.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="How many it may make.")] = None,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from datetime import timedelta

    from nonesuch.errors import InvalidValue
    from nonesuch_gateway.access.tokens import SCOPES, editing, make_token

    path = _path(file)
    scopes = tuple(s for s in SCOPES if s in (scope or ["mint"]))
    unknown = set(scope or ()) - set(scopes)
    if unknown:
        raise InvalidValue(f"--scope {min(unknown)!r} is unknown: there are {', '.join(SCOPES)}")
    made, text = make_token(label, scopes, images_per_day=images_per_day, requests_per_minute=requests_per_minute)
    if days is not None:
        made = made.model_copy(update={"expires": made.created + timedelta(days=days)})
    with editing(path) as tokens:
        tokens[made.id] = made
    typer.echo(text)
    typer.echo(f"token {made.id} for {', '.join(scopes)} is in {path}; it is not shown again", err=True)


@token.command("list")
def list_(file: FileOption = None) -> None:
    """List the tokens. What their owners send is not kept and cannot be shown."""
    import sys

    from rich.table import Table

    from nonesuch_gateway.access.tokens import read_tokens

    table = Table("id", "label", "scopes", "created", "expires", "images/day", "requests/min", box=None)
    table.columns[0].no_wrap = True
    for each in read_tokens(_path(file)).values():
        table.add_row(*_row(each))
    wide = None if sys.stdout.isatty() else 200  # a program reads lines
    terminal(soft_wrap=False, width=wide).print(table)


@token.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="From `nonesuch token list`; the token itself will do.")],
    file: FileOption = None,
) -> None:
    """Revoke a token: from the next request on it is refused."""
    from nonesuch.errors import InvalidValue
    from nonesuch_gateway.access.tokens import editing

    path = _path(file)
    wanted = token_id.split("_")[1] if token_id.startswith("nsk_") else token_id
    with editing(path) as tokens:
        if wanted not in tokens:
            raise InvalidValue(f"there is no token {wanted[:64]!r} in {path}: see `nonesuch token list`")
        revoked = tokens.pop(wanted)
    typer.echo(f"revoked {revoked.id} ({revoked.label})", err=True)


def _path(file: Path | None) -> Path:
    import os

    from nonesuch.errors import InvalidValue

    named = file or os.environ.get(VARIABLE)
    if not named:
        raise InvalidValue(f"no file of tokens is named: set {VARIABLE}, for the gateway too, or give --file")
    return Path(named)


def _row(of: "Token") -> tuple[str, ...]:
    return (
        of.id,
        of.label,
        " ".join(of.scopes),
        _day(of.created),
        "never" if of.expires is None else _day(of.expires),
        "-" if of.images_per_day is None else f"{of.images_per_day:,}",
        "-" if of.requests_per_minute is None else f"{of.requests_per_minute:,}",
    )


def _day(when: "datetime") -> str:
    return f"{when:%Y-%m-%d}"
