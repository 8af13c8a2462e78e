"""The payload of a snapshot: a classifier's state as safetensors, and back. Loading is strict."""

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nonesuch.classifiers.normalisation import Normalisation, OnGenerated
from nonesuch.classifiers.registry import ClassifierSpec, build
from nonesuch.errors import InvalidSnapshot, InvalidValue
from nonesuch.snapshots import SnapshotHeader


def dump(model: nn.Module) -> bytes:
    """Every parameter and buffer (batch norm's statistics too) as safetensors. The same state gives the same bytes."""
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()})


def load_snapshot(header: SnapshotHeader, payload: bytes, device: torch.device | str = "cpu") -> nn.Module:
    """The network that a snapshot holds, on `device`, in eval mode; its parameters take no gradient.

    Leaves torch's random numbers as they are.

    Raises:
        InvalidSnapshot: the payload is not safetensors, the architecture cannot be built, or a tensor is missing,
            extra, misshapen, of another kind or not finite: the message names it.
    """
    name = f"snapshot {header.version} of channel {header.channel!r}"
    height, _, channels = header.image_shape
    spec = ClassifierSpec(architecture=header.architecture, args=header.args)
    try:
        with torch.random.fork_rng(devices=()):
            model = build(spec, in_channels=channels, classes=header.classes, image_size=height)
    except InvalidValue as error:
        raise InvalidSnapshot(f"{name} cannot be built: {error}") from error
    try:
        given = safetensors.torch.load(payload)
    except SafetensorError as error:
        raise InvalidSnapshot(f"{name} is not safetensors ({error}): publish what `dump` returns") from error
    _check(given, model.state_dict(), f"{name} ({header.architecture})")
    model.load_state_dict(given)
    return model.to(device).eval().requires_grad_(False)


def load_on_generated(header: SnapshotHeader, payload: bytes, device: torch.device | str = "cpu") -> OnGenerated:
    """The network that a snapshot holds, for images (B, C, H, W) in [-1, 1] as generators make them.

    In eval mode, frozen, in the memory format that convolutions are fastest in. Raises what `load_snapshot` raises.
    """
    network = load_snapshot(header, payload, device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return OnGenerated(network, Normalisation(mean=header.mean, std=header.std)).eval()


def _check(given: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    """Raises `InvalidSnapshot` that names the first tensors that do not fit."""
    missing, extra = expected.keys() - given.keys(), given.keys() - expected.keys()
    if missing or extra:
        lacks = [f"lacks {_some(missing)}"] if missing else []
        has = [f"has {_some(extra)} in excess"] if extra else []
        raise InvalidSnapshot(f"{name} {' and '.join(lacks + has)}: it was dumped from another network")
    for key, wanted in expected.items():
        tensor = given[key]
        if tensor.shape != wanted.shape or tensor.is_floating_point() != wanted.is_floating_point():
            raise InvalidSnapshot(
                f"{name}: tensor {key!r} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"the network has {wanted.dtype} {tuple(wanted.shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InvalidSnapshot(f"{name}: tensor {key!r} is not finite: the training diverged")


def _some(keys: set[str]) -> str:
    """Up to three of the keys, for a message."""
    first = ", ".join(repr(key) for key in sorted(keys)[:3])
    return f"tensor {first}" if len(keys) == 1 else f"{len(keys)} tensors ({first}{', …' if len(keys) > 3 else ''})"
