"""What a run may learn from: the settings of its dataset, read from the config's [dataset] table."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from nonesuch.model import Frozen, Name
from nonesuch.orders import MAX_TICKET
from nonesuch.realdata.decoding import check_shape
from nonesuch.smoothed.settings import Skip, Victims, Wait


class Portion(Frozen):
    """How images are chosen: a strategy, its parameters, and its share where there are several portions."""

    strategy: Name | None = None
    """The name of the strategy; None draws at random: `random`, or `mixture` where there are several generators."""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    share: float = Field(default=1.0, gt=0)
    """The portion's share, relative to those of the other portions."""
    from_epoch: int = Field(default=0, ge=0)
    """The first epoch, counted from 0, that learns from images of this portion; before it the portion's share is
    drawn at random, with those of its parameters that `random` has too."""


class TeacherSource(Frozen):
    """An independent classifier that says what an image shows: a file, or a snapshot that somebody has published.

    The run takes it as it is at the start, and publishes it as its own: it stays the same to the end.
    """

    classifier: Path | None = None
    """The teacher's classifier file, or the folder of a run that has left one; relative to where the run is started."""
    channel: Name | None = None
    version: Annotated[int, Field(ge=0)] | Literal["latest"] = "latest"
    """The version of the channel's snapshot: "latest" is the one at the start of the run."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.classifier is None) == (self.channel is None):
            raise ValueError("a teacher is a file or a snapshot: give either `classifier` or `channel`")
        if self.classifier is not None and self.version != "latest":
            raise ValueError(f"version {self.version} is of a `channel`, and the teacher is the file {self.classifier}")
        return self


class ClassQuotas(Frozen):
    """Order more images of the classes that the classifier gets wrong."""

    by: Literal["validation-error"] = "validation-error"
    """What the share of a class follows: its error on real images set apart, whose labels are real information."""
    strength: float = Field(default=0.5, gt=0, le=1)
    """How far shares follow the errors: 0 would be equal shares, 1 is shares in proportion to the errors."""
    split: Literal["train", "validation"] = "validation"
    """The split of `evaluate.data` whose images the errors are of; never the one that judges the run."""


class _FromService(Frozen):
    """The settings of every dataset that the service mints."""

    generators: tuple[Name, ...] = Field(default=("fashion-mnist",), min_length=1)
    classes: tuple[str | int, ...] | None = None
    """The classes that occur, by name or label; None takes all. The classifier has an output for every class of the
    generators anyway."""
    size: int = Field(default=4000, ge=2)
    """N, the number of images in the dataset."""
    first: Portion = Portion()
    """How the images are chosen that the first epoch learns from (line 5 of Alg. 2, line 14 of Alg. 1)."""
    labels: Literal["hard", "soft"] = "hard"
    """What is learned: the class that was ordered, or the teacher's probabilities."""
    teacher: TeacherSource | None = None
    """The classifier that filters, verifies and gives soft labels, where a portion or `labels` asks for it."""
    late: Annotated[Wait | Skip, Field(discriminator="kind")] = Wait()
    outage_s: float = Field(default=300.0, ge=0)
    """How long to wait for a Redis, a ring or workers that have gone, before giving up."""
    ticket_size: int | None = Field(default=None, ge=1, le=MAX_TICKET)
    """How many images a ticket has; None is 64, or as many as fit into a slot."""
    ring_slots: int = Field(default=16, ge=1, le=4096)
    """How many slots the run's ring has, for a ticket each: when they are full, the workers wait."""

    @model_validator(mode="after")
    def _soft_labels_come_from_a_teacher(self) -> Self:
        if self.labels == "soft" and self.teacher is None:
            raise ValueError("labels 'soft' are a teacher's: name one in the table `teacher`, or use labels 'hard'")
        return self


class Minted(_FromService):
    """A dataset that the service mints: dataset smoothing (Besnier et al. 2019, Alg. 2).

    `replacement` is r: 0 is the fixed dataset, 1 continuous sampling.
    """

    kind: Literal["minted"] = "minted"
    replacement: float = Field(default=0.5, ge=0, le=1)
    victims: Victims = "random"
    """How the images are chosen that an epoch's fresh ones replace."""
    fresh: tuple[Portion, ...] = Field(default=(Portion(strategy="hsm"), Portion()), min_length=1)
    """How the r·N images are chosen that come in after each epoch: half mined, half random (lines 8 and 9 of Alg. 2),
    or any other mix."""
    staleness: Literal[0, 1] = 0
    """The age that a batch may have. 0: an epoch's images are ordered when it is trained, and aimed at it. 1: they are
    minted while it trains, and aimed at the epoch before."""
    quotas: ClassQuotas | None = None
    """The class quotas of fresh images, which the dataset's classes drift towards; None orders as many of each class,
    and keeps it so."""

    @property
    def first_images(self) -> int:
        """How many images are ordered at the start: N."""
        return self.size

    def fresh_images(self, birth: int) -> int:
        """How many images are fresh in epoch `birth` ≥ 1: r·N, rounded."""
        return round(self.replacement * self.size)

    @model_validator(mode="after")
    def _replaces_something(self) -> Self:
        images = self.fresh_images(1)
        if self.replacement > 0 and images < len(self.fresh):
            raise ValueError(
                f"replacement {self.replacement} of size {self.size} is {images} images for {len(self.fresh)} "
                "portion(s): raise either, or set replacement to 0 for a fixed dataset"
            )
        if self.quotas and self.replacement == 0:
            raise ValueError("quotas are of the images that are replaced, and replacement is 0: raise it, or drop them")
        return self


class Collected(_FromService):
    """A fixed dataset that is grown with hard samples in steps of M (Besnier et al. 2019, Alg. 1).

    A classifier of its own learns from what there is so far, and more is mined with it, until there are N images; as
    printed the algorithm would go on to N + M. Then the run's classifier starts from scratch and learns from them all.
    """

    kind: Literal["collected"]
    step: int = Field(default=400, ge=1)
    """M, the number of images that are added in a step."""
    mined: Portion = Portion(strategy="hsm")
    """How the images are chosen that are added (line 17 of Alg. 1); its `from_epoch` counts the steps, from 1."""
    epochs_per_step: int = Field(default=1, ge=1)
    """How many epochs the collecting classifier is trained for before each step (line 16 of Alg. 1)."""

    staleness: ClassVar[Literal[0]] = 0
    victims: ClassVar[Literal["random"]] = "random"
    replacement: ClassVar[float] = 0.0
    quotas: ClassVar[None] = None

    @property
    def fresh(self) -> tuple[Portion, ...]:
        """How the images are chosen that are added in each step."""
        return (self.mined,)

    @property
    def first_images(self) -> int:
        """How many images are ordered at the start: M."""
        return self.step

    @property
    def steps(self) -> int:
        """How many steps add images, until there are N."""
        return -(-(self.size - self.step) // self.step)

    def fresh_images(self, birth: int) -> int:
        """How many images are added in step `birth` ≥ 1: M, and in the last one what is left to N."""
        return min(self.step, self.size - birth * self.step)

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.step >= self.size:
            raise ValueError(f"step {self.step} fills the size {self.size} at once: make step smaller than size")
        return self


class Real(Frozen):
    """A fixed dataset of real images, for reference: a class-balanced subset, drawn by the seed."""

    kind: Literal["real"] = "real"
    data: str = Field(default="fashion-mnist", min_length=1)
    """The real images: fashion-mnist, a folder of class folders, or an IDX, Parquet or NPZ file
    (`nonesuch.realdata.labelled.read_labelled`)."""
    folder: Path | None = None
    """The folder of Fashion-MNIST's files; None is where they are found."""
    validation_per_class: int | None = Field(default=None, ge=1)
    """How many images of each class are cut from data without a validation split; None is a tenth of the smallest
    class."""
    split: Literal["train"] = "train"
    image_shape: tuple[int, int, int] | None = None
    """(H, W, C), where C is 1 or 3: images are scaled until they cover H×W and cut to its middle, and become grey or
    coloured. None leaves them as they are, and then all must be alike."""
    size: int = Field(default=4000, ge=2)

    @field_validator("image_shape")
    @classmethod
    def _can_be_read(cls, shape: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if shape is not None:
            check_shape(shape)
        return shape


class Augmented(Frozen):
    """Real images and p % as many minted ones on top (Ravuri & Vinyals 2019). The real ones stay; what is minted may
    be replaced in part, as in `Minted`."""

    kind: Literal["augmented"]
    percent: float = Field(default=25.0, gt=0)
    """p, how many images are minted for every 100 real ones; 25, 50 and 100 in the paper."""
    real: Real = Real()
    minted: Minted = Field(default=Minted(), validate_default=True)
    """The minted images: their size follows from `percent`; their replacement, if not given, is 0."""

    @field_validator("minted", mode="before")
    @classmethod
    def _sized(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, Minted):
            given = given.model_dump(exclude_unset=True)
        if not isinstance(given, dict) or not {"percent", "real"} <= info.data.keys():
            return given  # which is refused elsewhere
        size = round(info.data["real"].size * info.data["percent"] / 100)
        sized: dict[str, Any] = {"replacement": 0.0, "size": size, **given}
        if sized["size"] != size:
            raise ValueError(
                f"size {sized['size']} is not {info.data['percent']} % of real.size {info.data['real'].size}: leave it "
                "out, it follows"
            )
        return sized


Dataset = Annotated[Minted | Collected | Real | Augmented, Field(discriminator="kind")]
