"""Which real information a run used, and through what. Every run says so and keeps it with its results."""

from collections.abc import Sequence

from pydantic import computed_field

from nonesuch.catalog import GeneratorInfo, RealInformation
from nonesuch.model import Frozen


class Provenance(Frozen):
    """The real information behind a classifier."""

    classifier: RealInformation
    """What the classifier itself was shown in training."""
    through: tuple[str, ...] = ()
    """What else was shown real images on its behalf, and which."""
    judged_on: str = ""
    """The real images that measured it and taught it nothing."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def statement(self) -> str:
        """All of it, in one line."""
        through = f" ({'; '.join(self.through)})" if self.through else ""
        judged = f"; judged on {self.judged_on}" if self.judged_on else ""
        return f"real information used by the classifier: {self.classifier}{through}{judged}"


def of_generators(generators: Sequence[GeneratorInfo]) -> Provenance:
    """Of a classifier that learns from what these generators mint."""
    how = {
        "none": "was trained on no real images",
        "unlabelled": "was trained on real images without labels",
        "labelled": "was trained on labelled real images",
    }
    return Provenance(
        classifier="none", through=tuple(f"generator {g.id} {how[g.real_information]}" for g in generators)
    )
