"""`nonesuch doctor`: is everything there that a run needs, and if not, what to do about it.

With `--plan`: what a setup takes of memory, before any of it is started.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    from nonesuch.doctor.checks import Finding
    from nonesuch.doctor.sizing import Line

PLAN = "Options of --plan"


def doctor(
    port: Annotated[int, typer.Option(help="The gateway's port.")] = 8000,
    data: Annotated[Path | None, typer.Option(help="Folder of the real Fashion-MNIST files.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Instead: what a setup takes of memory.")] = False,
    generator: Annotated[
        str | None,
        typer.Option(
            help="fashion-mnist, biggan-deep-128, biggan-deep-256; of another give size and weights.",
            rich_help_panel=PLAN,
        ),
    ] = None,
    side: Annotated[int | None, typer.Option(help="Pixels of an image's side.", rich_help_panel=PLAN)] = None,
    channels: Annotated[int | None, typer.Option(help="Of an image.", rich_help_panel=PLAN)] = None,
    classes: Annotated[int | None, typer.Option(help="Of the generator.", rich_help_panel=PLAN)] = None,
    weights_mb: Annotated[float | None, typer.Option(help="Its file, in MB.", rich_help_panel=PLAN)] = None,
    workers: Annotated[int | None, typer.Option(help="1", rich_help_panel=PLAN)] = None,
    gateways: Annotated[int | None, typer.Option(help="1", rich_help_panel=PLAN)] = None,
    trainers: Annotated[int | None, typer.Option(help="Runs at the same time; 1.", rich_help_panel=PLAN)] = None,
    ring_slots: Annotated[int | None, typer.Option(help="Of a run's ring; 16.", rich_help_panel=PLAN)] = None,
    images: Annotated[int | None, typer.Option(help="N of a resident dataset; 4000.", rich_help_panel=PLAN)] = None,
    replacement: Annotated[float | None, typer.Option(help="r; 0.5.", rich_help_panel=PLAN)] = None,
    soft_labels: Annotated[bool, typer.Option("--soft-labels", help="A run has them.", rich_help_panel=PLAN)] = False,
    snapshot_mb: Annotated[
        float | None, typer.Option(help="A classifier's weights, in MB; 2.9.", rich_help_panel=PLAN)
    ] = None,
) -> None:
    """Check versions, Redis, shared memory, ports, generators and data; or --plan. Exit code 1 if something must be
    done."""
    if plan:
        options = {
            "generator": generator, "side": side, "channels": channels, "classes": classes, "weights_mb": weights_mb,
            "workers": workers, "gateways": gateways, "trainers": trainers, "ring_slots": ring_slots, "images": images,
            "replacement": replacement, "soft_labels": soft_labels, "snapshot_mb": snapshot_mb,
        }  # fmt: skip
        findings = _plan({name: value for name, value in options.items() if value is not None})
    else:
        from nonesuch.doctor.checks import Context, diagnose

        findings = diagnose(Context(port=port, data=data))
    if _report(findings):
        raise typer.Exit(1)


def _report(findings: "Iterator[Finding]") -> int:
    """Print findings; returns how many of them are failures."""
    console = terminal()
    failed = 0
    for finding in findings:
        mark = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fail": ("FAIL", "red")}[finding.verdict]
        console.print(Text.assemble(mark, f" {finding.what}: {finding.detail}".replace("\n", " ")))
        if finding.remedy:
            console.print(f"     → {finding.remedy}")
        failed += finding.verdict == "fail"
    return failed


def _plan(options: dict[str, object]) -> "Iterator[Finding]":
    """Print what a setup takes, and find whether Redis may have as much."""
    from nonesuch.config import validated
    from nonesuch.doctor.maxmemory import check_maxmemory
    from nonesuch.doctor.plan import MemoryLimits, Setup
    from nonesuch.doctor.sizing import maxmemory, process_lines, redis_lines

    setup = validated(Setup, {**options, "limits": MemoryLimits.from_env()}, "the plan")
    lines = redis_lines(setup)
    console = terminal(soft_wrap=False, width=None if sys.stdout.isatty() else 160)
    console.print(_table("Redis, at most", lines, total=True))
    console.print(_table("Processes, about", process_lines(setup), total=False))
    return check_maxmemory(maxmemory(lines), os.environ)


def _table(title: str, lines: "list[Line]", *, total: bool) -> Table:
    table = Table("", "formula", title=title, title_justify="left", show_footer=total)
    table.add_column("MiB", justify="right", footer=f"{sum(line.bytes for line in lines) / 2**20:,.1f}")
    for line in lines:
        table.add_row(line.what, line.formula, f"{line.bytes / 2**20:,.1f}")
    return table
