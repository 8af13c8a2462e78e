"""Gradients of narrow networks, on processors of every kind: the convolution library has got them wrong, or hung.

Without the norms' batch statistics, in whose gradients float32 cancels for honest reasons. A unit at the kink of its
ReLU moves a gradient by two hundredths of its largest entry; the fault moved it by more than half of that entry.
"""

import os
import subprocess
import sys

import pytest

WIDTHS = range(1, 17)

COMPARE = """
import sys
import torch
from torch import nn
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec

torch.set_num_threads(1)
for width in map(int, sys.argv[2:]):
    torch.manual_seed(width)
    spec = ClassifierSpec(architecture=sys.argv[1], args={"width": width})
    exact = build(spec, in_channels=3, classes=4, image_size=12).double().eval()
    network = build(spec, in_channels=3, classes=4, image_size=12).to(memory_format=torch.channels_last).eval()
    network.load_state_dict(exact.state_dict())
    x, labels = torch.randn(16, 3, 12, 12), torch.arange(16) % 4
    nn.functional.cross_entropy(network(x.to(memory_format=torch.channels_last)), labels).backward()
    nn.functional.cross_entropy(exact(x.double()), labels).backward()
    for (name, found), wanted in zip(network.named_parameters(), exact.parameters(), strict=True):
        error, largest = (found.grad - wanted.grad).abs().max(), wanted.grad.abs().max()
        assert error <= 0.05 * largest, f"width {width}: the gradient of {name} is off by {error:.1e} of {largest:.1e}"
print("compared")
"""


@pytest.mark.parametrize("instructions", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_gradients_of_every_width_are_those_of_float64(architecture: str, instructions: str) -> None:
    """In a process of its own: where it is wrong it may hang, or take the process with it."""
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, architecture, *map(str, WIDTHS)],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "compared"), done.stderr
