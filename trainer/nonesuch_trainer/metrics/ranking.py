"""Rank the exports of a pretraining run by what can be learned from them, on the validation split.

A short classification accuracy score decides; the distances stand beside it. Exports without classes, from which there
is no classifying to be learned, are ranked by FID. This is the plug-in `exports` of the group
`nonesuch.rankings`, which `nonesuch pretrain` calls when a run is complete.

Legend: N images of each export, K classes.
"""

import json
import math
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nonesuch.errors import GeneratorNotFound, InvalidValue
from nonesuch.host.files import write_json
from nonesuch.link import Link
from nonesuch.local.service import LocalService
from nonesuch.smoothed.resident import LabelledImages
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.metrics.evaluation import mint
from nonesuch_trainer.metrics.features import ClassifierFeatures
from nonesuch_trainer.metrics.measures import over_classes
from nonesuch_trainer.metrics.plan import EvaluationPlan
from nonesuch_trainer.metrics.yardstick import TwinLearning, Yardstick
from nonesuch_trainer.reporting.figures import new_figure, save_figure

CARD = "card.json"
RANKING = "ranking.json"
SIZE, EPOCHS = 5_000, 6

Say = Callable[[str], None]


def rank(exports: Path, say: Say = print) -> Path:
    """Rank the exports in a folder; returns the best one's folder.

    Writes `ranking.json` and `ranking.png` beside them, and into each export's card what it was found to be worth and
    the curve up to it. An export that an earlier ranking has judged in the same way is not judged again. Blocks for
    about a minute an export on two cores.

    Raises:
        GeneratorNotFound: there is no export in the folder.
        DataNotFound, InvalidValue: the real images that they were trained on are not there any more.
    """
    folders = sorted((card.parent for card in exports.glob(f"*/{CARD}")), key=lambda folder: int(folder.name))
    if not folders:
        raise GeneratorNotFound(f"{exports} holds no exports: name the folder `exports` of a pretraining run")
    cards = {folder: json.loads((folder / CARD).read_bytes()) for folder in folders}
    known = _known(exports / RANKING)
    new = {folder: card for folder, card in cards.items() if card["sha256"] not in known}
    for row in _judged(new, say):
        known[row["sha256"]] = row
        _write(exports, list(known.values()))  # so that a ranking that is interrupted goes on
    rows = [known[card["sha256"]] for card in cards.values()]
    for done, (folder, card) in enumerate(cards.items(), start=1):
        _into_card(folder, card, rows[:done])
    best = _write(exports, rows)
    _save_curves(exports / "ranking.png", rows)
    return best


def _write(exports: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the ranking; returns the best export's folder."""
    best = max(rows, key=lambda row: (row.get("accuracy", -1.0), -row.get("fid", math.inf), row["iteration"]))
    ranking = {"best": best["iteration"], "size": SIZE, "epochs": EPOCHS, "split": "validation", "rows": rows}
    write_json(exports / RANKING, ranking)
    return exports / str(best["iteration"])


def _judged(cards: Mapping[Path, dict[str, Any]], say: Say) -> Iterator[dict[str, Any]]:
    """What each export is worth. They are served under names of their own: all exports of a run are called the same."""
    if not cards:
        return
    with tempfile.TemporaryDirectory(prefix="nonesuch-ranking-") as scratch:
        staged = [_staged(folder, card, Path(scratch) / f"export-{folder.name}") for folder, card in cards.items()]
        logs, sources = Path(scratch) / "logs", tuple(map(str, staged))
        with LocalService(logs=logs, port=None, generators=sources, private=True) as at, Link(at.redis) as link:
            learning: TwinLearning | None = None
            yardstick: Yardstick | None = None
            for folder, card in zip(staged, cards.values(), strict=True):
                plan = _plan(folder.name, card)
                images, facts = mint(plan, plan.seed, link, threading.Event(), say)
                row: dict[str, Any] = {"iteration": int(card["iterations"]), "sha256": card["sha256"]}
                if len(facts.class_names) > 1:
                    learning = learning or TwinLearning(plan, facts, threading.Event())
                    row |= _accuracies(learning, images, plan.seed)
                yardstick = yardstick or _yardstick(plan, facts)
                if yardstick:
                    distances = _distances(yardstick, images)
                    missing = {**row.get("missing", {}), **distances.get("missing", {})}
                    row |= distances | ({"missing": missing} if missing else {})
                say(f"{folder.name}: accuracy {row.get('accuracy', 'none')}, FID {row.get('fid', 'not measured')}")
                for name, why in row.get("missing", {}).items():
                    say(f"{folder.name}: no {name}: {why}")
                yield row


def _plan(name: str, card: dict[str, Any]) -> EvaluationPlan:
    """How an export is evaluated: the real images are those that it was trained on, cut in the same way."""
    recipe = card["recipe"]
    return EvaluationPlan(
        generators=(name,),
        size=SIZE,
        epochs=EPOCHS,
        real=recipe["data"],
        validation_per_class=recipe.get("validation_per_class"),
    )


def _yardstick(plan: EvaluationPlan, facts: Facts) -> Yardstick | None:
    """What exports are measured against; None for images that the shipped feature network does not know: what can be
    learned from them decides anyway. Images without classes are compared with those of every class."""
    network = ClassifierFeatures.load()
    names = facts.class_names if len(facts.class_names) > 1 else network.header.class_names
    return Yardstick(plan, replace(facts, class_names=names)) if network.knows(facts.image_shape, names) else None


def _accuracies(learning: TwinLearning, images: LabelledImages, seed: int) -> dict[str, Any]:
    """Accuracies in per cent; or why there is none: an export that nothing can be learned from is ranked last."""
    try:
        twins = learning.twins(images, seed)
    except InvalidValue as error:
        return {"missing": {"accuracy": str(error)}}
    found = {"accuracy": round(100 * twins.minted.accuracy, 2), "real_accuracy": round(100 * twins.real.accuracy, 2)}
    return found if twins.real_images >= len(images) else {**found, "real_images": twins.real_images}


def _distances(yardstick: Yardstick, images: LabelledImages) -> dict[str, Any]:
    """Those that can be taken; `missing` says why the others cannot."""
    made, floor = yardstick.measure(images), yardstick.floor
    found = {
        "fid": (made.fid, 3),
        "fid_floor": (floor.fid, 3),
        "recall": (made.recall, 4),
        "coverage": (made.coverage, 4),
        "ms_ssim": (over_classes(made.ms_ssim), 4),
        "agreement": (over_classes(made.agreement), 4),
    }
    distances: dict[str, Any] = {n: round(value, digits) for n, (value, digits) in found.items() if value is not None}
    why = {name: made.missing[name] for name in found if name in made.missing}
    return {**distances, "missing": why} if why else distances


def _staged(folder: Path, card: dict[str, Any], copy: Path) -> Path:
    """A copy of an export's folder that is called by its own name."""
    shutil.copytree(folder, copy)
    write_json(copy / CARD, card | {"name": copy.name})
    return copy


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier ranking, by the weights' sha256; none if it was another kind of judging."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    same = (found["size"], found["epochs"], found["split"]) == (SIZE, EPOCHS, "validation")
    return {row["sha256"]: row for row in found["rows"]} if same else {}


def _into_card(folder: Path, card: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Put what was found into a card: `validation`, its own row, and `curve`, the rows up to it."""
    without_sha = [{name: value for name, value in row.items() if name != "sha256"} for row in rows]
    found = {"validation": without_sha[-1], "curve": without_sha}
    write_json(folder / CARD, card | found)


def _save_curves(path: Path, rows: list[dict[str, Any]]) -> None:
    """Plot accuracy, distance and diversity over training, each with what real images have."""
    panels = [panel for panel in _PANELS if any(panel[2][0] in row for row in rows)]
    if not panels:
        return
    figure = new_figure(4 * len(panels), 3.6)
    at = [row["iteration"] for row in rows]
    for axes, (title, label, names, style) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for name in names:
            line = "--" if name.startswith("real") or name.endswith("floor") else "-"
            values = [row.get(name, math.nan) for row in rows]  # a gap where there is no value
            axes.plot(at, values, marker=".", linestyle=line, label=name.replace("_", " "))
        axes.set(title=title, ylabel=label, xlabel="iterations", **style)
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


_PANELS: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    (f"learned from {SIZE:,} images", "accuracy on validation images, %", ("accuracy", "real_accuracy"), {}),
    ("distance", "FID", ("fid", "fid_floor"), {"yscale": "log"}),
    ("cover", "share of the images", ("recall", "coverage"), {"ylim": (0, 1)}),
)
