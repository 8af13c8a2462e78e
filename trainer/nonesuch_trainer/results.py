"""What a finished run leaves for people: `summary.json`, `curves.png`, `images.png`."""

import json
from collections.abc import Sequence

from nonesuch.files import write_atomically
from nonesuch_trainer.config import TrainConfig
from nonesuch_trainer.curves import save_curves
from nonesuch_trainer.evaluate import Evaluation
from nonesuch_trainer.events import EpochRecord
from nonesuch_trainer.grid import save_grid
from nonesuch_trainer.provenance import Provenance
from nonesuch_trainer.resident import ResidentDataset


def write_results(
    config: TrainConfig,
    class_names: Sequence[str],
    history: Sequence[EpochRecord],
    evaluation: Evaluation,
    provenance: Provenance,
    dataset: ResidentDataset,
) -> None:
    """Write the three files into the run's folder. Accuracies in the summary are in per cent."""
    summary = {
        "run": config.run,
        "accuracy": round(100 * evaluation.accuracy, 2),
        "per_class": {class_names[label]: round(100 * a, 2) for label, a in evaluation.per_class.items()},
        "confusion": evaluation.confusion.tolist(),
        "images": int(evaluation.confusion.sum()),
        "real_information": provenance.model_dump(),
        "epochs": len(history),
        "steps": history[-1].step,
        "dataset": len(dataset),
        "images_seen": len(dataset) + sum(record.replaced for record in history),
        "seconds": {
            name: round(sum(getattr(record, f"{name}_s") for record in history), 2)
            for name in ("train", "evaluate", "mint", "wait")
        },
    }
    write_atomically(config.folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    save_curves(config.folder / "curves.png", {config.run: history})
    save_grid(config.folder / "images.png", dataset.images, dataset.labels)
