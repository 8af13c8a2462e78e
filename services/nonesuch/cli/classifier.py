"""`nonesuch classifier`: make a classifier file known to a running service, as a teacher for example."""

from pathlib import Path
from typing import Annotated

import typer

from nonesuch.host.terminal import terminal

classifier = typer.Typer(help="Show, publish and withdraw classifiers: teachers, and what is mined against.")


@classifier.command("show")
def show(file: Annotated[Path, typer.Argument(help="A classifier file, or the folder of a finished run.")]) -> None:
    """Say what a classifier file holds, and which real information it took."""
    from nonesuch.classifiers.file import read_classifier

    header, payload = read_classifier(file)
    height, width, channels = header.image_shape
    console = terminal()
    console.print(f"{header.architecture} {header.args or ''}, {len(payload):,} bytes, sha256 {header.sha256}")
    console.print(f"images {height} x {width} x {channels}, {header.classes} classes: {', '.join(header.class_names)}")
    console.print(f"after {header.epoch} epochs, {header.step} steps")
    console.print(header.ledger.statement)


@classifier.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(help="A classifier file, or the folder of a finished run.")],
    channel: Annotated[str, typer.Option(help="What orders will call it.")] = "teacher",
    version: Annotated[int | None, typer.Option(min=0, help="Above the latest; the next one if left out.")] = None,
) -> None:
    """Publish a classifier as a snapshot that orders can name. It stays until it is withdrawn."""
    from nonesuch.classifiers.file import read_classifier
    from nonesuch.config import validated
    from nonesuch.link import Link
    from nonesuch.snapshots import SnapshotHeader, latest_version
    from nonesuch.snapshots import publish as put

    header, payload = read_classifier(file)
    with Link() as link:
        if version is None:
            latest = link.run(latest_version(link.keys, channel))
            version = 0 if latest is None else latest + 1
        named = header.model_dump() | {"channel": channel, "version": version}
        link.run(put(link.keys, validated(SnapshotHeader, named, "--channel"), payload))
    terminal(stderr=True).print(f"published {file} as version {version} of channel {channel!r}")


@classifier.command("withdraw")
def withdraw(channel: Annotated[str, typer.Argument(help="Whose classifiers are forgotten.")]) -> None:
    """Forget every classifier of a channel."""
    from nonesuch.link import Link
    from nonesuch.snapshots import drop_channel

    with Link() as link:
        dropped = link.run(drop_channel(link.keys, channel))
    terminal(stderr=True).print(f"withdrew {dropped} classifiers of channel {channel!r}")
