"""Rank the exports of a pretraining run by what can be learned from them, on the validation split.

A short classification accuracy score decides; the distances stand beside it. This is the plug-in `exports` of the group
`nonesuch.rankings`, which `nonesuch pretrain` calls when a run is complete.

Legend: N images of each export, K classes.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nonesuch.errors import GeneratorNotFound
from nonesuch.files import replacing, write_atomically
from nonesuch.link import Link
from nonesuch.local import LocalService
from nonesuch_trainer.metrics.evaluation import EvaluationPlan, Findings, Yardstick, evaluate

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
        DataNotFound, InvalidValue: what `evaluate` raises, for images that the feature network does not know.
    """
    folders = sorted((card.parent for card in exports.glob(f"*/{CARD}")), key=lambda folder: int(folder.name))
    if not folders:
        raise GeneratorNotFound(f"{exports} holds no exports: name the folder `exports` of a pretraining run")
    known = _known(exports / RANKING)
    rows: list[dict[str, Any]] = []
    yardstick: Yardstick | None = None
    with tempfile.TemporaryDirectory(prefix="nonesuch-ranking-") as scratch:
        for folder in folders:
            card = json.loads((folder / CARD).read_bytes())
            row = known.get(card["sha256"])
            if row is None:
                found = _evaluated(folder, card, Path(scratch), yardstick)
                yardstick = found.yardstick
                row = _row(found, card)
            rows.append(row)
            say(f"{folder.name}: accuracy {row['accuracy']} %, FID {row['fid']}, recall {row['recall']}")
            _into_card(folder, card, rows)
    best = max(rows, key=lambda row: (row["accuracy"], -row["fid"]))
    ranking = {"best": best["iteration"], "size": SIZE, "epochs": EPOCHS, "split": "validation", "rows": rows}
    write_atomically(exports / RANKING, (json.dumps(ranking, indent=2) + "\n").encode())
    _save_curves(exports / "ranking.png", rows)
    return exports / str(best["iteration"])


def _evaluated(folder: Path, card: dict[str, Any], scratch: Path, yardstick: Yardstick | None) -> Findings:
    """Evaluate an export. It is served under a name of its own: all exports of a run are called the same."""
    staged = scratch / folder.name
    shutil.copytree(folder, staged)
    name = f"export-{folder.name}"
    write_atomically(staged / CARD, json.dumps(card | {"name": name}).encode())
    with (
        LocalService(logs=scratch / "logs", port=None, generators=(str(staged),), private=True) as service,
        Link(service.redis) as link,
    ):
        return evaluate(EvaluationPlan(generators=(name,), size=SIZE, epochs=EPOCHS), link, yardstick=yardstick)


def _row(found: Findings, card: dict[str, Any]) -> dict[str, Any]:
    (twins,), made = found.twins, found.generated
    return {
        "iteration": int(card["iterations"]),
        "sha256": card["sha256"],
        "accuracy": round(100 * twins.minted.accuracy, 2),
        "real_accuracy": round(100 * twins.real.accuracy, 2),
        "fid": round(made.fid, 3),
        "fid_floor": round(found.floor.fid, 3),
        "recall": round(made.recall, 4),
        "coverage": round(made.coverage, 4),
        "ms_ssim": round(float(np.mean(list(made.ms_ssim.values()))), 4),
        "agreement": round(float(np.mean(list(made.agreement.values()))), 4),
    }


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
    write_atomically(folder / CARD, (json.dumps(card | found, indent=2) + "\n").encode())


def _save_curves(path: Path, rows: list[dict[str, Any]]) -> None:
    """Accuracy, distance and diversity over training, each with what real images have."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    at = [row["iteration"] for row in rows]
    accuracy, fid, near = figure.subplots(1, 3)
    for axes, name, floor in ((accuracy, "accuracy", "real_accuracy"), (fid, "fid", "fid_floor")):
        axes.plot(at, [row[name] for row in rows], marker=".", label="generated")
        axes.plot(at, [row[floor] for row in rows], linestyle="--", label="real")
    for name in ("recall", "coverage", "agreement"):
        near.plot(at, [row[name] for row in rows], marker=".", label=name)
    accuracy.set(title=f"learned from {SIZE:,} images", ylabel="accuracy on validation images, %")
    fid.set(title="distance", ylabel="FID", yscale="log")
    near.set(title="cover", ylim=(0, 1))
    for axes in (accuracy, fid, near):
        axes.set(xlabel="iterations")
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
