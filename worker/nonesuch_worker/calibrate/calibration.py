"""Finding how far to mine: from files to curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.snapshots import SnapshotHeader
from nonesuch_worker.calibrate.choice import Goal
from nonesuch_worker.calibrate.curve import Point, measure
from nonesuch_worker.calibrate.judges import load_judge
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.strategies.mining import MiningParams


def mining_params(etas: Sequence[float], steps: int, others: Mapping[str, Any]) -> list[MiningParams]:
    """A set of parameters for each η. Raises `InvalidValue` for values that hsm would refuse, and for none at all."""
    for name in ("eta", "steps"):
        if name in others:
            raise InvalidValue(f"{name} {others[name]} is what is calibrated: give it as --{name}", field=name)
    if not etas:
        raise InvalidValue("there is no eta to try: name at least one", field="eta")
    return [
        validated(MiningParams, {**others, "eta": eta, "steps": steps}, f"hsm with eta {eta:g} and steps {steps}")
        for eta in dict.fromkeys(etas)
    ]


class Calibration:
    """A generator, the classifier that is mined, and a teacher, ready to be measured."""

    def __init__(
        self, generator: str, classifier: Path, teacher: Path, params: Sequence[MiningParams], goal: Goal
    ) -> None:
        """Loads the generator, the classifier and the teacher.

        Args:
            generator: its source.
            classifier: a classifier file, or the folder of a run.
            teacher: the same.
            params: what to try.
            goal: what for.

        Raises:
            NotFound: one of them is not there.
            IntegrityError: a file is damaged.
            InvalidValue: they do not fit together, or cannot reach the goal.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.generator: Generator = load_generator(generator, device)
        self.params = tuple(params)
        info = self.generator.info
        if not info.differentiable:
            raise InvalidValue(
                f"generator {info.id!r} has no gradients to follow: mine with another", field="generator"
            )
        if goal.target <= 1 / len(info.class_names):
            raise InvalidValue(
                f"target {goal.target:g} is out of reach: the largest of {len(info.class_names)} probabilities never "
                f"falls below {1 / len(info.class_names):.3g}",
                field="target",
            )
        if self.params[0].sigma > info.max_sigma:
            raise InvalidValue(
                f"sigma {self.params[0].sigma} is beyond what generator {info.id!r} allows ({info.max_sigma})",
                field="sigma",
            )
        self.classifier_header, self._classifier = load_judge(classifier, "classifier", info, device)
        self.teacher_header, self._teacher = load_judge(teacher, "teacher", info, device)
        if self.classifier_header.sha256 == self.teacher_header.sha256:
            raise InvalidValue(
                f"classifier {classifier} and teacher {teacher} have the same weights, so the teacher would be as "
                "mistaken as the classifier: name a teacher that was trained apart from it"
            )

    def run(self, *, images: int, seed: int, advance: Callable[[int], None] = lambda more: None) -> list[Point]:
        """The curves, as `curve.measure` makes them."""
        judges: tuple[nn.Module, nn.Module] = self._classifier, self._teacher
        return measure(self.generator, *judges, self.params, images=images, seed=seed, advance=advance)

    @property
    def facts(self) -> dict[str, Any]:
        """What was calibrated, for a document."""

        def of(header: SnapshotHeader) -> dict[str, Any]:
            return {"channel": header.channel, "version": header.version, "sha256": header.sha256}

        info = self.generator.info
        return {
            "generator": {"id": info.id, "sha256": info.sha256},
            "classifier": of(self.classifier_header),
            "teacher": of(self.teacher_header),
            "params": self.params[0].model_dump(exclude={"eta", "steps"}, exclude_defaults=True),
        }
