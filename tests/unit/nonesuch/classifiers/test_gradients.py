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
from nonesuch.classifiers.narrow import to_channels_last
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec

torch.set_num_threads(1)
for width in map(int, sys.argv[2:]):
    torch.manual_seed(width)
    spec = ClassifierSpec(architecture=sys.argv[1], args={"width": width})
    exact = build(spec, in_channels=3, classes=4, image_size=12).double().eval()
    network = build(spec, in_channels=3, classes=4, image_size=12).eval()
    to_channels_last(network)
    network.load_state_dict(exact.state_dict())
    x, labels = torch.randn(16, 3, 12, 12), torch.arange(16) % 4
    nn.functional.cross_entropy(network(x.to(memory_format=torch.channels_last)), labels).backward()
    nn.functional.cross_entropy(exact(x.double()), labels).backward()
    for (name, found), wanted in zip(network.named_parameters(), exact.parameters(), strict=True):
        error, largest = (found.grad - wanted.grad).abs().max(), wanted.grad.abs().max()
        assert error <= 0.05 * largest, f"width {width}: the gradient of {name} is off by {error:.1e} of {largest:.1e}"
print("compared")
"""

ANYBODYS = """
import sys
from copy import deepcopy
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from nonesuch.classifiers import registry
from nonesuch.classifiers.narrow import to_channels_last
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.model import Frozen

torch.set_num_threads(1)

class Subclassed(nn.Conv2d):
    pass

class Plugin:
    Args = Frozen
    def __call__(self, args, *, in_channels, classes, image_size):
        conv = layer(width, 8, 1, stride=stride, padding=padding)
        return nn.Sequential(nn.Conv2d(in_channels, width, 1), spectral_norm(conv) if spectral else conv)

registry.plugin = lambda group, name: Plugin()
for width in range(1, 10):
    for stride, padding, layer, spectral in (
        (2, 0, nn.Conv2d, False), ((2, 1), 0, nn.Conv2d, False), ((1, 2), 0, Subclassed, False),
        (3, 1, nn.Conv2d, False), (2, 0, nn.Conv2d, True),
    ):
        torch.manual_seed(width)
        built = registry.build(ClassifierSpec(architecture="anybodys"), in_channels=3, classes=4, image_size=28)
        exact = deepcopy(built).double().eval()
        network = deepcopy(built).eval()
        if sys.argv[1] == "channels-last":
            to_channels_last(network)
        assert built.state_dict().keys() == network.state_dict().keys()
        x = torch.randn(16, 28, 28, 3).permute(0, 3, 1, 2)  # in channels-last, as `input_tensor` gives it
        found, wanted = network(x), exact(x.double())
        slope = torch.randn(wanted.shape).to(memory_format=torch.channels_last)
        found.backward(slope)
        wanted.backward(slope.double())
        for (name, a), b in zip(network.named_parameters(), exact.parameters(), strict=True):
            error, largest = (a.grad - b.grad).abs().max(), b.grad.abs().max()
            assert error <= 1e-4 * largest + 1e-4, f"{width} {stride} {layer} {spectral}: {name} off by {error:.1e}"
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


@pytest.mark.parametrize("instructions", ["DEFAULT", "AVX2"])
@pytest.mark.parametrize("layout", ["as built", "channels-last"])
def test_gradients_of_a_plug_in_s_narrow_layers_are_those_of_float64(layout: str, instructions: str) -> None:
    """In a process of its own, too. Images are in channels-last whatever the network is."""
    done = subprocess.run(
        [sys.executable, "-c", ANYBODYS, layout],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "compared"), done.stderr
