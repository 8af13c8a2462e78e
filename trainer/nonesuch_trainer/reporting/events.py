"""The run's log for machines: `metrics.jsonl` (a line for each epoch) and TensorBoard's event files in `events/`."""

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nonesuch.host.contexts import Closing
from nonesuch.host.files import write_atomically
from nonesuch.host.writing import writing
from nonesuch_trainer.learning.records import EpochRecord


class Events(Closing):
    """Writes the records of a run; one that resumes takes back what it had written after its checkpoint.

    Args:
        folder: the run's.
        history: the records up to the checkpoint that the run goes on from.
    """

    def __init__(self, folder: Path, history: Sequence[EpochRecord]) -> None:
        self._lines = folder / "metrics.jsonl"
        write_atomically(self._lines, "".join(f"{r.model_dump_json()}\n" for r in history).encode())
        self._folder = folder / "events"
        done = history[-1].epoch if history else 0
        with writing(self._folder):
            if not history:
                for old in self._folder.glob("events.out.tfevents.*"):
                    old.unlink()
            self._board = SummaryWriter(str(self._folder), purge_step=done + 1)

    def record(self, record: EpochRecord) -> None:
        """Add the record of an epoch."""
        with writing(self._lines), self._lines.open("a", encoding="utf-8") as file:
            file.write(f"{record.model_dump_json()}\n")
        with writing(self._folder):
            for name, value in record.model_dump(exclude={"epoch", "shares"}).items():
                if value is not None:
                    self._board.add_scalar(_BOARD.get(name, name), value, record.epoch)
            self._board.flush()

    def close(self) -> None:
        with writing(self._folder):
            self._board.close()


_BOARD = {
    "loss": "train/loss",
    "train_accuracy": "train/accuracy",
    "learning_rate": "train/learning_rate",
    "accuracy": "real/accuracy",
    "ordered": "dataset/ordered",
    "replaced": "dataset/replaced",
    "r": "dataset/r",
    "short": "dataset/short",
    "tried": "acceptance/tried",
    "wrong_label": "acceptance/wrong_label",
    "below_threshold": "acceptance/below_threshold",
    "age": "dataset/age",
    "train_s": "seconds/train",
    "evaluate_s": "seconds/evaluate",
    "mint_s": "seconds/mint",
    "wait_s": "seconds/wait",
}
