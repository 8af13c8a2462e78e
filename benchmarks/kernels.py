"""The parts of the minting form against what they replace, at the shapes of biggan-deep-128 in batches of 8.

    python benchmarks/kernels.py [--rounds 15]

    upsampling      peer: nearest-upsample and a 3×3 convolution; ours: four phases, or nine products
    3×3             peer: a 3×3 convolution with packed weights; ours: two rows at once
    packed weights  peer: a convolution as PyTorch runs it, or a linear layer; ours: with weights in oneDNN's order
    pixels          peer: a 3×3 convolution to three channels; ours: four pixels at once
    attention       peer: scaled-dot-product attention; ours: the same products as convolutions
    1×1, one thread peer: a 1×1 convolution; ours: with the rows of the images for a batch

All in one process, in turns; medians. Outputs are compared as well: the last line has the largest difference.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from nonesuch.host.process import ensure_cpu_settings
from nonesuch_worker.engine.attention import attend_by_convolutions, attend_by_sdpa
from nonesuch_worker.engine.convolutions import Convolution, Linear, pointwise
from nonesuch_worker.engine.pixels import FourPixels
from nonesuch_worker.engine.upsampling import NineProducts, phases, upsampled_conv
from nonesuch_worker.engine.winograd import RowPairs, conv3x3

BATCH = 8
UPSAMPLED = ((512, 4), (512, 8), (256, 16), (128, 32), (64, 64))
"""(channels, side of the small image)"""
ROW_PAIRS = ((512, 8), (512, 16), (256, 16), (256, 32), (128, 64))
PACKED = ((512, 4), (512, 8), (512, 16), (256, 32))
"""(channels, side) of 3×3 convolutions"""
FLOAT = torch.float32

Kernel = Callable[[], Tensor]


def noise(*shape: int) -> Tensor:
    """Images in channels_last, or weights, of unit variance."""
    x = torch.randn(*shape)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def upsampling(channels: int, side: int) -> dict[str, Kernel]:
    x, weight, bias = noise(BATCH, channels, side, side), noise(channels, channels, 3, 3) / channels, noise(channels)
    plain = Convolution(weight, bias, dtype=FLOAT, padding=1)
    forms = {"phases": phases(weight, bias, dtype=FLOAT), "nine products": NineProducts(weight, bias, dtype=FLOAT)}
    taken = type(upsampled_conv(weight, bias, side=side, device=x.device, dtype=FLOAT))
    return {"upsample, 3×3": lambda: plain(F.interpolate(x, scale_factor=2.0))} | {
        name + (" (taken)" if type(form) is taken else ""): lambda form=form: form(x) for name, form in forms.items()
    }


def row_pairs(channels: int, side: int) -> dict[str, Kernel]:
    x, weight, bias = noise(BATCH, channels, side, side), noise(channels, channels, 3, 3) / channels, noise(channels)
    plain, pairs = Convolution(weight, bias, dtype=FLOAT, padding=1), RowPairs(weight, bias, dtype=FLOAT)
    taken = isinstance(conv3x3(weight, bias, side=side, device=x.device, dtype=FLOAT), RowPairs)
    return {
        "3×3" + ("" if taken else " (taken)"): lambda: plain(x),
        "row pairs" + (" (taken)" if taken else ""): lambda: pairs(x),
    }


def packed(channels: int, side: int) -> dict[str, Kernel]:
    x, weight, bias = noise(BATCH, channels, side, side), noise(channels, channels, 3, 3) / channels, noise(channels)
    layer = Convolution(weight, bias, dtype=FLOAT, padding=1)
    return {"plain": lambda: F.conv2d(x, layer.weight, layer.bias, 1, 1), "packed (taken)": lambda: layer(x)}


def linear() -> dict[str, Kernel]:
    """As many outputs as biggan-deep-128 has gains and biases, nearly."""
    x, weight, bias = noise(BATCH, 256), noise(2**17, 256) / 16, noise(2**17)
    layer = Linear(weight, bias, dtype=FLOAT)
    return {"linear": lambda: F.linear(x, weight, bias), "a row of pixels (taken)": lambda: layer(x)}


def pixels() -> dict[str, Kernel]:
    x, weight, bias = noise(BATCH, 128, 128, 128), noise(3, 128, 3, 3) / 30, noise(3)
    plain, four = Convolution(weight, bias, dtype=FLOAT, padding=1), FourPixels(weight, bias, dtype=FLOAT)
    return {"3×3": lambda: plain(x), "four pixels (taken)": lambda: four(x)}


def attention() -> dict[str, Kernel]:
    query, key, value = noise(BATCH, 32, 64, 64), noise(BATCH, 32, 32, 32), noise(BATCH, 128, 32, 32)
    return {
        "sdpa": lambda: attend_by_sdpa(query, key, value),
        "convolutions (taken)": lambda: attend_by_convolutions(query, key, value),
    }


def one_by_one() -> dict[str, Kernel]:
    x, weight = noise(BATCH, 256, 64, 64), noise(64, 256, 1, 1) / 16
    return {"1×1": lambda: F.conv2d(x, weight), "rows for a batch (taken)": lambda: pointwise(x, weight)}


def measure(kernels: dict[str, Kernel], rounds: int, threads: int) -> tuple[dict[str, float], float]:
    """Seconds of each, and the largest difference from the first one's output."""
    torch.set_num_threads(threads)
    taken: dict[str, list[float]] = {name: [] for name in kernels}
    first, *others = (kernel() for kernel in kernels.values())
    error = max(float((other - first).abs().max()) for other in others)
    for _ in range(rounds + 2):  # two to warm up
        for name, kernel in kernels.items():
            start = time.perf_counter()
            kernel()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[2:]) for name, seconds in taken.items()}, error


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    parts: dict[str, tuple[Callable[[], dict[str, Kernel]], int]] = {
        f"upsampling {channels} channels, {side} px": (lambda c=channels, s=side: upsampling(c, s), threads)
        for channels, side in UPSAMPLED
    }
    parts |= {
        f"3×3, {channels} channels, {side} px": (lambda c=channels, s=side: row_pairs(c, s), threads)
        for channels, side in ROW_PAIRS
    }
    parts |= {
        f"packed weights, {channels} channels, {side} px": (lambda c=channels, s=side: packed(c, s), threads)
        for channels, side in PACKED
    }
    parts |= {"packed weights, linear": (linear, threads)}
    parts |= {"pixels": (pixels, threads), "attention": (attention, threads), "1×1, one thread": (one_by_one, 1)}
    table = Table("part", "form", "ms", "peer/form")
    ratios, rows, worst = {}, [], 0.0
    for part, (kernels, with_threads) in parts.items():
        medians, error = measure(kernels(), rounds, with_threads)
        worst = max(worst, error)
        first, peer = next(iter(medians.items()))
        for name, seconds in medians.items():
            table.add_row(part, name, f"{seconds * 1e3:.2f}", f"{peer / seconds:.2f}")
            if name.endswith("(taken)"):
                ratios[part] = round(peer / seconds, 2)
                rows.append([part, f"{first}: {peer * 1e3:.1f} ms", f"{name}: {seconds * 1e3:.1f} ms", ratios[part]])
    Console().print(table)
    print(json.dumps({"name": "kernels", "ratios": ratios, "max_abs_error": worst, "threads": threads, "rows": rows}))


if __name__ == "__main__":
    ensure_cpu_settings()
    main()
