"""How long OpenMP's threads should spin while they wait, where a trainer and a worker share the cores.

    python benchmarks/sharing.py [--steps 16]

Peer: OpenMP as it comes, whose threads spin for about a millisecond. Ours: the trainer as it comes, the worker with a
short spin, as the service starts them (services/nonesuch/host/process.py). Also measured: a short spin in both, and
either spin in a process that has the cores alone. The work is the trainer's step, in every process: ResNet-18 of
width 16, batch 128, 28 px. In turns; steps per second, of medians, from the time in which all processes work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import accumulate

from rich.console import Console
from rich.table import Table

from nonesuch.host.process import CPU_SETTINGS, RAY_SETTINGS

ROUNDS = 3
LONG, SHORT = CPU_SETTINGS, RAY_SETTINGS
CASES = {
    "alone, as it comes": (LONG,),
    "alone, short": (SHORT,),
    "both as they come": (LONG, LONG),
    "both short": (SHORT, SHORT),
    "the worker short": (LONG, SHORT),
}
"""The settings of each process."""


def work(steps: int) -> None:
    """Print the seconds of each step as JSON."""
    import torch

    from nonesuch.classifiers.registry import build
    from nonesuch.classifiers.spec import ClassifierSpec

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


def measure(settings: tuple[dict[str, str], ...], steps: int) -> list[list[float]]:
    """Seconds of the steps of processes that run at the same time, a list for each: those before the first ended."""
    inherited = {k: v for k, v in os.environ.items() if k not in RAY_SETTINGS}
    command = [sys.executable, __file__, "--work", str(steps)]
    running = [subprocess.Popen(command, env=inherited | own, stdout=subprocess.PIPE, text=True) for own in settings]
    seconds: list[list[float]] = [json.loads(process.communicate()[0]) for process in running]
    end = min(sum(own) for own in seconds)
    return [[s for s, passed in zip(own, accumulate(own), strict=True) if passed <= end + s] for own in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    found: dict[str, list[list[float]]] = {case: [[] for _ in settings] for case, settings in CASES.items()}
    for _ in range(ROUNDS):
        for case, settings in CASES.items():
            for known, new in zip(found[case], measure(settings, options.steps), strict=True):
                known += new
    rates = {case: [1 / statistics.median(own) for own in seconds] for case, seconds in found.items()}
    table = Table("case", "steps/s of the trainer", "of the worker", "of both")
    for case, own in rates.items():
        trainer, *worker = (f"{rate:.1f}" for rate in own)
        table.add_row(case, trainer, *(worker or [""]), f"{sum(own):.1f}")
    Console().print(table)
    total = {case: sum(own) for case, own in rates.items()}
    peer, ours = total["both as they come"], total["the worker short"]
    alone, short = total["alone, as it comes"], total["alone, short"]
    result = {
        "name": "sharing",
        "ratio": round(ours / peer, 3),
        "ratio_vs_both_short": round(ours / total["both short"], 3),
        "ratio_alone": round(alone / short, 3),
        "steps_per_s": {case: [round(rate, 2) for rate in own] for case, own in rates.items()},
        "rows": [
            [
                "a trainer and a worker on the same cores",
                f"OpenMP as it comes: {peer:.1f} steps/s; a short spin in both: {total['both short']:.1f}",
                f"a short spin in the worker: {ours:.1f} steps/s",
                f"{ours / peer:.2f}",
            ],
            ["a trainer alone", f"a short spin: {short:.1f} steps/s", f"{alone:.1f} steps/s", f"{alone / short:.2f}"],
        ],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
