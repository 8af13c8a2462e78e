"""The information ledger: which real information stands behind a classifier or a dataset, and through what.

Images that were minted are not free of real ones: their generator has seen some, and so has a teacher that filtered
them, or the statistics that batch norm was adapted to. Every run, snapshot, classifier file and exported dataset
carries a ledger that lists such uses, and says so in a line for people.
"""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field

from nonesuch.model import Frozen

RealInformation = Literal["none", "unlabelled", "labelled"]
_LEVELS: tuple[RealInformation, ...] = ("none", "unlabelled", "labelled")


class Use(Frozen):
    """One thing that has, or may have, learned from real images."""

    by: str = Field(max_length=200)
    """What the thing is: "generator fashion-mnist", "teacher", "batch norm adaptation"."""
    information: RealInformation
    what: str = Field(default="", max_length=300)
    """The real images, as far as they are known: "55,000 images of fashion-mnist/train"."""
    data: str = Field(default="", max_length=100)
    """What tells these images from others, if it is known: "sha256 of contents 1f3a…" (`realdata.fingerprint`)."""
    direct: bool = False
    """Whether the classifier itself was shown the images."""

    def __str__(self) -> str:
        shown = {
            "none": "no real images",
            "unlabelled": "real images without labels",
            "labelled": "labelled real images",
        }
        what = f": {self.what}" if self.what else ""
        return f"{self.by} ({shown[self.information]}{what})"


class Ledger(Frozen):
    """The uses behind one classifier or dataset. Empty: nothing that was real came near it."""

    uses: tuple[Use, ...] = Field(default=(), max_length=1024)
    judged_on: str = Field(default="", max_length=300)
    """The real images that measured it and taught it nothing."""

    @property
    def information(self) -> RealInformation:
        """The most that any use had."""
        return _most(use.information for use in self.uses)

    @property
    def direct(self) -> RealInformation:
        """The most that the classifier itself was shown."""
        return _most(use.information for use in self.uses if use.direct)

    @property
    def statement(self) -> str:
        """The whole ledger, in one line."""
        through = f", through {'; '.join(str(use) for use in self.uses)}" if self.uses else ""
        judged = f"; judged on {self.judged_on}" if self.judged_on else ""
        return f"real information used: {self.information}{through}{judged}"

    def summary(self) -> dict[str, Any]:
        """The whole ledger as JSON, with what follows from it."""
        return {
            "information": self.information,
            "direct": self.direct,
            "statement": self.statement,
            **self.model_dump(),
        }

    def plus(self, *uses: Use) -> Self:
        """This ledger with more uses; one that is there already is not entered twice."""
        new = tuple(use for use in dict.fromkeys(uses) if use not in self.uses)
        return self.model_copy(update={"uses": self.uses + new})

    def through(self, by: str) -> tuple[Use, ...]:
        """This ledger's uses, as the uses of something that is now used itself: a teacher, say, as `by`."""
        return tuple(
            use.model_copy(update={"by": by if use.direct else f"{by} through {use.by}", "direct": False})
            for use in self.uses
        )


NO_USES = Ledger()
"""The ledger of what no real image came near."""
UNKNOWN = Ledger(
    uses=(Use(by="training", information="labelled", what="not stated, so taken for granted", direct=True),)
)
"""The ledger of weights whose publisher does not say what they learned from."""


def _most(levels: Iterable[RealInformation]) -> RealInformation:
    return max(levels, key=_LEVELS.index, default="none")
