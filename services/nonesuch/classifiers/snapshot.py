"""The payload of a snapshot: a classifier's state as safetensors, and back. Loading is strict."""

from functools import partial

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nonesuch.classifiers.narrow import to_channels_last
from nonesuch.classifiers.normalisation import OnGenerated
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidSnapshot, InvalidValue
from nonesuch.snapshots import SnapshotHeader
from nonesuch.weights.checkpoints import advice
from nonesuch.weights.tensors import faults


def dump(model: nn.Module) -> bytes:
    """Every parameter and buffer (batch norm's statistics too) as safetensors. The same state gives the same bytes."""
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()})


def load_snapshot(header: SnapshotHeader, payload: bytes, device: torch.device | str = "cpu") -> nn.Module:
    """The network that a snapshot holds, on `device`, in eval mode; its parameters take no gradient.

    Leaves torch's random numbers as they are. A network that the payload does not fit is never allocated, so a snapshot
    costs no more memory than its payload, whatever its header says.

    Raises:
        InvalidSnapshot: the payload is not safetensors, the architecture cannot be built, or a tensor is missing,
            extra, misshapen, of another kind or not finite: the message names it.
    """
    name = f"snapshot {header.version} of channel {header.channel!r}"
    height, _, channels = header.image_shape
    spec = ClassifierSpec(architecture=header.architecture, args=header.args)
    new = partial(build, spec, in_channels=channels, classes=header.classes, image_size=height)
    try:
        with torch.random.fork_rng(devices=()), torch.device("meta"):  # a network of any size takes no memory there
            expected = new().state_dict()
    except InvalidValue as error:
        raise InvalidSnapshot(f"{name} cannot be built: {error}") from error
    try:
        given = safetensors.torch.load(payload)
    except SafetensorError as error:
        raise InvalidSnapshot(f"{name} is not safetensors ({error}): publish what `dump` returns") from error
    _check(given, expected, f"{name} ({header.architecture})")
    with torch.random.fork_rng(devices=()):
        model = new()
    model.load_state_dict(given)
    return model.to(device).eval().requires_grad_(False)


def load_on_generated(header: SnapshotHeader, payload: bytes, device: torch.device | str = "cpu") -> OnGenerated:
    """The network that a snapshot holds, for images (B, C, H, W) in [-1, 1] as generators make them.

    In eval mode, frozen, in the memory format that convolutions are fastest in. Raises what `load_snapshot` raises.
    """
    network = load_snapshot(header, payload, device)
    to_channels_last(network)
    return OnGenerated(network, Normalisation(mean=header.mean, std=header.std)).eval()


def _check(given: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    """Raises `InvalidSnapshot` that names the tensors that do not fit."""
    if found := faults(given, expected, dtype="kind"):
        why = (
            advice(given, expected, dtype="kind")
            or "It was dumped from another network, or by a training that diverged"
        )
        raise InvalidSnapshot(f"{name} does not fit its network: {'; '.join(found)}. {why}")
