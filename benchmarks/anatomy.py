"""Where the time of a batch goes: the parts of biggan-deep-128 in its minting form, with the rate of each.

    python benchmarks/anatomy.py [--batch 8] [--rounds 9]

No peer: it says what limits `generator.py`. The clock runs around each part of the network; what is left between them
are the multiply-adds of the norms with their relus, and the sums of the residual blocks. Operations are counted as in
`generator.py`, but for the nine products and the row pairs, which are counted as they are done. Medians over the
rounds.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from generator import convolutions
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from nonesuch.host.process import ensure_cpu_settings
from nonesuch_worker.engine.attention import Attention
from nonesuch_worker.engine.biggan import MintingBigGAN
from nonesuch_worker.engine.convolutions import Convolution, Linear, Pointwise, TransposedConvolution
from nonesuch_worker.engine.norms import Norms
from nonesuch_worker.engine.pixels import FourPixels
from nonesuch_worker.engine.upsampling import NineProducts
from nonesuch_worker.engine.winograd import RowPairs

BETWEEN = "multiply-adds, relus, sums"
PARTS: dict[type[nn.Module], str] = {
    Convolution: "3×3 convolutions",
    Pointwise: "1×1 convolutions",
    TransposedConvolution: "upsampling, four phases",
    RowPairs: "3×3 convolutions, row pairs",
    NineProducts: "upsampling, nine products",
    Attention: "attention",
    FourPixels: "to pixels",
    Norms: "gains and biases",
    Linear: "the first layer",
}


def flops(module: nn.Module, x: Any, y: Any) -> float:
    """Of one call."""
    if isinstance(module, FourPixels):  # as the 3×3 convolution that it stands for
        return 2.0 * y.numel() * 9 * x.shape[1]
    if isinstance(module, Convolution):
        return 2.0 * y.numel() * module.weight[0].numel()
    if isinstance(module, Pointwise | TransposedConvolution):
        per_pixel = module.weight.numel()
        return 2.0 * x.shape[0] * x.shape[2] * x.shape[3] * per_pixel
    if isinstance(module, RowPairs):
        return 2.0 * 6 * x.numel() * y.shape[1]
    if isinstance(module, NineProducts):
        return 2.0 * 9 * x.numel() * y.shape[1]
    if isinstance(module, Attention):
        weights = (module.query.weight, module.key.weight, module.value.weight, module.output.weight)
        positions = x.shape[2] * x.shape[3]
        inner = len(module.key.weight) + len(module.value.weight)
        return 2.0 * len(x) * positions * (sum(w.numel() for w in weights) + positions // 4 * inner)
    if isinstance(module, Norms):
        return 2.0 * len(x) * module.linear.weight.numel()
    if isinstance(module, Linear):
        return 2.0 * len(x) * module.weight.numel()
    raise AssertionError(type(module))


class Clock:
    """Seconds and operations of each part of a network, while it runs."""

    def __init__(self, network: nn.Module) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.flops: dict[str, float] = defaultdict(float)
        self._inside = 0
        self._start = 0.0
        for module in network.modules():
            if type(module) in PARTS:
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not self._inside:
            self._start = time.perf_counter()
        self._inside += 1

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._inside -= 1
        if not self._inside:  # parts of parts count as theirs
            self.seconds[PARTS[type(module)]] += time.perf_counter() - self._start
            self.flops[PARTS[type(module)]] += flops(module, inputs[0], output)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    from pytorch_pretrained_biggan import BigGANConfig

    from nonesuch_worker.generators.biggan.seeded import seeded_biggan

    network = MintingBigGAN(seeded_biggan(BigGANConfig(), 0), device=torch.device("cpu"))
    z, labels = torch.randn(options.batch, 128), torch.arange(options.batch) % 1000
    statistics_of_one: Tensor = network.norms.statistics(1.0)
    for _ in range(3):
        network(z, labels, statistics_of_one)
    clock = Clock(network)
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds):
        clock.seconds.clear()
        clock.flops.clear()
        start = time.perf_counter()
        network(z, labels, statistics_of_one)
        whole = time.perf_counter() - start
        rounds.append({**clock.seconds, BETWEEN: whole - sum(clock.seconds.values())})
    seconds = {part: statistics.median(r[part] for r in rounds) for part in rounds[0]}
    convolve = convolutions()
    top = statistics.median(convolve(options.batch) for _ in range(options.rounds))
    table = Table("part", "ms", "of the time", "GFLOP", "GFLOP/s", "of the peak")
    parts = {}
    for part, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        work = clock.flops[part]
        share = taken / sum(seconds.values())
        rate = work / taken
        rates = (f"{work / 1e9:.1f}", f"{rate / 1e9:.0f}", f"{rate / top:.2f}") if work else ("", "", "")
        table.add_row(part, f"{taken * 1e3:.1f}", f"{share:.0%}", *rates)
        parts[part] = {"ms": round(taken * 1e3, 2), "share": round(share, 3), "of_peak": round(rate / top, 2)}
    Console().print(table)
    total = sum(seconds.values())
    print(
        json.dumps(
            {
                "name": "anatomy",
                "batch": options.batch,
                "ms": round(total * 1e3, 1),
                "gflops": round(sum(clock.flops.values()) / total / 1e9, 1),
                "peak_gflops": round(top / 1e9, 1),
                "parts": parts,
                "rows": [
                    [
                        f"a batch of {options.batch} at 128 px: {part}",
                        "",
                        f"{known['ms']} ms, {known['share']:.0%} of the time",
                        f"{known['of_peak']} of the peak" if known["of_peak"] else "",
                    ]
                    for part, known in parts.items()
                ],
            }
        )
    )


if __name__ == "__main__":
    ensure_cpu_settings()
    main()
