"""`nonesuch order`: mint images into a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    from nonesuch.tally import Tally


def order(
    count: Annotated[int, typer.Argument(min=1, help="How many images.")],
    out: Annotated[
        Path, typer.Option(help="The file to write: .parquet (images as PNGs), .arrows (a stream) or .arrow.")
    ],
    generator: Annotated[
        list[str] | None,
        typer.Option(help="Which generator mints them; the only one, or fashion-mnist, if left out. May be repeated."),
    ] = None,
    strategy: Annotated[str, typer.Option(help="How their latents are chosen.")] = "random",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the strategy, as name=value.")] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="The classifier to aim at: a channel, or channel@version.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="The classifier that filters and verifies: a channel, or channel@version.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Class names or numbers, separated by commas (a name with commas in double quotes); all of them if "
            "left out. May be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same order with the same seed is the same images.")] = 0,
    acceptance: Annotated[
        Path | None, typer.Option(help="Write here, as JSON, what became of the latents that were tried.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Give up when nothing came for so many seconds.")] = 120.0,
) -> None:
    """Order labelled images from a running service and write them to a file, in index order."""
    import threading
    import uuid

    from nonesuch.cli.export import export
    from nonesuch.formats.tables import TABLES
    from nonesuch.host.files import write_json
    from nonesuch.host.progress import progress
    from nonesuch.labels import Balanced, classes_in, resolve_classes
    from nonesuch.link import Link
    from nonesuch.link.patience import Patience
    from nonesuch.orders import Order, SnapshotRef, check_order, default_ticket_size, parse_params, wait_for_workers
    from nonesuch.rings import RingSpec
    from nonesuch.schema import format_of

    format_of(out, TABLES)
    console = terminal(stderr=True)
    with Link() as link:
        Patience(link, outage_s=timeout, stop=threading.Event(), say=console.print).begin()
        catalog = link.run(wait_for_workers(link.keys))
        generators = tuple(generator or [catalog.choose(None).id])
        info = catalog.generator(generators[0])
        chosen = resolve_classes(classes_in(classes, info.class_names) if classes else None, info.class_names)
        name = f"export-{uuid.uuid4().hex}"
        wanted = Order(
            id=name,
            generators=generators,
            strategy=strategy,
            params=parse_params(param or []),
            labels=Balanced(classes=chosen),
            count=count,
            seed=seed,
            snapshot=None if snapshot is None else SnapshotRef.parse(snapshot, "snapshot"),
            teacher=None if teacher is None else SnapshotRef.parse(teacher, "teacher"),
            sink=name,
            ticket_size=default_ticket_size(info.image_shape),
        )
        checked = check_order(wanted, catalog)
        ring = RingSpec(name=name, slots=8, slot_bytes=checked.ticket_bytes, ttl_s=max(60.0, 2 * timeout))
        with progress(console, "minted", count) as advance:
            exported = export(link, checked, ring, out, timeout_s=timeout, on_rows=advance)
    if exported.tally:
        _print_tally(console, exported.tally, info.class_names)
        if acceptance is not None:
            document = {
                "strategy": strategy,
                "generators": generators,
                "class_names": info.class_names,
                "counters": exported.tally.counters(),
                "classes": exported.tally.table(info.class_names),
            }
            write_json(acceptance, document)
    console.print(f"{exported.rows} images of {len(chosen)} classes in {out} (seed {seed})")
    if exported.rows < count:
        console.print(f"{count - exported.rows} images are short: every latent that was tried for them was rejected")
    console.print(exported.ledger.statement)


def _print_tally(console: Console, tally: "Tally", class_names: tuple[str, ...]) -> None:
    from rich.table import Table

    table = Table("class", "tried", "kept", "wrong label", "below threshold", "short", box=None)
    for row in tally.table(class_names):
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
