"""Conditioning a generator: from files to a folder, or to a curve of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.host.files import strict_json
from nonesuch.model import Frozen, Name
from nonesuch.offers import ledger_of_generators
from nonesuch_worker.condition.folder import base_folder, dump, write_generator
from nonesuch_worker.condition.measuring import Report, measure
from nonesuch_worker.condition.sheet import save_sheet
from nonesuch_worker.condition.training import train
from nonesuch_worker.condition.viewer import Viewer, class_names, load_viewer
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.conditioned.card import Card, CardBase, CardClassifier
from nonesuch_worker.generators.conditioned.config import ConditionConfig, Resample
from nonesuch_worker.generators.conditioned.loading import ConditionedGenerator
from nonesuch_worker.generators.conditioned.network import InputNetwork
from nonesuch_worker.generators.load import load_generator

REPORT = "report.json"
SHEET = "images.png"
CURVE = "curve.json"
Advance = Callable[[int], None]


class ConditioningPlan(Frozen):
    """A generator to make: its id, and how its input network is trained."""

    name: Name
    """The id of the generator."""
    config: ConditionConfig


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A generator that was made, not written yet."""

    generator: ConditionedGenerator
    card: Card
    weights: bytes
    report: Report


class Conditioning:
    """A base generator, a classifier and perhaps a judge, ready to be put together."""

    def __init__(self, base: str, classifier: Path, judge: Path | None, resample: Resample) -> None:
        """Loads the base, the classifier and, if there is one, the judge.

        Args:
            base: the source of an unconditional generator: one that has a single class.
            classifier: a classifier file, or the folder of a run.
            judge: the same, of an independent classifier.
            resample: how images come to the size that a classifier takes.

        Raises:
            NotFound: one of them is not there.
            IntegrityError: a file is damaged.
            InvalidValue: they do not fit together.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._source = base
        self.base: Generator = load_generator(base, device)
        info = self.base.info
        if len(info.class_names) != 1:
            raise InvalidValue(
                f"generator {info.id!r} has {len(info.class_names)} classes already: name an unconditional one, such "
                "as `nonesuch pretrain` makes with classes = 1",
                field="base",
            )
        if not info.differentiable:
            raise InvalidValue(f"generator {info.id!r} has no gradients to train through", field="base")
        self.header, self._classifier = load_viewer(classifier, "classifier", info, resample, device)
        self.names = class_names(self.header)
        self._judge: Viewer | None = None
        if judge is not None:
            header, self._judge = load_viewer(judge, "judge", info, resample, device)
            if header.classes != self.header.classes or header.class_names not in ((), self.names):
                raise InvalidValue(
                    f"judge {judge} has other classes ({', '.join(class_names(header)[:3])}, …) than the classifier "
                    f"({', '.join(self.names[:3])}, …): name one of the same classes",
                    field="judge",
                )
            if header.sha256 == self.header.sha256:
                raise InvalidValue(
                    f"judge {judge} has the classifier's own weights and would only agree with it: name a classifier "
                    "that was trained apart from it",
                    field="judge",
                )

    def train(self, config: ConditionConfig, advance: Advance = lambda more: None) -> InputNetwork:
        """An input network; `advance` is told how many more iterations are done."""
        return train(self.base, self._classifier, len(self.names), config, advance)

    def finish(
        self, network: InputNetwork, plan: ConditioningPlan, *, images: int, advance: Advance = lambda more: None
    ) -> Conditioned:
        """Put a generator together, and measure it.

        Args:
            network: trained as planned.
            plan: what it is to be.
            images: to measure with, of each class.
            advance: told how many more images were looked at.
        """
        weights = dump(network)
        card = self._card(plan, hashlib.sha256(weights).hexdigest())
        generator = ConditionedGenerator(self.base, network, card)
        report = measure(
            generator, self._classifier, self._judge, images=images, seed=plan.config.seed, advance=advance
        )
        return Conditioned(generator, card.model_copy(update={"metrics": report.metrics}), weights, report)

    def write(self, made: Conditioned, folder: Path) -> None:
        """Fill a folder with a generator, its report and a sheet of its images."""
        write_generator(folder, made.card, made.weights, base_folder(self._source))
        (folder / REPORT).write_text(made.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        save_sheet(made.generator, folder / SHEET, seed=made.card.recipe.seed)

    def _card(self, plan: ConditioningPlan, sha256: str) -> Card:
        info, header = self.base.info, self.header
        # The base may have seen no label, but which latents make which class was learned from the classifier, and so
        # from whatever the classifier learned from: as a rule, labelled images.
        ledger = ledger_of_generators([info]).plus(*header.ledger.through("classifier"))
        argument = self._source.partition(":")[2] if base_folder(self._source) is None else None
        return Card(
            name=plan.name,
            description=f"{info.id} conditioned on the {len(self.names)} classes of classifier {header.channel}",
            license=info.license,
            class_names=self.names,
            image_shape=info.image_shape,
            z_dim=info.z_dim,
            real_information=ledger.information,
            base=CardBase(family=info.family, argument=argument, id=info.id, sha256=info.sha256),
            classifier=CardClassifier(channel=header.channel, version=header.version, sha256=header.sha256),
            recipe=plan.config,
            metrics={},
            sha256=sha256,
        )


def plans(name: str, config: ConditionConfig, weights: Sequence[float] | None) -> list[ConditioningPlan]:
    """One generator, or for a curve one for each of these weights, whose names end in them.

    Raises `InvalidValue` for a name or weights that cannot be used, and for a curve without a regulariser.
    """
    if weights is None:
        return [validated(ConditioningPlan, {"name": name, "config": config}, "the generator")]
    if config.regulariser == "none":
        raise InvalidValue("a curve needs something to weigh: choose regulariser entropy or distance", field="curve")
    if not weights:
        raise InvalidValue("the curve has no points: give weights, such as 0,0.01,0.1,1", field="curve")
    points = [ConditionConfig.read(None, **{**config.model_dump(), "weight": weight}) for weight in weights]
    return [
        validated(ConditioningPlan, {"name": f"{name}-{p.strength:g}", "config": p}, "the generator") for p in points
    ]


def curve_document(made: Sequence[Conditioned]) -> str:
    """The trade-off as JSON: the regulariser, and for every weight the metrics of the cards."""
    rows = [{"name": m.card.name, "weight": m.card.recipe.strength, **m.card.metrics} for m in made]
    found = {"regulariser": made[0].card.recipe.regulariser, "curve": rows}
    return strict_json(found, "the trade-off", indent=2) + "\n"
