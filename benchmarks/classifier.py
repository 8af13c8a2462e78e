"""What a step of training costs: a run's own loop on its resident dataset, and a plain loop over image files.

    python benchmarks/classifier.py [--widths 16 64] [--rounds 5]

Peer: what most people write. A `Dataset` opens a PNG of a folder of class folders with Pillow and changes it with the
steps of torchvision's RandomCrop(padding), RandomHorizontalFlip, ToTensor and Normalize, one image at a time; a
`DataLoader` makes batches of them, once in the same process and once in a process for each core, of which the faster
one counts; the process is as the shell starts it.
Ours: `nonesuch_trainer.learning.epoch.learn`, as a run calls it, in a process with the settings of
`nonesuch.host.process`. The images stay on the device, a batch is changed there as a whole, and the network is in
channels-last memory.

Both learn from the same minted images with the same ResNet-18, SGD with momentum, batches of 128 and float32. Each is
a process that lives as long as the benchmark. They run in turns, an epoch each, and are compared within a round; the
medians of the rounds are reported. A run can ask for bfloat16 convolutions instead: what this gives, where the
processor or the GPU computes in it, is a row of its own and no part of the ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nonesuch.host.cores import available_cores
from nonesuch.host.process import CPU_SETTINGS, tensor_environment

GENERATOR = "fashion-mnist"
BATCH, SHIFT, RATE, MOMENTUM, DECAY = 128, 2, 0.01, 0.9, 1e-4
STEPS = {16: 40, 64: 4}
"""Of an epoch on a CPU, by the width of the network: a second or a few."""
GPU_STEPS = 100
MAX_WORKERS = 8
"""Of a DataLoader, however many cores there are."""


# What runs in the processes that are measured. Each makes a function that trains for an epoch.


def plain_loop(folder: Path, width: int, images: int, workers: int) -> Callable[[], None]:
    """The peer's epochs."""
    import torch
    from PIL import Image, ImageOps
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from nonesuch.classifiers.registry import build
    from nonesuch.classifiers.spec import ClassifierSpec

    class ImageFolder(Dataset[tuple[Tensor, int]]):
        def __init__(self) -> None:
            self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
            self.files = sorted(folder.glob("*/*.png"), key=lambda path: path.name)[:images]

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            path = self.files[index]
            with open(path, "rb") as file:
                image = Image.open(file).convert("L")
            width, height = image.size
            image = ImageOps.expand(image, border=SHIFT, fill=0)
            top, left = (int(torch.randint(2 * SHIFT + 1, (1,)).item()) for _ in range(2))
            image = image.crop((left, top, left + width, top + height))
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = torch.from_numpy(np.array(image, np.uint8)).view(height, width, 1)
            x = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)  # (1, H, W)
            mean, std = torch.as_tensor([0.5]).view(-1, 1, 1), torch.as_tensor([0.5]).view(-1, 1, 1)
            return x.sub_(mean).div_(std), self.classes.index(path.parent.name)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = ImageFolder()
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    spec = ClassifierSpec(architecture="resnet18", args={"width": width})
    side = Image.open(dataset.files[0]).width
    model = build(spec, in_channels=1, classes=len(dataset.classes), image_size=side).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = nn.CrossEntropyLoss()

    def epoch() -> None:
        running = 0.0
        model.train()
        for inputs, labels in loader:
            x, y = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            optimiser.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimiser.step()
            running += loss.item()

    return epoch


def our_loop(folder: Path, width: int, images: int, precision: str) -> Callable[[], None]:
    """A run's epochs."""
    from nonesuch.seeds import reproducible
    from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
    from nonesuch_trainer.learning.epoch import choose_device, learn, make_classifier
    from nonesuch_trainer.learning.optim import make_optimiser
    from nonesuch_trainer.settings.learning import Learning

    how = Learning.model_validate(
        {
            "epochs": 1_000_000,
            "batch_size": BATCH,
            "classifier": {"architecture": "resnet18", "args": {"width": width}},
            "optimiser": {"lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY},
            "augment": {"shift": SHIFT, "hflip": True},
            "precision": precision,
        }
    )
    device = choose_device()
    pixels, labels = (np.load(folder / name)[:images] for name in ("images.npy", "labels.npy"))
    none = np.zeros(images, np.int64)
    resident = ResidentDataset.of(LabelledImages(pixels, labels, seeds=none, indices=none, snapshots=none), device)
    model = make_classifier(how, pixels.shape[1:], int(labels.max()) + 1, device)
    optimiser = make_optimiser(model, how.optimiser)
    number = count()

    def epoch() -> None:
        with reproducible():
            learn(model, optimiser, resident, how, next(number), lambda done, steps: None)

    return epoch


def serve(folder: Path) -> None:
    """Answer each loop asked for on standard input, a line of JSON, with the seconds of an epoch of it."""
    import torch

    loops: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        if line not in loops:
            asked = json.loads(line)
            loops[line] = (our_loop if "precision" in asked else plain_loop)(folder, **asked)
            loops[line]()
        start = time.perf_counter()
        loops[line]()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        print(time.perf_counter() - start, flush=True)


# What measures them.


class Side:
    """One of the two processes."""

    def __init__(self, folder: Path, *, ours: bool) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in CPU_SETTINGS}
        if ours:
            environment |= tensor_environment()
        command = [sys.executable, __file__, "--serve", str(folder)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def rate(self, **loop: int | str) -> float:
        """Images per second of one epoch of a loop. Blocks until it has run."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(loop), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the process of {loop} ended: exit code {self.process.wait()}")
        return int(loop["images"]) / float(answer)

    def close(self) -> None:
        self.process.communicate()  # the end of its input ends it, and a loader's processes with it


def mint(folder: Path, images: int) -> None:
    """Images of every class in equal numbers: as arrays, and as PNG files in class folders."""
    import torch
    from PIL import Image

    from nonesuch_worker.generators.base import to_uint8_NHWC
    from nonesuch_worker.generators.load import load_generator

    generator = load_generator(GENERATOR)
    labels = torch.arange(images) % len(generator.info.class_names)
    z = torch.randn(images, generator.info.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parts = [
            to_uint8_NHWC(generator(*part))
            for part in zip(torch.split(z, BATCH), torch.split(labels, BATCH), strict=True)
        ]
    pixels = torch.cat(parts).numpy()  # (N, 28, 28, 1)
    np.save(folder / "images.npy", pixels)
    np.save(folder / "labels.npy", labels.numpy().astype(np.int32))
    for label in range(len(generator.info.class_names)):
        (folder / str(label)).mkdir()
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        Image.fromarray(image[:, :, 0]).save(folder / str(label) / f"{number:06}.png")


def measure(peer: Side, ours: Side, width: int, images: int, rounds: int, halves: bool) -> dict[str, Any]:
    """The figures of one width: images/s of each loop, and ours over the faster one of the peer's."""
    loops: dict[str, tuple[Side, dict[str, int | str]]] = {
        f"{workers} workers": (peer, {"workers": workers}) for workers in (0, min(MAX_WORKERS, available_cores()))
    }
    precisions = ("float32", "bfloat16")[: 1 + halves]
    loops |= {precision: (ours, {"precision": precision}) for precision in precisions}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (side, loop) in loops.items():
            rates[name].append(side.rate(width=width, images=images, **loop))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    best = max((name for name, (side, _) in loops.items() if side is peer), key=lambda name: medians[name])
    figures: dict[str, Any] = {"images_per_s": {name: round(rate, 1) for name, rate in medians.items()}, "peer": best}
    for precision in precisions:
        within = [a / b for a, b in zip(rates[precision], rates[best], strict=True)]
        figures[precision] = round(statistics.median(within), 3)
    return figures


def has_bfloat16() -> bool:
    """Whether the device that is measured computes in it, and does not just pretend to."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or capabilities["avx512_bf16"] or capabilities["amx_bf16"]


def row(width: int, figures: dict[str, Any], precision: str) -> list[str]:
    """For the table of docs/performance.md."""
    rates, peer = figures["images_per_s"], figures["peer"]
    alone = precision == "float32"
    return [
        f"ResNet-18 of width {width}, batches of {BATCH}" + ("" if alone else ", ours in bfloat16"),
        f"a `DataLoader` of PNG files with {peer}: {rates[peer]:,.0f} images/s",
        f"`learn` on the resident dataset{'' if alone else ' in bfloat16'}: {rates[precision]:,.0f} images/s",
        f"{figures[precision]:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=sorted(STEPS), choices=sorted(STEPS))
    parser.add_argument("--rounds", type=int, default=5, help="in each, every loop has an epoch")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    import torch

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else torch.cpu.get_capabilities()["cpu_name"]
    print(f"{device}, {available_cores()} cores, torch {torch.__version__}")
    images = {width: BATCH * (GPU_STEPS if gpu else STEPS[width]) for width in options.widths}
    halves = has_bfloat16()
    result: dict[str, Any] = {"name": "classifier"}
    rows = []
    table = Table("width", "loop", "images/s", "ratio")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        mint(folder, max(images.values()))
        peer, ours = Side(folder, ours=False), Side(folder, ours=True)
        stack.callback(peer.close)
        stack.callback(ours.close)
        for width in options.widths:
            figures = measure(peer, ours, width, images[width], options.rounds, halves)
            for name, rate in figures["images_per_s"].items():
                table.add_row(str(width), name, f"{rate:.0f}", f"{figures[name]:.2f}" if name in figures else "")
            rows += [row(width, figures, precision) for precision in ("float32", "bfloat16")[: 1 + halves]]
            result |= {f"ratio_width_{width}": figures["float32"], f"width_{width}": figures}
    Console().print(table)
    print(json.dumps(result | {"rows": rows}))


if __name__ == "__main__":
    main()
