"""What is the same for every image that a run learns from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nonesuch.ledger import Ledger
from nonesuch.realdata.fingerprint import Fingerprint


@dataclass(frozen=True)
class Facts:
    """What is the same for every image of a source."""

    image_shape: tuple[int, int, int]
    """(H, W, C) of the images."""
    class_names: tuple[str, ...]
    """The names of the classes, by label; the classifier has an output for each."""
    classes: tuple[int, ...]
    """The labels that occur among the images."""
    ledger: Ledger
    """The real information behind the images."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of whatever weights decide the images, by what they are: a run is not resumed with others."""
    real: Fingerprint | None = None
    """The real images that are drawn from, if any: a run is not resumed with others."""
