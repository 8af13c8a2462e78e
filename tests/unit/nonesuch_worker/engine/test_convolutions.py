"""Convolutions of a minting form: those of PyTorch, in another order of sums."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Convolution, Pointwise, TransposedConvolution, pointwise
from nonesuch_worker.engine.pixels import FourPixels, to_pixels
from tests.helpers.seeded import images, some

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT = torch.float32


LAID_OUT = {
    "channels_last": images(20, 8, 6, 7),
    "first channels": images(20, 11, 6, 7)[:, :8],
    "cropped": images(20, 8, 6, 9)[..., 1:8],
    "transposed": images(20, 8, 7, 6).mT,
    "one pixel": images(20, 8, 1, 1),
    "contiguous": some(20, 8, 6, 7),
}


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("bias", [None, some(5, seed=2)], ids=["plain", "biased"])
@pytest.mark.parametrize("layout", LAID_OUT)
def test_pointwise_is_a_1x1_convolution(layout: str, bias: Tensor | None, batch: int) -> None:
    x, weight = LAID_OUT[layout][:batch], some(5, 8, 1, 1, seed=1)
    torch.testing.assert_close(pointwise(x, weight, bias), F.conv2d(x, weight, bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("layout", ["channels_last", "first channels", "cropped", "one pixel"])
def test_pointwise_keeps_channels_last(layout: str, batch: int) -> None:
    found = pointwise(LAID_OUT[layout][:batch], some(5, 8, 1, 1, seed=1))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_pointwise_s_gradient() -> None:
    x, weight = images(2, 8, 3, 3).requires_grad_(), some(5, 8, 1, 1, seed=1)
    mixture = some(2, 5, 3, 3, seed=2)
    ours, theirs = (torch.autograd.grad((y * mixture).sum(), x)[0] for y in (pointwise(x, weight), F.conv2d(x, weight)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_layers_are_the_functions_of_their_names() -> None:
    x = images(2, 8, 6, 6)
    point, three, up = some(5, 8, 1, 1), some(5, 8, 3, 3), some(8, 5, 4, 4)
    bias = some(5, seed=3)
    for layer, wanted in (
        (Pointwise(point, bias, dtype=FLOAT), F.conv2d(x, point, bias)),
        (Convolution(three, bias, dtype=FLOAT, padding=1), F.conv2d(x, three, bias, padding=1)),
        (Convolution(three, dtype=FLOAT, padding=0, stride=2), F.conv2d(x, three, stride=2)),
        (
            TransposedConvolution(up, bias, dtype=FLOAT, padding=1, stride=2),
            F.conv_transpose2d(x, up, bias, stride=2, padding=1),
        ),
    ):
        torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 8, 1, 1), (5, 8, 3, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_their_numbers_are_copies_that_nothing_trains(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, bias = (torch.nn.Parameter(x) for x in (some(*shape), some(shape[0])))
    layer = Convolution(weight, bias, dtype=dtype, padding=0)
    assert not list(layer.parameters())
    kept = [tensor.clone() for tensor in layer.buffers()]
    with torch.no_grad():
        weight.zero_()
        bias.zero_()
    for tensor, before in zip(layer.buffers(), kept, strict=True):
        assert torch.equal(tensor, before) and before.abs().min() > 0
        assert tensor.dtype == dtype and not tensor.requires_grad


@pytest.mark.parametrize("colours", [1, 3, 4])
@pytest.mark.parametrize("side", [(6, 6), (2, 8)])
def test_four_pixels_at_once_are_a_3x3_convolution(colours: int, side: tuple[int, int]) -> None:
    weight, bias = some(colours, 8, 3, 3, seed=1), some(colours, seed=2)
    x, mixture = images(3, 8, *side).requires_grad_(), some(3, colours, *side, seed=3)
    found, wanted = FourPixels(weight, bias, dtype=FLOAT)(x), F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    ours, theirs = (torch.autograd.grad((y * mixture).sum(), x)[0] for y in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_pixels_are_made_by_fours_on_a_cpu_if_they_have_few_channels() -> None:
    def form(colours: int, device: torch.device) -> type[torch.nn.Module]:
        return type(to_pixels(some(colours, 8, 3, 3), some(colours), device=device, dtype=FLOAT))

    assert [form(n, CPU) for n in (1, 3, 4, 5)] == [FourPixels] * 3 + [Convolution]
    assert form(3, GPU) is Convolution
    x, weight, bias = images(2, 8, 4, 4), some(5, 8, 3, 3), some(5)
    many = to_pixels(weight, bias, device=CPU, dtype=FLOAT)
    torch.testing.assert_close(many(x), F.conv2d(x, weight, bias, padding=1), atol=1e-5, rtol=1e-5)
