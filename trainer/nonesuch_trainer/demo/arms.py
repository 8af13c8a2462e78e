"""The demo's arms: the same classifier, steps and seed; only where the images come from differs."""

from pathlib import Path

from nonesuch.model import Frozen
from nonesuch.realdata.fashion_mnist import Split
from nonesuch_trainer.settings.adapting import Adapt
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Minted, Portion, Real
from nonesuch_trainer.settings.learning import Augment, Evaluate


class DemoPlan(Frozen):
    """The size of the demo. The defaults take five to six minutes on two cores."""

    out: Path = Path("runs/demo")
    generator: str = "fashion-mnist"
    size: int = 2000
    """N, the number of images that an epoch learns from."""
    epochs: int = 22
    replacement: float = 0.5
    steps: int = 3
    """How many steps of hard sample mining there are, for half of the fresh images."""
    eta: float = 0.05
    """η, the size of a step of mining, relative to the latent's norm."""
    mining_from: int = 5
    """The first epoch with mined images: before it the classifier finds nothing hard in particular."""
    unlabelled: int = 5000
    """How many real images without labels batch norm is adapted to."""
    seed: int = 0
    data: Path | None = None
    """The folder of the real images; None is where they are found."""
    split: Split = "test"
    """The split of the real images that judge."""


MINTED = {"fixed": "fixed", "smoothing": "smoothing", "smoothing+hsm": "smoothing-hsm"}
"""The datasets that are compared, with the folders of their runs."""
ARMS = (*MINTED, "real")
"""All arms, in the order in which they are trained."""

JUDGED = 3
"""About how many points a learning curve has: looking at 10,000 real images takes as long as an epoch."""

TITLES = {
    "fixed": "minted once, at random",
    "smoothing": "minted, dataset smoothing",
    "smoothing+hsm": "minted, smoothing, half of it mined",
    "real": "real images (reference)",
}


def config_of(arm: str, plan: DemoPlan) -> TrainConfig:
    """The training run of an arm."""
    folder = MINTED.get(arm, arm)
    return TrainConfig(
        run=f"demo-{folder}",
        seed=plan.seed,
        epochs=plan.epochs,
        dataset=_dataset(arm, plan),
        augment=Augment(shift=2, hflip=True),
        adapt=Adapt(to="fashion-mnist/train", images=plan.unlabelled, seed=plan.seed) if arm in MINTED else None,
        evaluate=Evaluate(folder=plan.data, split=plan.split, every=max(1, plan.epochs // JUDGED)),
        out=plan.out / folder,
    )


def _dataset(arm: str, plan: DemoPlan) -> Minted | Real:
    if arm == "real":
        return Real(kind="real", folder=plan.data, size=plan.size)
    random = Portion(strategy="random")
    mined = Portion(strategy="hsm", params={"steps": plan.steps, "eta": plan.eta}, from_epoch=plan.mining_from)
    return Minted(
        generators=(plan.generator,),
        size=plan.size,
        replacement=0.0 if arm == "fixed" else plan.replacement,
        fresh=(mined, random) if arm == "smoothing+hsm" else (random,),
    )
