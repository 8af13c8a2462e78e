"""What a short spin is worth when two processes share the cores, and what it costs one that has them alone.

    python benchmarks/sharing.py [--steps 10]

Peer: OpenMP as it comes, whose threads spin while they wait for each other. Ours: `GOMP_SPINCOUNT=1000`, as every
process of the service is started (services/nonesuch/process.py). The work is the trainer's step: ResNet-18 of width
16, batch 128, 28 px. Each side runs alone and beside a second process that does the same, in turns; the medians of the
steps are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from nonesuch.process import CPU_SETTINGS

ROUNDS = 2


def work(steps: int) -> None:
    """Print the seconds of each step as JSON."""
    import torch

    from nonesuch.classifiers import ClassifierSpec, build

    spec = ClassifierSpec(architecture="resnet18", args={"width": 16})
    model = build(spec, in_channels=1, classes=10, image_size=28).to(memory_format=torch.channels_last)
    x = torch.randn(128, 1, 28, 28).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (128,))
    seconds = []
    for _ in range(steps + 2):  # two to warm up
        start = time.perf_counter()
        model.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(x), y))
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[2:]))


def measure(processes: int, short: bool, steps: int) -> list[float]:
    """Seconds of every step of `processes` that run at the same time."""
    env = {k: v for k, v in os.environ.items() if k not in CPU_SETTINGS} | CPU_SETTINGS
    if not short:
        del env["GOMP_SPINCOUNT"]
    command = [sys.executable, __file__, "--work", str(steps)]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [second for process in running for second in json.loads(process.communicate()[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    medians = {}
    table = Table("processes", "default s/step", "short spin s/step", "default/short")
    for processes in (1, 2):
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for short in (False, True):
                seconds[short] += measure(processes, short, options.steps)
        medians[processes] = [statistics.median(seconds[short]) for short in (False, True)]
        default, waiting = medians[processes]
        table.add_row(str(processes), f"{default:.3f}", f"{waiting:.3f}", f"{default / waiting:.2f}")
    Console().print(table)
    ratios = {f"ratio_{n}_processes": round(default / short, 3) for n, (default, short) in medians.items()}
    rows = [
        [
            "a training step, alone" if n == 1 else f"{n} processes on the same cores",
            f"OpenMP as it comes: {default:.3f} s",
            f"a short spin: {short:.3f} s",
            f"{default / short:.2f}",
        ]
        for n, (default, short) in medians.items()
    ]
    print(json.dumps({"name": "sharing"} | ratios | {"rows": rows}))


if __name__ == "__main__":
    main()
