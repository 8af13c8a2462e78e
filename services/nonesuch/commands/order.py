"""`nonesuch order`: mint images into a file."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def order(
    count: Annotated[int, typer.Argument(min=1, help="How many images.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet or .arrow.")],
    generator: Annotated[str, typer.Option(help="Which generator mints them.")] = "fashion-mnist",
    strategy: Annotated[str, typer.Option(help="How their latents are chosen.")] = "random",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the strategy, as name=value.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names or numbers, separated by commas; all of them if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same order with the same seed is the same images.")] = 0,
    timeout: Annotated[float, typer.Option(help="Give up when nothing came for so many seconds.")] = 120.0,
) -> None:
    """Order labelled images from a running service and write them to a file, in index order."""
    import uuid

    from nonesuch.export import export, file_format
    from nonesuch.labels import Balanced, resolve_classes
    from nonesuch.link import Link
    from nonesuch.orders import Order, default_ticket_size, parse_params, wait_for_workers
    from nonesuch.progress import progress
    from nonesuch.rings import RingSpec
    from nonesuch.schema import batch_bytes

    file_format(out)
    with Link() as link:
        info = link.run(wait_for_workers(link.keys)).generator(generator)
        chosen = resolve_classes(None if classes is None else [c.strip() for c in classes.split(",")], info.class_names)
        name = f"export-{uuid.uuid4().hex}"
        size = default_ticket_size(info.image_shape)
        wanted = Order(
            id=name,
            generators=(generator,),
            strategy=strategy,
            params=parse_params(param or []),
            labels=Balanced(classes=chosen),
            count=count,
            seed=seed,
            sink=name,
            ticket_size=size,
        )
        ring = RingSpec(name=name, slots=8, slot_bytes=batch_bytes(info, size), ttl_s=max(60.0, 2 * timeout))
        console = Console(stderr=True, highlight=False)
        with progress(console, "minted", count) as advance:
            written = export(link, wanted, ring, out, timeout_s=timeout, on_rows=advance)
        console.print(f"{written} images of {len(chosen)} classes in {out} (seed {seed})")
