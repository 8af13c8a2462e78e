"""What `nonesuch evaluate` does: order images, measure them beside real ones, and learn from both.

    mint N ─► measure M of them ─► measure M real ones (the floor) ─► learn from N, and from N real ones, per seed

Legend: N images to learn from, M images that are measured.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nonesuch.errors import InvalidValue
from nonesuch.link import Link
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.smoothed.resident import LabelledImages
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.metrics.measures import Measures
from nonesuch_trainer.metrics.plan import EvaluationPlan
from nonesuch_trainer.metrics.yardstick import TwinLearning, Twins, Yardstick
from nonesuch_trainer.sources.minted import MintedSource
from nonesuch_trainer.sources.ordering import service_name

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that an evaluation found."""

    plan: EvaluationPlan
    facts: Facts
    judged_on: str
    """What the judging images are, and how many."""
    generated: Measures
    floor: Measures
    """The measures of real images that neither the feature network nor the judge has seen."""
    twins: tuple[Twins, ...]
    unlearned: str | None
    """Why less was learned than the plan wants, if so."""
    images: LabelledImages
    """The minted images of the first seed."""
    real: RealImages
    """The real images that judge."""


def mint(plan: EvaluationPlan, seed: int, link: Link, stop: threading.Event, say: Say) -> tuple[LabelledImages, Facts]:
    """The plan's minted images for a seed. Blocks; raises what `MintedSource` raises."""
    name = service_name(f"evaluate-{seed}", Path("runs"))
    with MintedSource(plan.minted, link, name=name, seed=seed, stop=stop, say=say) as source:
        images, _ = source.first_images(lambda done, total: None)
        return images, source.facts


def evaluate(
    plan: EvaluationPlan, link: Link, *, stop: threading.Event | None = None, say: Say = lambda line: None
) -> Findings:
    """Evaluate what a running service mints. Blocks for minutes.

    Args:
        link: to its Redis; the plan's generators are hosted there.
        stop: ends it when it is set.
        say: is told what is being done.

    Raises:
        Stopped: asked to stop.
        DataNotFound: the real images are not there.
        InvalidValue: generator, named feature network and real images do not fit together.
        GeneratorNotFound, NoWorkers, InvalidOrder, OrderFailed, TakeTimeout: the images cannot be had.
    """
    stop = stop or threading.Event()
    say(f"minting {plan.size:,} images")
    first, facts = mint(plan, plan.seed, link, stop, say)
    yardstick, learning = Yardstick(plan, facts), TwinLearning(plan, facts, stop)
    say(f"measuring {yardstick.measured:,} images against {learning.judge.name}")
    generated, floor = yardstick.measure(first), yardstick.floor

    twins, unlearned = [], None
    for seed in range(plan.seed, plan.seed + plan.seeds) if plan.epochs else ():
        images = first if seed == plan.seed else mint(plan, seed, link, stop, say)[0]
        say(f"learning from {plan.size:,} generated images, and in as many steps from real ones, seed {seed}")
        try:
            found = learning.twins(images, seed)
        except InvalidValue as error:  # what was measured is told all the same
            unlearned = f"seed {seed}: {error}"
            break
        twins.append(found)
        say(f"accuracy {100 * found.minted.accuracy:.2f} %, its twin's {100 * found.real.accuracy:.2f} %")
    return Findings(plan, facts, learning.judge.name, generated, floor, tuple(twins), unlearned, first, yardstick.real)
