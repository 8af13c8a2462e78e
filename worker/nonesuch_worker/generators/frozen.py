"""A network with the weights of a safetensors file beside its card, read strictly and frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.weights.checkpoints import misfits
from nonesuch_worker.generators.card import check_sha256

Network = TypeVar("Network", bound=nn.Module)


def frozen(network: Network, path: Path, card: Mapping[str, Any]) -> Network:
    """Load a file into a network, which comes back in eval mode and without gradients.

    Raises:
        IntegrityError: the file has not the sha256 of the card, or is no safetensors file.
        InvalidValue: a tensor is missing, extra, misshapen, of another dtype or not finite; each is named.
    """
    data = path.read_bytes()
    check_sha256(path, data, card)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a safetensors file: {error}") from error
    if found := misfits(tensors, network.state_dict()):
        raise InvalidValue(f"{path} does not fit the architecture on its card: {'; '.join(found)}")
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval()
