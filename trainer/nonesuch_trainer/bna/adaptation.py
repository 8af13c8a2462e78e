"""Batch norm adaptation (BNA): a classifier's batch norm statistics, computed anew on unlabelled real images.

Besnier et al. 2019, section 3.3: the parameters θ stay; only ω, the running mean and variance of every batch norm, is
replaced by what a forward pass over real images finds. In that pass batch norm normalises with the statistics of the
batch itself, so what it finds in batch t depends on no other batch. Both forms are therefore weighted sums over the
batches (t = 0 … T − 1, m its mean or unbiased variance, s the source: what the layer had before)

    cumulative   Σ m_t / T                                        what torch.optim.swa_utils.update_bn computes
    ema          Σ α(1 − α)^(T−1−t) · m_t  +  (1 − α)^T · s       Eq. 5, begun at the source

and sums can be made in parts, on several machines, and added up: `statistics` makes one, `merge` adds them, `apply`
puts the result into the model. `adapt` does all of it in one process, `spread` the first two on a Ray cluster.

At last the result is mixed with the source: λ·s + (1 − λ)·target, mean and variance alike. λ = 0 is the target alone.

Shapes: N images, H×W×C pixels, T batches, B inputs of one, F features of a layer.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.spec import Normalisation
from nonesuch.errors import InvalidValue
from nonesuch.seeds import numpy_rng
from nonesuch_trainer.settings.adapting import BNAConfig, Form


@dataclass(frozen=True, eq=False)
class LayerSums:
    """A weighted sum of the statistics that some batches have in one layer."""

    weight: float
    """The weights of the batches that are in the sum, added up."""
    moments: NDArray[np.float64]
    """The weighted sum (2, F) of mean and unbiased variance."""

    def __add__(self, other: "LayerSums") -> "LayerSums":
        return LayerSums(self.weight + other.weight, self.moments + other.moments)


@dataclass(frozen=True, eq=False)
class BatchStatistics:
    """The statistics that were found in the batches [start, stop) of a pass of `total`."""

    form: Form
    start: int
    stop: int
    total: int
    images: int
    """How many images the batches [start, stop) hold."""
    layers: Mapping[str, LayerSums]
    """The sums of each layer, by its name in the model; a layer that no batch ran is missing."""


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The layers that can be adapted, by name: batch norms, of 1 to 3 dimensions, that track running statistics.

    Raises `InvalidValue` when there are none, and for what cannot be measured here: layers that wait for other
    processes (`SyncBatchNorm`), and numbers narrower than float32, in which a variance overflows.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    }
    if not found:
        raise InvalidValue(
            f"{type(model).__name__} has no batch norm that tracks running statistics, and adaptation changes nothing "
            "else: choose a classifier with BatchNorm"
        )
    if synced := [name for name, layer in found.items() if isinstance(layer, nn.SyncBatchNorm)]:
        raise InvalidValue(
            f"{synced[0]} is a SyncBatchNorm, which measures across processes: adapt the same weights in a network "
            "with BatchNorm (the tensors have the same names)"
        )
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            raise InvalidValue(
                f"{name} is {str(tensor.dtype).removeprefix('torch.')}: adapt the model in float32 (`model.float()`), "
                "and convert it afterwards"
            )
    return found


def batch_rows(count: int, config: BNAConfig) -> list[NDArray[np.int64]]:
    """The rows of each batch: of `count` images, `config.images` at most in the seed's order, all of them used.

    There are as few batches as `batch_size` allows, and they are equal to within one image: a short last batch would
    count as much as a full one. No batch has a single image, which has no variance: an odd number of images in pairs
    has one batch of three.

    Raises `InvalidValue` for fewer than 2 images.
    """
    if count < 2:
        raise InvalidValue(f"{count} images have no variance: give at least 2, and better thousands")
    rows = numpy_rng(config.seed, "shuffle").permutation(count)[: config.images]
    return np.array_split(rows, min(math.ceil(len(rows) / config.batch_size), len(rows) // 2))


def statistics(
    model: nn.Module,
    batches: Iterable[Tensor],
    config: BNAConfig,
    *,
    total: int,
    first: int = 0,
    between: Callable[[], None] = lambda: None,
) -> BatchStatistics:
    """Run batches through a model and sum up what its batch norms find, in float64.

    Everything but these layers is in eval mode meanwhile, dropout too. Afterwards, and after any error or Ctrl-C, the
    model is as it was: modes, momenta, statistics. A layer that one forward pass runs several times counts with the
    mean over its runs.

    Args:
        batches: inputs of the model, (B, …) on its device, B at least 2: the batches `first`, `first` + 1, … of
            `total`.
        between: called after every batch; what it raises ends the pass.

    Raises:
        InvalidValue: there is nothing to adapt (see `batch_norms`), a batch has a single input, or there are more
            batches than `total`.
    """
    layers = batch_norms(model)
    weights = config.weights(total)
    sums: dict[str, Tensor] = {}  # (2, F) float64, on the device
    shares = dict.fromkeys(layers, 0.0)
    stop, images = first, 0
    with _measuring(model, layers) as runs, torch.no_grad():
        for x in batches:
            if len(x) < 2 or stop >= total:
                raise InvalidValue(
                    f"batch {stop} of {total} has {len(x)} inputs: there are {total} batches, each of at least 2 inputs"
                )
            runs.clear()
            model(x)
            for name, measured in runs.items():
                sums[name] = weights[stop] * torch.stack(measured).mean(dim=0) + sums.get(name, 0.0)
                shares[name] += float(weights[stop])
            stop, images = stop + 1, images + len(x)
            between()
    found = {name: LayerSums(shares[name], moments.cpu().numpy()) for name, moments in sums.items()}
    return BatchStatistics(config.form, first, stop, total, images, found)


def merge(parts: Iterable[BatchStatistics]) -> BatchStatistics:
    """The statistics of all parts together, whatever their order. Raises `InvalidValue` when they do not join up."""
    ordered = sorted(parts, key=lambda part: part.start)
    if not ordered or any((a.form, a.total, a.stop) != (b.form, b.total, b.start) for a, b in pairwise(ordered)):
        spans = ", ".join(f"{p.form} [{p.start}, {p.stop}) of {p.total}" for p in ordered)
        raise InvalidValue(f"batches {spans or 'of no part'} are not one pass: give each batch once")
    layers: dict[str, LayerSums] = {}
    for part in ordered:
        for name, sums in part.layers.items():
            layers[name] = layers[name] + sums if name in layers else sums
    first, last = ordered[0], ordered[-1]
    images = sum(part.images for part in ordered)
    return BatchStatistics(first.form, first.start, last.stop, first.total, images, layers)


def apply(model: nn.Module, found: BatchStatistics, source_weight: float = 0.0) -> None:
    """Put the statistics of a whole pass into a model; λ = `source_weight` of its own remain.

    Parameters are not touched. A layer that no batch ran keeps its statistics. `num_batches_tracked` becomes the number
    of batches (cumulative) or goes up by it (ema), as if torch had counted.

    Raises:
        InvalidValue: λ is not in [0, 1], or the statistics are of part of the batches, of another model, or not finite;
            nothing was changed.
    """
    if not 0 <= source_weight <= 1:
        raise InvalidValue(f"source_weight {source_weight} is no share: give a number in [0, 1]", field="source_weight")
    layers = batch_norms(model)
    if (found.start, found.stop) != (0, found.total):
        raise InvalidValue(f"batches [{found.start}, {found.stop}) are not all {found.total}: merge every part first")
    if not found.layers or not found.layers.keys() <= layers.keys():
        unknown = ", ".join(sorted(found.layers.keys() - layers.keys())[:3])
        raise InvalidValue(
            f"the statistics are of another model, with {unknown}"
            if unknown
            else f"no forward pass ran any of the {len(layers)} batch norm layers: there is nothing to apply"
        )
    adapted = [
        pair for name, sums in found.layers.items() for pair in _adapted(name, layers[name], sums, found, source_weight)
    ]
    originals = [(buffer, buffer.clone()) for buffer, _ in adapted]
    try:
        _assign(adapted)
    except BaseException:
        _assign(originals)
        raise


def adapt(
    model: nn.Module,
    images: NDArray[np.uint8],
    normalisation: Normalisation,
    config: BNAConfig,
    *,
    between: Callable[[], None] = lambda: None,
) -> BatchStatistics:
    """Adapt a classifier in place, on its own device, to images (N, H, W, C); returns what was found in them.

    `between` is called after every batch. After an error, or when it raises, the classifier is as it was.

    Raises what `batch_rows`, `statistics` and `apply` raise.
    """
    layers = batch_norms(model)
    rows = batch_rows(len(images), config)
    device = _moments(next(iter(layers.values())))[0].device
    inputs = (input_tensor(torch.from_numpy(images[batch]).to(device), normalisation) for batch in rows)
    found = statistics(model, inputs, config, total=len(rows), between=between)
    apply(model, found, config.source_weight)
    return found


@contextmanager
def _measuring(model: nn.Module, layers: Mapping[str, _BatchNorm]) -> Iterator[dict[str, list[Tensor]]]:
    """Yields where each run of a layer leaves its batch's mean and variance, (2, F) float64; the model is lent.

    With a momentum of 1 the running statistics are the last batch's. They go into buffers of their own, so that the
    model's cannot be lost, and so that a source that is not finite has no say.
    """
    modes = {module: module.training for module in model.modules()}
    kept = {layer: (layer.momentum, *_moments(layer), layer.num_batches_tracked) for layer in layers.values()}
    runs: dict[str, list[Tensor]] = {}
    handles = []

    def measure(name: str, layer: _BatchNorm) -> None:
        runs.setdefault(name, []).append(torch.stack(_moments(layer)).double())

    try:
        for module in modes:
            module.training = module in kept
        for name, layer in layers.items():
            layer.momentum = 1.0
            mean, var = _moments(layer)
            layer.running_mean, layer.running_var = torch.zeros_like(mean), torch.zeros_like(var)
            layer.num_batches_tracked = None
            handles.append(layer.register_forward_hook(lambda layer, args, out, name=name: measure(name, layer)))
        yield runs
    finally:
        for handle in handles:
            handle.remove()
        for layer, state in kept.items():
            layer.momentum, layer.running_mean, layer.running_var, layer.num_batches_tracked = state
        for module, training in modes.items():
            module.training = training


def _moments(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The layer's own running mean and variance."""
    mean, var = layer.running_mean, layer.running_var
    assert mean is not None and var is not None, "batch_norms has looked"
    return mean, var


def _adapted(
    name: str, layer: _BatchNorm, sums: LayerSums, found: BatchStatistics, source_weight: float
) -> list[tuple[Tensor, Tensor]]:
    """Each buffer of the layer, and what it is to hold."""
    mean, var = _moments(layer)
    if sums.moments.shape != (2, len(mean)):
        raise InvalidValue(f"{name} has {len(mean)} features, and the statistics are of {sums.moments.shape[1]}")
    target, rest = sums.moments, 1 - sums.weight
    if found.form == "cumulative":
        target, rest = target / sums.weight, 0.0
    mixed = torch.from_numpy((1 - source_weight) * target).to(mean.device)  # (2, F)
    if source := source_weight + (1 - source_weight) * rest:
        mixed = mixed + source * torch.stack([mean, var]).double()
    new = mixed.to(mean.dtype)
    if not bool(torch.isfinite(new).all()):
        raise InvalidValue(
            f"the statistics of {name} are not finite ({mean.dtype}): look for broken images or a diverged classifier"
        )
    adapted = [(mean, new[0]), (var, new[1])]
    if (count := layer.num_batches_tracked) is not None:
        adapted.append((count, torch.full_like(count, found.total) + (count if found.form == "ema" else 0)))
    return adapted


def _assign(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, value in pairs:
            buffer.copy_(value)
