"""What judges a classifier."""

from pathlib import Path

from pydantic import Field

from nonesuch.model import Frozen
from nonesuch.realdata.fashion_mnist import Split


class Evaluate(Frozen):
    """Real images that judge the classifier. Nothing is learned from them, and nothing chosen by them."""

    data: str = Field(default="fashion-mnist", min_length=1)
    """fashion-mnist, a folder of class folders, or an IDX, Parquet or NPZ file (`realdata.labelled.read_labelled`).
    Images of another size are fitted to the generator's."""
    folder: Path | None = None
    """Of Fashion-MNIST's files; None is where they are found."""
    validation_per_class: int | None = Field(default=None, ge=1)
    """How many of each class are cut from data without a validation split; None is a tenth of the smallest class."""
    split: Split = "test"
    every: int = Field(default=1, ge=1)
    """In epochs; the last epoch is judged in any case."""
