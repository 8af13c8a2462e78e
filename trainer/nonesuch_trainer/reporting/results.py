"""What a finished run leaves: `classifier.safetensors`, `summary.json`, `curves.png`, `images.png`; `acceptance.png`
where a strategy was choosy, `adapted.safetensors` where batch norm was adapted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nonesuch.classifiers.file import write_classifier
from nonesuch.classifiers.published import CLASSIFIER
from nonesuch.host.files import write_json
from nonesuch.ledger import Ledger
from nonesuch.smoothed.resident import ResidentDataset
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tally import Tally
from nonesuch_trainer.bna.adapting import Adapted
from nonesuch_trainer.learning.judging import Evaluation
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.reporting.acceptance import save_acceptance
from nonesuch_trainer.reporting.curves import save_curves
from nonesuch_trainer.reporting.grid import save_grid

ADAPTED = "adapted.safetensors"


@dataclass(frozen=True, eq=False)
class Result:
    """A run that is finished. `folder` holds what `write_results` writes."""

    folder: Path
    model: nn.Module
    dataset: ResidentDataset
    """The dataset that the last epoch learned from."""
    history: tuple[EpochRecord, ...]
    evaluation: Evaluation
    """How the classifier did on real images, after the last epoch."""
    ledger: Ledger
    """The real information that the run took."""
    tally: Tally
    """What became of every latent that a choosy strategy tried."""
    adapted: Adapted | None = None
    """The classifier once more, with its batch norm adapted, if the config asks for it."""


def write_results(run: str, header: SnapshotHeader, result: Result) -> None:
    """Write a run's files into its folder, the classifier under this header. The summary's accuracies are per cents."""
    evaluation, history, dataset, class_names = result.evaluation, result.history, result.dataset, header.class_names
    header = header.model_copy(update={"channel": run})
    write_classifier(result.folder / CLASSIFIER, header, result.model)
    if result.adapted:
        adapted = header.model_copy(update={"ledger": result.adapted.ledger})
        write_classifier(result.folder / ADAPTED, adapted, result.adapted.model)
    summary: dict[str, Any] = {
        "run": run,
        "accuracy": round(100 * evaluation.accuracy, 2),
        "per_class": {class_names[label]: round(100 * a, 2) for label, a in evaluation.per_class.items()},
        "confusion": evaluation.confusion.tolist(),
        "images": int(evaluation.confusion.sum()),
        "real_information": result.ledger.summary(),
        "epochs": len(history),
        "steps": history[-1].step,
        "dataset": len(dataset),
        "images_seen": len(dataset) + sum(record.replaced for record in history),
        "short": sum(record.short for record in history),
        "seconds": {
            name: round(sum(getattr(record, f"{name}_s") for record in history), 2)
            for name in ("train", "evaluate", "mint", "wait")
        },
    }
    if result.adapted:
        summary["adapted"] = {
            "accuracy": round(100 * result.adapted.evaluation.accuracy, 2),
            "real_information": result.adapted.ledger.summary(),
        }
    if result.tally:
        summary["acceptance"] = result.tally.table(class_names)
    write_json(result.folder / "summary.json", summary)
    save_curves(result.folder / "curves.png", {run: history})
    save_grid(result.folder / "images.png", dataset.images, dataset.labels)
    if result.tally.tried:
        save_acceptance(result.folder / "acceptance.png", result.tally, class_names)
