"""Classifier architectures by name.

A plug-in is an entry point of the group `nonesuch.classifiers`: its name is the architecture, its object an
`Architecture`. A snapshot carries the name and the arguments, so whoever has the plug-in can rebuild its network.
"""

from typing import Any, Protocol

from pydantic import ValidationError
from torch import nn

from nonesuch.classifiers.narrow import guard
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.config import explain
from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen
from nonesuch.plugins import names, plugin

GROUP = "nonesuch.classifiers"


class Architecture(Protocol):
    """Builds networks of one architecture with fresh weights, on the default device, which may be torch's "meta"."""

    Args: type[Frozen]
    """The model of the arguments that the architecture takes."""

    def __call__(self, args: Any, *, in_channels: int, classes: int, image_size: int) -> nn.Module:
        """A network from (B, in_channels, image_size, image_size) to logits (B, classes). `args` is an `Args`."""


def architectures() -> tuple[str, ...]:
    """The names of the registered architectures."""
    return names(GROUP)


def build(spec: ClassifierSpec, *, in_channels: int, classes: int, image_size: int) -> nn.Module:
    """A network with fresh weights, from torch's global random numbers; its narrow layers are guarded
    (`narrow.guard`).

    Args:
        spec: the architecture and its arguments.
        in_channels: of the images.
        classes: number of logits, at least 2.
        image_size: side of the square images in pixels; it decides the stem, other sizes work too.

    Raises:
        InvalidValue: an unknown architecture (says which are known) or an argument that it does not take.
    """
    if min(in_channels, classes - 1, image_size) < 1:
        raise InvalidValue(
            f"no classifier of {in_channels} channels, {classes} classes and {image_size} pixels: "
            "it needs at least 1 channel, 2 classes and 1 pixel"
        )
    architecture: Architecture = plugin(GROUP, spec.architecture)
    try:
        args = architecture.Args.model_validate(spec.args)
    except ValidationError as error:
        raise InvalidValue(explain(error, f"the arguments of classifier {spec.architecture!r}"), field="args") from None
    network = architecture(args, in_channels=in_channels, classes=classes, image_size=image_size)
    guard(network)
    return network
