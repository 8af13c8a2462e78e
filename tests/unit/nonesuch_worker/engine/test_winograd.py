"""3×3 convolutions that make two rows at once."""

import pytest
import torch
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Convolution
from nonesuch_worker.engine.winograd import CHANNELS, SIDES, RowPairs, conv3x3
from tests.helpers.seeded import images, some

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT = torch.float32


@pytest.mark.parametrize("side", [(2, 1), (2, 5), (4, 4), (16, 7)])
@pytest.mark.parametrize(("channels", "out"), [(3, 5), (6, 2)])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "biased"])
def test_it_is_the_convolution_and_has_its_gradient(side: tuple[int, int], channels: int, out: int, bias: bool) -> None:
    weight, offset = some(out, channels, 3, 3, seed=1), some(out, seed=2) if bias else None
    layer, x = RowPairs(weight, offset, dtype=FLOAT), images(2, channels, *side)
    wanted = F.conv2d(x, weight, offset, padding=1)
    with torch.no_grad():
        found = layer(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    x.requires_grad_()
    ours, theirs = (
        torch.autograd.grad((y * some(*wanted.shape, seed=3)).sum(), x)[0]
        for y in (layer(x), F.conv2d(x, weight, offset, padding=1))
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_it_takes_any_memory_format() -> None:
    layer, x = RowPairs(some(5, 3, 3, 3, seed=1), None, dtype=FLOAT), images(2, 3, 6, 6)
    torch.testing.assert_close(layer(x.contiguous()), layer(x), atol=1e-5, rtol=1e-5)


def test_many_channels_lose_no_more_than_rounding() -> None:
    """Measured against float64: what the sums before the products cost."""
    weight, x = some(CHANNELS, CHANNELS, 3, 3, seed=1) / (3 * CHANNELS**0.5), images(1, CHANNELS, 16, 16)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    ours, plain = (
        (y - exact).abs().max() for y in (RowPairs(weight, None, dtype=FLOAT)(x), F.conv2d(x, weight, padding=1))
    )
    assert ours < 4 * plain
    assert ours < 1e-5


def test_the_form_is_chosen_by_device_precision_channels_and_side() -> None:
    def form(device: torch.device, dtype: torch.dtype, channels: int, side: int) -> type[torch.nn.Module]:
        return type(conv3x3(some(2, channels, 3, 3), None, side=side, device=device, dtype=dtype))

    small, large = SIDES[0], SIDES[-1]
    assert form(CPU, FLOAT, CHANNELS, small) is form(CPU, FLOAT, 2 * CHANNELS, large) is RowPairs
    for other in (
        (GPU, FLOAT, CHANNELS, small),
        (CPU, torch.bfloat16, CHANNELS, small),
        (CPU, FLOAT, CHANNELS - 1, small),
        (CPU, FLOAT, CHANNELS, small - 2),
        (CPU, FLOAT, CHANNELS, large + 2),
        (CPU, FLOAT, CHANNELS, small + 1),
    ):
        assert form(*other) is Convolution
