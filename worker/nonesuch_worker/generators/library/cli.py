"""`nonesuch generators`: what generators there are, whether they are whole, and how another one is added."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nonesuch.host.terminal import terminal

generators = typer.Typer(help="List, show, verify and add generators.")

NAMED = "The name of a packaged generator or of one in the library, or a folder."


@generators.command("list")
def list_() -> None:
    """List the packaged generators and those in the library, as their cards describe them."""
    from nonesuch_worker.generators.library.listing import everything, table
    from nonesuch_worker.generators.places import library_folder

    console = terminal()
    console.print(table(everything()))
    console.print(f"library: {library_folder()}")


@generators.command("show")
def show(
    name: Annotated[str, typer.Argument(help=NAMED)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Show what a generator's card says: facts, classes, recipe, metrics."""
    from nonesuch_worker.generators.library.listing import curve, description, named

    found = named(name)
    if as_json:
        document = {"folder": str(found.folder), "bytes": found.size, "card": found.card}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    console = terminal()
    for line in description(found):
        console.print(line)
    if (points := curve(found)) is not None:
        console.print(points)


@generators.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME|FOLDER]...", help=f"{NAMED} All if none.")] = None,
) -> None:
    """Load generators strictly and have each mint two images twice. Exit code 1 if one of them fails."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch_worker.generators.library.listing import everything
    from nonesuch_worker.generators.library.verifying import verify as check

    console = terminal()
    failed = 0
    for source in names or [listed.name for listed in everything()]:
        verdict = check(source)
        if verdict.info is None:
            failed += 1
            console.print(Text.assemble(("FAIL", "red"), f" {source}: {verdict.fault}"))
            continue
        shape = "×".join(map(str, verdict.info.image_shape))
        sha256 = f"sha256 {verdict.info.sha256[:12]}…" if verdict.carded else "no card to compare its sha256 with"
        facts = f"{shape}, {len(verdict.info.class_names)} classes, {sha256}, two images minted twice are the same"
        console.print(Text.assemble(("ok  ", "green"), f" {source}: {facts}"))
    if failed:
        raise typer.Exit(1)


@generators.command("add")
def add(
    path: Annotated[Path, typer.Argument(metavar="FOLDER|FILE", help="A generator's folder, or upstream's weights.")],
    name: Annotated[str | None, typer.Option(help="What to call it; as on its card, or as its folder.")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="Of the weights.")] = None,
    class_names: Annotated[Path | None, typer.Option(help="A JSON list with the name of each class.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the weights come from; needed for a pickle.")] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file of weights must have.")] = None,
) -> None:
    """Verify a generator and put it into the library; from then on it is loaded by its name.

    FOLDER has a card.json with safetensors; or the config.json and pytorch_model.bin of pytorch-pretrained-biggan,
    which are converted to safetensors and compared with what upstream itself makes of them.
    """
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch.config import validated
    from nonesuch.host.progress import progress
    from nonesuch_worker.generators.biggan.folder import read_json
    from nonesuch_worker.generators.biggan.upstream import TRUNCATIONS
    from nonesuch_worker.generators.library.adding import Said, add_generator

    given = {"name": name, "license": license_, "source": source, "sha256": sha256}
    if class_names is not None:
        given["class_names"] = read_json(class_names, list)
    said = validated(Said, given, "what is said about the generator")
    with progress(terminal(stderr=True), "compared with upstream", len(TRUNCATIONS)) as advance:
        added = add_generator(path, said, advance)
    console = terminal()
    info = added.info
    shape = "×".join(map(str, info.image_shape))
    lines = [f"added {info.id} ({info.family}, {shape}, {len(info.class_names)} classes) to {added.folder}"]
    if (agreement := added.agreement) is not None:
        truncations = ", ".join(f"{t:g}" for t in agreement.truncations)
        compatible, interpolated = (
            ", ".join(f"{d:.1g}" for d in differences) for differences in (agreement.compatible, agreement.interpolated)
        )
        lines += [
            f"compared with upstream's images; pixels in [-1, 1] differ at truncations {truncations}",
            f"  with upstream_compatible by up to {compatible}",
            f"  with interpolated statistics by up to {interpolated} (at 0.14 upstream reads a neighbouring row)",
        ]
    if info.license == "unknown":
        lines.append("its licence is unknown: say it with --license when you add it")
    lines.append(f"use it: nonesuch up --generator {info.id}")
    for line in lines:
        console.print(line)
