"""What can be said after the folder of a BigGAN: `biggan:FOLDER,upstream_compatible,bfloat16`.

    upstream_compatible     the statistics that upstream takes for a truncation, with its rounding and swapped weights
    bfloat16, float16       convolutions in half precision, on devices that are faster at it
    compiled                torch.compile

The first three make other images, and so another id: `-upstream`, `-bfloat16` or `-float16` is appended to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from nonesuch.errors import InvalidValue
from nonesuch_worker.engine.compiling import check_compiler
from nonesuch_worker.engine.statistics import Rule, interpolated, upstream_compatible

COMPATIBLE = "upstream_compatible"
COMPILED = "compiled"
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
KNOWN = (COMPATIBLE, *PRECISIONS, COMPILED)


@dataclass(frozen=True)
class BigGANOptions:
    """How a BigGAN is minted. The defaults are its own float32 images, statistics interpolated as they should be."""

    compatible: bool = False
    """The statistics are those that upstream takes."""
    precision: str | None = None
    """A key of `PRECISIONS`; None is float32."""
    compiled: bool = False

    @classmethod
    def parse(cls, words: Sequence[str], device: torch.device) -> Self:
        """Read the options of a source. Raises `InvalidValue`."""
        for word in words:
            if word not in KNOWN:
                raise InvalidValue(f"biggan has no option {word!r}: it has {', '.join(KNOWN)}")
        asked = [word for word in words if word in PRECISIONS]
        if len(asked) > 1:
            raise InvalidValue(f"options {' and '.join(asked)} exclude each other: give one precision")
        if "float16" in asked and device.type == "cpu":
            raise InvalidValue("float16 is for GPUs: on a CPU leave it out, or give bfloat16")
        if COMPILED in words:
            check_compiler(device)
        return cls(COMPATIBLE in words, asked[0] if asked else None, COMPILED in words)

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions compute in."""
        return PRECISIONS[self.precision] if self.precision else torch.float32

    @property
    def rule(self) -> Rule:
        """How the statistics of a truncation are found."""
        return upstream_compatible if self.compatible else interpolated

    @property
    def id_suffix(self) -> str:
        """What sets the images apart from those without options."""
        return ("-upstream" if self.compatible else "") + (f"-{self.precision}" if self.precision else "")
