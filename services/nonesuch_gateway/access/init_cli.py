"""`nonesuch init`: the secrets that a service needs before it starts."""

from pathlib import Path
from typing import Annotated

import typer


def init(folder: Annotated[Path, typer.Option(help="Where the secrets are, or are to be.")] = Path("secrets")) -> None:
    """Make passwords, tokens and Redis' list of users, unless they are there. Never overwrites a secret."""
    from nonesuch_gateway.access.secret_files import make_secrets

    made = 0
    for name in make_secrets(folder):
        typer.echo(f"made {folder / name}")
        made += 1
    if not made:
        typer.echo(f"{folder} has everything")
