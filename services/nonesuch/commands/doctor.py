"""`nonesuch doctor`: is everything there that a run needs, and if not, what to do about it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def doctor(
    port: Annotated[int, typer.Option(help="The gateway's port.")] = 8000,
    data: Annotated[Path | None, typer.Option(help="Folder of the real Fashion-MNIST files.")] = None,
) -> None:
    """Check versions, Redis, shared memory, ports, generators and data. Exit code 1 if something must be done."""
    from nonesuch.doctor import Context, diagnose

    console = Console(highlight=False, soft_wrap=True)
    failed = 0
    for finding in diagnose(Context(port=port, data=data)):
        mark = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "fail": "[red]FAIL[/]"}[finding.verdict]
        console.print(f"{mark} {finding.what}: {finding.detail}".replace("\n", " "))
        if finding.remedy:
            console.print(f"     → {finding.remedy}")
        failed += finding.verdict == "fail"
    if failed:
        raise typer.Exit(1)
