"""What a mined image costs: hsm against random images of the same generator, and against the arithmetic.

    python benchmarks/mining.py [--generator fashion-mnist] [--steps 5] [--rounds 15]

Peer: strategy random in this process, on batches of the size of a ticket. Ours: strategy hsm with S steps, mining a
ResNet-18 of width 16. A backward pass to the input costs about what a forward pass does, so S steps and the final image
are 2S+1 passes of the generator and 2S of the classifier: at best 1 / ((2S+1) + 2S·C/G) of the speed of random images,
where C/G is one forward pass of the classifier over one of the generator, measured here at the same batch. All four are
measured in short turns, so that whatever else the machine does falls on each of them, and compared within a round; the
medians of the rounds are reported. The fraction says how much of that bound is reached. (The score of the final image,
which the bound leaves out, takes one more pass of the classifier.)
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from nonesuch.classifiers.narrow import to_channels_last
from nonesuch.classifiers.normalisation import OnGenerated
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.host.process import ensure_cpu_settings
from nonesuch.orders import default_ticket_size
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.strategies.base import MintContext, Strategy, StrategyParams
from nonesuch_worker.strategies.hsm import HardSampleMining, HsmParams
from nonesuch_worker.strategies.random import Random

RANDOM_BATCHES = 8
"""In a round. A batch of random images is so much cheaper than a mined one."""
PASSES = 8
"""Forward passes of generator and classifier alone, in a round."""


def classifier_of(generator: Generator) -> nn.Module:
    """A ResNet-18 of width 16 for the generator's images; what it costs does not depend on its weights."""
    height, _, channels = generator.info.image_shape
    spec = ClassifierSpec(architecture="resnet18", args={"width": 16})
    torch.manual_seed(0)
    network = build(spec, in_channels=channels, classes=len(generator.info.class_names), image_size=height)
    to_channels_last(network)  # as workers load a snapshot
    return OnGenerated(network, Normalisation()).eval().requires_grad_(False)


def minted_per_second(
    strategy: Strategy, params: StrategyParams, generator: Generator, classifier: nn.Module, images: int, batch: int
) -> float:
    """Images per second of a strategy, from seed and index to uint8."""
    start = time.perf_counter()
    for first in range(0, images, batch):
        indices = np.arange(first, min(first + batch, images))
        labels = (indices % len(generator.info.class_names)).astype(np.int32)
        with torch.no_grad():
            strategy.mint(
                MintContext(
                    seed=0,
                    indices=indices,
                    labels=labels,
                    generators=(generator,),
                    params=params,
                    classifier=classifier,
                    device=generator.device,
                )
            )
    return images / (time.perf_counter() - start)


def seconds(call: Callable[[], object]) -> float:
    """Of one call, without gradients."""
    start = time.perf_counter()
    with torch.no_grad():
        call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="fashion-mnist")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15, help="in each, every side has its turn")
    options = parser.parse_args()
    ensure_cpu_settings()
    generator = load_generator(options.generator)
    classifier = classifier_of(generator)
    batch = default_ticket_size(generator.info.image_shape)
    params = HsmParams(steps=options.steps)

    z = torch.randn(batch, generator.info.z_dim)
    labels = torch.arange(batch) % len(generator.info.class_names)
    with torch.no_grad():
        x = generator(z, labels)
    rounds = []
    minted_per_second(HardSampleMining(), params, generator, classifier, batch, batch)  # warm-up
    for _ in range(options.rounds):
        peer = minted_per_second(Random(), StrategyParams(), generator, classifier, RANDOM_BATCHES * batch, batch)
        ours = minted_per_second(HardSampleMining(), params, generator, classifier, batch, batch)
        g = statistics.median(seconds(lambda: generator(z, labels)) for _ in range(PASSES))
        c = statistics.median(seconds(lambda: classifier(x)) for _ in range(PASSES))
        bound = 1 / ((2 * params.steps + 1) + 2 * params.steps * c / g)
        rounds.append((peer, ours, c / g, ours / peer, bound, ours / peer / bound))
    peer, ours, c_over_g, ratio, bound, fraction = (statistics.median(column) for column in zip(*rounds, strict=True))
    table = Table("batch", "S", "C/G", "random img/s", "mined img/s", "ratio", "bound", "of it")
    cells = (f"{c_over_g:.2f}", f"{peer:.0f}", f"{ours:.1f}", f"{ratio:.4f}", f"{bound:.4f}", f"{fraction:.2f}")
    table.add_row(str(batch), str(params.steps), *cells)
    Console().print(table)
    result = {"name": "mining", "generator": generator.info.id, "steps": params.steps, "c_over_g": round(c_over_g, 3)}
    rates = {"mined_per_second": round(ours, 1), "random_per_second": round(peer, 1)}
    rows = [
        [
            f"hsm, S = {params.steps}, batches of {batch}, against ResNet-18 of width 16",
            f"random images in the same process: {peer:.0f}/s",
            f"{ours:.1f} mined images/s",
            f"{ratio:.3f}; the arithmetic allows {bound:.3f}, so {fraction:.2f} of the bound",
        ]
    ]
    print(json.dumps(result | {"fraction_of_bound": round(fraction, 3)} | rates | {"rows": rows}))


if __name__ == "__main__":
    main()
