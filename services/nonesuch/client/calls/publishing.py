"""Makes the safetensors file that a gateway takes of a classifier, in whatever form that is at hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nonesuch.classifiers.published import CLASSIFIER, describe
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.client.images.extras import needed
from nonesuch.errors import InvalidSnapshot, InvalidValue, NotFound
from nonesuch.ledger import UNKNOWN, Ledger
from nonesuch.snapshots import METADATA_KEY, SnapshotHeader
from nonesuch.weights.layout import PICKLED, check_finite, pickled, read_layout

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Description:
    """What a network's weights do not say of it."""

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    architecture: str | None = None
    """Its name in the registry; None: the registered one that has these very tensors with its default arguments."""
    args: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    epoch: int = 0
    step: int = 0
    ledger: Ledger = UNKNOWN


def read_file(path: Path) -> bytes:
    """A classifier file, or that in a run's folder, as it is. Raises `NotFound`, and `InvalidSnapshot` for another."""
    path = path / CLASSIFIER if path.is_dir() else path
    if not path.is_file():
        raise NotFound(f"there is no classifier file {path}: a finished run leaves one as {CLASSIFIER} in its folder")
    payload = path.read_bytes()
    if pickled(payload):
        raise InvalidSnapshot(
            f"{path} cannot be read: {PICKLED}; a network at hand is published itself, client.publish(model)"
        )
    if METADATA_KEY not in read_layout(payload).metadata:
        raise InvalidSnapshot(f"{path} does not say which classifier it is: use the {CLASSIFIER} that a run has left")
    return payload


def with_header(header: SnapshotHeader, payload: bytes) -> bytes:
    """The tensors of a payload in a file that says what they are. Raises `InvalidSnapshot`."""
    read_layout(payload)
    begin = 8 + int.from_bytes(payload[:8], "little")
    entries = json.loads(payload[8:begin])
    entries["__metadata__"] = {**entries.get("__metadata__", {}), METADATA_KEY: header.model_dump_json()}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + payload[begin:]


def dumped(model: "nn.Module | Mapping[str, Tensor]", described: Description) -> bytes:
    """A network, or its state, as a classifier file. Its architecture is looked up and its tensors are held against it.

    Raises `InvalidSnapshot` for a network that does not fit, or has values that are not finite; `InvalidValue` for a
    description that cannot be, or an architecture that is not registered here.
    """
    needed("torch", "torch", "publishing a network")
    from safetensors.torch import save

    from nonesuch.weights.checkpoints import advice, plain_tensors
    from nonesuch.weights.tensors import faults

    state = plain_tensors(model if isinstance(model, Mapping) else model.state_dict(), "the model")
    # Clones, because safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    if described.architecture is None:
        spec = _recognised(tensors, described)
    else:
        spec = ClassifierSpec(architecture=described.architecture, args=dict(described.args))
        wanted = _expected(spec, described)
        if found := faults(tensors, wanted, dtype="kind"):
            why = advice(tensors, wanted, dtype="kind") or _other_classes(tensors, wanted)
            raise InvalidSnapshot(
                f"the network is no {spec.architecture} {spec.args or ''}: {'; '.join(filter(None, (*found, why)))}"
            )
    header = describe(  # the gateway knows channel, version and sha256 better
        spec,
        image_shape=described.image_shape,
        class_names=described.class_names,
        mean=described.mean,
        std=described.std,
        epoch=described.epoch,
        step=described.step,
        ledger=described.ledger,
    )
    payload: bytes = save(tensors, {METADATA_KEY: header.model_dump_json()})
    check_finite(payload, read_layout(payload).tensors)
    return payload


def _recognised(tensors: "dict[str, Tensor]", described: Description) -> ClassifierSpec:
    """The registered architecture, with its default arguments, that has tensors of these names and shapes."""
    from nonesuch.classifiers.registry import architectures
    from nonesuch.weights.checkpoints import advice

    given = {name: tensor.shape for name, tensor in tensors.items()}
    why = ""
    for name in architectures():
        spec = ClassifierSpec(architecture=name)
        wanted = _expected(spec, described)
        if given == {name: tensor.shape for name, tensor in wanted.items()}:
            return spec
        if given.keys() != wanted.keys():
            why = why or advice(tensors, wanted, dtype="kind")
        else:
            why = why or _other_classes(tensors, wanted)
    raise InvalidValue(
        f"the network is none of {', '.join(architectures())} with default arguments for images of "
        f"{described.image_shape} and {len(described.class_names)} classes: {why or 'name its architecture and args'}",
        field="architecture",
    )


def _other_classes(given: "Mapping[str, Tensor]", wanted: "Mapping[str, Tensor]") -> str:
    """What to do about a network with another number of outputs than there are class names; "" if it has as many."""
    differ = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    outputs = {(int(given[name].shape[0]), int(wanted[name].shape[0])) for name in differ if wanted[name].ndim}
    inner = any(given[name].shape[1:] != wanted[name].shape[1:] for name in differ)
    if inner or len(outputs) != 1 or given.keys() != wanted.keys():
        return ""
    ((has, names),) = outputs
    return f"It has {has} outputs and the images' generator has {names} classes: name the generator of its classes"


def _expected(spec: ClassifierSpec, described: Description) -> "dict[str, Tensor]":
    """The state of a new network, without memory for its values."""
    import torch

    from nonesuch.classifiers.registry import build

    height, _, channels = described.image_shape
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        return build(spec, in_channels=channels, classes=len(described.class_names), image_size=height).state_dict()
