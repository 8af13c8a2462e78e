"""The demo's arms: the same classifier, steps and seed; only where the images come from differs."""

from pathlib import Path

from nonesuch.model import Frozen
from nonesuch.realdata import Split
from nonesuch_trainer.config import Augment, Evaluate, Minted, Real, TrainConfig


class DemoPlan(Frozen):
    """The size of the demo. The defaults take four to five minutes on two cores."""

    out: Path = Path("runs/demo")
    generator: str = "fashion-mnist"
    size: int = 2000
    """N, images that an epoch learns from."""
    epochs: int = 25
    replacement: float = 0.5
    seed: int = 0
    data: Path | None = None
    """Folder of the real images."""
    split: Split = "test"
    """The real images that judge."""


ARMS = ("fixed_random", "smoothing", "real")
"""In the order in which they are trained."""

JUDGED = 8
"""Points of a learning curve: looking at 10,000 real images takes as long as an epoch."""

TITLES = {
    "fixed_random": "minted once, at random",
    "smoothing": "minted, dataset smoothing",
    "real": "real images (reference)",
}


def config_of(arm: str, plan: DemoPlan) -> TrainConfig:
    """The training run of an arm."""
    dataset: Minted | Real
    if arm == "real":
        dataset = Real(kind="real", folder=plan.data, size=plan.size)
    else:
        replacement = plan.replacement if arm == "smoothing" else 0.0
        dataset = Minted(generators=(plan.generator,), size=plan.size, replacement=replacement)
    return TrainConfig(
        run=f"demo-{arm}",
        seed=plan.seed,
        epochs=plan.epochs,
        dataset=dataset,
        augment=Augment(shift=2, hflip=True),
        evaluate=Evaluate(folder=plan.data, split=plan.split, every=max(1, plan.epochs // JUDGED)),
        out=plan.out / arm,
    )
