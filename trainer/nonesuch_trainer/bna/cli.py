"""`nonesuch adapt`: batch norm adaptation of a classifier file to unlabelled real images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    import torch

    from nonesuch.ledger import Ledger
    from nonesuch.snapshots import SnapshotHeader
    from nonesuch_trainer.learning.judging import Judge


def adapt(
    classifier: Annotated[Path, typer.Argument(help="A classifier file, or the folder of a run that left one.")],
    images: Annotated[
        str,
        typer.Argument(help="Images, a folder of them, Parquet, IDX, or fashion-mnist/train. Labels are not read."),
    ],
    out: Annotated[Path, typer.Option(help="The classifier file to write.")],
    form: Annotated[
        str, typer.Option(help="cumulative (all batches alike) or ema (the last ones most).")
    ] = "cumulative",
    alpha: Annotated[float | None, typer.Option(help="Of the form ema: its update factor; 0.1 if left out.")] = None,
    source_weight: Annotated[
        float, typer.Option(help="Share of the old statistics that stays, from 0 to below 1.")
    ] = 0.0,
    batch_size: Annotated[int, typer.Option(help="Images in a batch, at most.")] = 256,
    count: Annotated[int, typer.Option("--images", help="Images to adapt to, at most, drawn by the seed.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the draw and of the order of the images.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Spread over so many Ray tasks; else in this process.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="With --workers: a Ray cluster; a private one if left out.")] = None,
    evaluate: Annotated[
        str | None, typer.Option(help="Judge before and after on fashion-mnist/test or fashion-mnist/validation.")
    ] = None,
) -> None:
    """Adapt a classifier's batch norm statistics to real images without labels; its parameters stay as they are."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    import torch

    from nonesuch.classifiers.file import read_classifier, write_classifier
    from nonesuch.classifiers.snapshot import load_snapshot
    from nonesuch.classifiers.spec import Normalisation
    from nonesuch.config import validated
    from nonesuch.errors import InvalidValue
    from nonesuch.host.progress import progress
    from nonesuch.realdata.fingerprint import pixels_digest
    from nonesuch.realdata.unlabelled import read_images
    from nonesuch_trainer.bna import adaptation as bna
    from nonesuch_trainer.bna import spreading as bna_ray
    from nonesuch_trainer.settings.adapting import BNAConfig

    given = {"form": form, "alpha": alpha, "source_weight": source_weight, "batch_size": batch_size}
    config = validated(BNAConfig, {**given, "images": count, "seed": seed}, "the options")
    if out.exists():
        raise InvalidValue(f"{out} exists: remove it, or choose another name", field="out")
    if ray is not None and workers is None:
        raise InvalidValue(f"--ray {ray} without --workers: say over how many tasks to spread", field="workers")
    if evaluate == images:
        raise InvalidValue(f"{evaluate} cannot judge what was adapted to it: choose another split", field="evaluate")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    header, payload = read_classifier(classifier)
    model = load_snapshot(header, payload, device)
    layers = bna.batch_norms(model)  # refuses early
    judge = None if evaluate is None else _judge(evaluate, header, device)

    bar = terminal(stderr=True)
    with progress(bar, "images read", config.images) as advance:
        real = read_images(images, header.image_shape, limit=config.images, seed=config.seed, on_images=advance)
    normalisation = Normalisation(mean=header.mean, std=header.std)

    def accuracy() -> float | None:
        return None if judge is None else judge.evaluate(model, normalisation).accuracy

    before = accuracy()
    with progress(bar, "batches", len(bna.batch_rows(len(real), config))) as advance:
        if workers is None:
            found = bna.adapt(model, real.images, normalisation, config, between=lambda: advance(1))
        else:
            found = bna_ray.spread(
                header, payload, real.images, config, address=ray, workers=workers, on_batches=advance
            )
            bna.apply(model, found, config.source_weight)
    after = accuracy()
    ledger = _ledger(header.ledger, str(real), pixels_digest(real.images), "" if judge is None else judge.name)
    write_classifier(out, header.model_copy(update={"ledger": ledger}), model)

    console = terminal()
    kept = f", {config.source_weight:.0%} of the old statistics kept" if config.source_weight else ""
    console.print(f"{len(layers)} batch norm layers adapted to {real}: {config.form}, {found.total} batches{kept}")
    if judge is not None:
        console.print(f"accuracy on {judge.name}: {before:.2%} before, {after:.2%} after")
    console.print(ledger.statement)
    console.print(f"written to {out}")


def _judge(name: str, header: "SnapshotHeader", device: "torch.device") -> "Judge":
    """The real images that `--evaluate` names. Raises `InvalidValue` when they cannot judge this classifier."""
    import torch

    from nonesuch.errors import InvalidValue
    from nonesuch.realdata.fashion_mnist import Split, load_fashion_mnist
    from nonesuch_trainer.learning.judging import Judge

    splits: dict[str, Split] = {"fashion-mnist/test": "test", "fashion-mnist/validation": "validation"}
    if name not in splits:
        raise InvalidValue(f"{name} judges nothing: --evaluate takes {' or '.join(splits)}", field="evaluate")
    real = load_fashion_mnist(splits[name])
    shape, classes = real.images.shape[1:], len(real.class_names)
    if (header.image_shape, header.classes, header.class_names or real.class_names) != (
        shape,
        classes,
        real.class_names,
    ):
        raise InvalidValue(
            f"{name}, {shape} of {classes} classes, cannot judge a classifier of {header.image_shape} and "
            f"{header.classes} classes ({', '.join(header.class_names[:3])}, …): leave --evaluate out",
            field="evaluate",
        )
    return Judge(
        name=f"{len(real):,} images of {name}",
        images=torch.from_numpy(real.images).to(device),
        labels=torch.from_numpy(real.labels).long().to(device),
        classes=tuple(range(classes)),
    )


def _ledger(source: "Ledger", what: str, data: str, judged_on: str) -> "Ledger":
    """The adapted classifier's ledger. What judged the classifier before has not judged this one, and may have
    adapted it."""
    from nonesuch.config import validated
    from nonesuch.ledger import Ledger, Use

    use = Use(by="batch norm adaptation", information="unlabelled", what=what, data=data, direct=True)
    given = source.plus(use).model_dump() | {"judged_on": judged_on}
    return validated(Ledger, given, "the adapted classifier's ledger")
