"""How a classifier learns, its images aside, and what judges it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.model import Frozen
from nonesuch.orders import Seed
from nonesuch.realdata.fashion_mnist import Split


class Optimiser(Frozen):
    """Stochastic gradient descent as in Besnier et al. 2019, section 4."""

    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0)
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.6, 0.8)
    """Fractions of the run at which the learning rate is multiplied by `decay`."""
    decay: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    """The epochs over which the learning rate rises linearly from 0."""


class Augment(Frozen):
    """Changes to each image whenever it is shown."""

    shift: int = Field(default=0, ge=0)
    """How many pixels an image is moved at most, in each direction; black comes in."""
    hflip: bool = False
    """Whether an image is mirrored with probability 1/2."""


class Learning(Frozen):
    """Everything that learning takes but images. Two runs that are alike in it differ by their images alone."""

    seed: Seed = 0
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=128, ge=2)
    classifier: ClassifierSpec = ClassifierSpec(architecture="resnet18", args={"width": 16})
    normalisation: Normalisation = Normalisation()
    optimiser: Optimiser = Optimiser()
    augment: Augment = Augment()
    precision: Literal["float32", "bfloat16"] = "float32"
    """The floating-point type of the convolutions (autocast)."""


class Evaluate(Frozen):
    """Real images that judge the classifier. Nothing is learned from them, and nothing chosen by them."""

    data: str = Field(default="fashion-mnist", min_length=1)
    """The judging images: fashion-mnist, a folder of class folders, or an IDX, Parquet or NPZ file
    (`nonesuch.realdata.labelled.read_labelled`). Images of another size are fitted to the generator's."""
    folder: Path | None = None
    """The folder of Fashion-MNIST's files; None is where they are found."""
    validation_per_class: int | None = Field(default=None, ge=1)
    """How many images of each class are cut from data without a validation split; None is a tenth of the smallest
    class."""
    split: Split = "test"
    every: int = Field(default=1, ge=1)
    """How many epochs pass from one judging to the next; the last epoch is judged in any case."""
