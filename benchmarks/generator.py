"""What an image of BigGAN-deep costs: upstream as its README uses it, and the minting form.

    python benchmarks/generator.py [--sides 128 256] [--batches 1 8 32] [--rounds 5] [--no-compiled]

    upstream            pytorch-pretrained-biggan as its README has it, in a process as the shell starts it
    upstream, settings  the same with the allocator settings of every process of the service
    eager               the minting form (`biggan:FOLDER`), float32
    compiled            the minting form through torch.compile (`biggan:FOLDER,compiled`)
    bfloat16            the minting form in half precision, where the processor or the GPU computes in it

Every one is a process of its own for each batch size, all with the same seeded random weights. They run in turns, a few
batches each, and beside them convolutions of the network's own shapes, whose fastest is the peak. Medians are compared.
Ours makes uint8 pixels, upstream floats. On a GPU the weights, the batch sizes and the peak are the GPU's.

Operations are those of the network as it has to be computed: spectral norm folded, three channels of colour, each
upsampled convolution as its four phases; 15.0 GFLOP an image at 128 px, where upstream computes 22.6. So GFLOP/s and
the fraction of the peak are the rate at which that work gets done. A product and a sum count as two.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nonesuch.host.process import CPU_SETTINGS

LAYERS = {  # (doubles, channels in, channels out), in units of the channel width
    128: [(0, 16, 16), (1, 16, 16), (0, 16, 16), (1, 16, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4), (1, 4, 2), (0, 2, 2),
          (1, 2, 1)],
    256: [(0, 16, 16), (1, 16, 16), (0, 16, 16), (1, 16, 8), (0, 8, 8), (1, 8, 8), (0, 8, 8), (1, 8, 4), (0, 4, 4),
          (1, 4, 2), (0, 2, 2), (1, 2, 1)],
}  # fmt: skip
ATTENTION_BEFORE = 8
WIDTH, Z = 128, 128
TRUNCATION = 0.4
"""As in upstream's README."""
HEADLINE = (128, 8)
"""The side and the batch of the last line."""
CONVOLUTIONS = ((512, 16), (256, 32), (128, 64), (64, 128))
"""(channels, side) of the 3×3 convolutions that the peak is measured with, in batches of 8 or more."""
KINDS = {
    "upstream": "upstream",
    "upstream, settings": "upstream",
    "eager": "",
    "compiled": ",compiled",
    "bfloat16": ",bfloat16",
    "peak": "peak",
}
TURN, TURN_S = 2, 2.0
"""Batches of a turn that count: so many at least, and more until so many seconds have passed. One goes before them."""
TOGETHER = 8 * 256**2
"""Up to so many pixels of a batch all processes live at once, with the memory they keep; beyond, each for a turn."""
OURS = ("eager", "compiled", "bfloat16")


def operations(side: int) -> float:
    """FLOP of one image."""
    total, pixels = 2.0 * 2 * Z * 16 * 16 * WIDTH, 16
    for i, (doubles, wide_in, wide_out) in enumerate(LAYERS[side]):
        channels, out = wide_in * WIDTH, wide_out * WIDTH
        middle = channels // 4
        if i == ATTENTION_BEFORE:
            projections = channels * (channels // 8 * 2 + channels // 2) + channels // 2 * channels
            total += 2.0 * pixels * (projections + pixels // 4 * (channels // 8 + channels // 2))
        total += 2.0 * pixels * channels * middle
        total += 2.0 * pixels * middle * middle * (16 if doubles else 9)
        pixels *= 4 if doubles else 1
        total += 2.0 * pixels * (9 * middle * middle + middle * out)
    return total + 2.0 * pixels * WIDTH * 3 * 9


# What runs in the processes that are measured.


def upstream_model(side: int) -> Any:
    """Upstream's network with seeded random weights."""
    from pytorch_pretrained_biggan import BigGANConfig

    from nonesuch_worker.generators.biggan.seeded import seeded_biggan

    layers = [(bool(doubles), *widths) for doubles, *widths in LAYERS[side]]
    return seeded_biggan(BigGANConfig(output_dim=side, layers=layers, attention_layer_position=ATTENTION_BEFORE), 0)


def as_the_readme(side: int) -> Callable[[int], Any]:
    """A batch made as upstream's README makes it."""
    import torch
    from pytorch_pretrained_biggan import one_hot_from_int, truncated_noise_sample

    model = upstream_model(side)
    if torch.cuda.is_available():
        model.to("cuda")

    def run(batch: int) -> Any:
        noise = torch.from_numpy(truncated_noise_sample(truncation=TRUNCATION, batch_size=batch, seed=0))
        labels = torch.from_numpy(one_hot_from_int([k % 1000 for k in range(batch)], batch_size=batch))
        if torch.cuda.is_available():
            noise, labels = noise.to("cuda"), labels.to("cuda")
        with torch.no_grad():
            output = model(noise, labels, TRUNCATION)
        return output.to("cpu")

    return run


def minting(side: int, options: str, folder: str) -> Callable[[int], Any]:
    """A batch made as a worker makes it."""
    import torch

    from nonesuch_worker.generators.base import to_uint8_NHWC
    from nonesuch_worker.generators.load import load_generator
    from nonesuch_worker.latents import latents

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = load_generator(f"biggan:{folder}/{side}{options}", device)

    def run(batch: int) -> Any:
        z = torch.from_numpy(latents(0, np.arange(batch), Z, truncation=TRUNCATION)).to(device)
        labels = torch.arange(batch, device=device) % 1000
        with torch.no_grad():
            return to_uint8_NHWC(generator(z, labels, TRUNCATION)).cpu()

    return run


def convolutions() -> Callable[[int], Any]:
    """The fastest of some 3×3 convolutions, each the median of a few, in FLOP/s."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    options = {"device": device, "dtype": dtype}

    def run(batch: int) -> float:
        rows, best = max(8, batch), 0.0
        for channels, side in CONVOLUTIONS:
            x = torch.randn(rows, channels, side, side, **options).contiguous(memory_format=torch.channels_last)
            w = torch.randn(channels, channels, 3, 3, **options).contiguous(memory_format=torch.channels_last)
            seconds = []
            for _ in range(4):
                start = time.perf_counter()
                with torch.no_grad():
                    torch.conv2d(x, w, padding=1)
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            best = max(best, 2.0 * rows * channels**2 * 9 * side**2 / statistics.median(seconds[1:]))
        return best

    return run


def serve(kind: str, side: int, folder: str) -> None:
    """Answer each batch size on standard input with a line of JSON: seconds, or FLOP/s for the peak, and memory."""
    import torch

    what = KINDS[kind]
    run = {"peak": convolutions, "upstream": lambda: as_the_readme(side)}.get(
        what, lambda: minting(side, what, folder)
    )()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    print(json.dumps({"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        made = run(int(line))
        taken = made if what == "peak" else time.perf_counter() - start
        memory = (
            torch.cuda.max_memory_allocated()
            if torch.cuda.is_available()
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        print(json.dumps({"taken": taken, "memory": memory}), flush=True)


# What measures them.


class Runner:
    """One of the processes."""

    def __init__(self, kind: str, side: int, folder: Path) -> None:
        env = {k: v for k, v in os.environ.items() if k not in CPU_SETTINGS}
        if kind != "upstream":
            env |= CPU_SETTINGS
        command = [sys.executable, "-W", "ignore", __file__, "--serve", kind, str(side), str(folder)]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.memory = 0
        self.device: str = self._read()["device"]
        self._ran = False

    def run(self, batch: int) -> float:
        assert self.process.stdin
        print(batch, file=self.process.stdin, flush=True)
        answer = self._read()
        self.memory = answer["memory"]
        return float(answer["taken"])

    def turn(self, batch: int) -> list[float]:
        """Seconds, or FLOP/s, of some batches."""
        if not self._ran:
            self.run(batch)  # takes memory, brings weights into order, compiles
            self._ran = True
        self.run(batch)  # it was idle: its threads sleep and its weights are in no cache
        end, taken = time.perf_counter() + TURN_S, []
        while len(taken) < TURN or time.perf_counter() < end:
            taken.append(self.run(batch))
        return taken

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process ended: exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def errors(side: int, folder: Path) -> float:
    """The largest difference of a pixel in [-1, 1] from upstream's, at truncations that upstream reads wrongly too."""
    import torch

    from nonesuch_worker.generators.load import load_generator
    from nonesuch_worker.latents import latents

    model, ours = upstream_model(side), load_generator(f"biggan:{folder}/{side},upstream_compatible")
    labels = torch.arange(2) * 500
    worst = 0.0
    for truncation in (0.02, 0.14, 0.5, 0.73, 1.0):
        z = torch.from_numpy(latents(1, np.arange(2), Z, truncation=truncation))
        with torch.no_grad():
            theirs = model(z, torch.nn.functional.one_hot(labels, 1000).float(), truncation)
            worst = max(worst, float((ours(z, labels, truncation) - theirs).abs().max()))
    return worst


def measured(side: int, kinds: list[str], batches: list[int], rounds: int, folder: Path) -> Iterator[dict[str, Any]]:
    """A row of figures for each batch size and kind."""
    for batch in batches:
        stays = batch * side**2 <= TOGETHER
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        runners: dict[str, Runner] = {}
        with ExitStack() as stack:
            for _ in range(rounds if batch <= HEADLINE[1] else max(3, rounds // 2)):
                for kind in kinds:
                    if not stays or kind not in runners:
                        runners[kind] = Runner(kind, side, folder)
                        stack.callback(runners[kind].close)
                    taken[kind] += runners[kind].turn(batch)
                    if not stays:
                        runners[kind].close()
        peak = statistics.median(taken.pop("peak"))
        for kind, seconds in taken.items():
            rate = batch / statistics.median(seconds)
            flops = rate * operations(side)
            yield {
                "side": side,
                "batch": batch,
                "kind": kind,
                "images_per_s": round(rate, 2),
                "gflops": round(flops / 1e9, 1),
                "peak_gflops": round(peak / 1e9, 1),
                "fraction_of_peak": round(flops / peak, 3),
                "memory_mb": round(runners[kind].memory / 1e6),
                "device": runners[kind].device,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256], choices=sorted(LAYERS))
    parser.add_argument("--batches", type=int, nargs="+", help="1 8 32 on a CPU, 1 ... 256 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compiled", action="store_true", help="torch.compile takes a minute for each batch size")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        kind, side, folder = options.serve
        serve(kind, int(side), folder)
        return
    import torch

    from nonesuch_worker.generators.biggan.loading import save_biggan

    gpu = torch.cuda.is_available()
    batches = options.batches or ([1, 8, 64, 256] if gpu else [1, 8, 32])
    kinds = [kind for kind in KINDS if not (kind == "compiled" and options.no_compiled)]
    table = Table("px", "batch", "what", "images/s", "GFLOP/s", "of the peak", "memory, MB")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for side in options.sides:
            save_biggan(upstream_model(side), folder / str(side))
            for row in measured(side, kinds, batches, options.rounds, folder):
                rows.append(row)
                figures = (f"{row['images_per_s']:.1f}", f"{row['gflops']:.0f}", f"{row['fraction_of_peak']:.2f}")
                table.add_row(str(side), str(row["batch"]), row["kind"], *figures, f"{row['memory_mb']:.0f}")
                print(f"{side} px, batch {row['batch']}, {row['kind']}: {figures[0]} images/s", file=sys.stderr)
        error = errors(HEADLINE[0], folder) if HEADLINE[0] in options.sides else None
    Console().print(table)
    print(json.dumps(summary(rows, error)))


def in_words(found: dict[tuple[int, int, str], dict[str, Any]], side: int, batch: int, kind: str) -> list[str]:
    """A row of the table in docs/performance.md."""
    ours, readme, settings = (found[side, batch, k] for k in (kind, "upstream", "upstream, settings"))
    return [
        f"biggan-deep-{side}, batches of {batch}, {kind}",
        f"upstream: {readme['images_per_s']:.1f} images/s; with our settings: {settings['images_per_s']:.1f}",
        f"{ours['images_per_s']:.1f} images/s, {ours['gflops']:.0f} GFLOP/s, {ours['memory_mb']} MB",
        f"{ours['images_per_s'] / readme['images_per_s']:.2f}; {ours['images_per_s'] / settings['images_per_s']:.2f}; "
        f"{ours['fraction_of_peak']:.2f} of the peak",
    ]


def summary(rows: list[dict[str, Any]], error: float | None) -> dict[str, Any]:
    """The last line."""
    found = {(row["side"], row["batch"], row["kind"]): row for row in rows}
    at = (*HEADLINE, "eager") if (*HEADLINE, "eager") in found else next(k for k in found if k[2] == "eager")
    ours = found[at]
    rate = {kind: found[(*at[:2], kind)]["images_per_s"] for kind in KINDS if (*at[:2], kind) in found}
    return {
        "name": "generator",
        "ratio_vs_upstream": round(rate["eager"] / rate["upstream"], 2),
        "ratio_same_allocator": round(rate["eager"] / rate["upstream, settings"], 2),
        "fraction_of_peak": ours["fraction_of_peak"],
        "max_abs_error": error,
        "peak_gflops": ours["peak_gflops"],
        "measurements": rows,
        "rows": [in_words(found, *at) for at in found if at[2] in OURS],
    }


if __name__ == "__main__":
    main()
