"""Nearest-upsample and a 3×3 convolution, on the small image."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import TransposedConvolution
from nonesuch_worker.engine.upsampling import (
    NINE_PRODUCTS_CHANNELS,
    NINE_PRODUCTS_SIDE,
    NineProducts,
    add_upsampled,
    phases,
    upsampled_conv,
)
from tests.helpers.seeded import images, some

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT = torch.float32


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@pytest.mark.parametrize("form", [phases, NineProducts])
@pytest.mark.parametrize("side", [(4, 4), (5, 7), (1, 1), (2, 9)])
@pytest.mark.parametrize(("channels", "out"), [(3, 5), (6, 2)])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "biased"])
def test_it_is_the_convolution_of_the_upsampled_image(
    form: type[nn.Module], side: tuple[int, int], channels: int, out: int, bias: bool
) -> None:
    weight, offset = some(out, channels, 3, 3, seed=1), some(out, seed=2) if bias else None
    x = images(2, channels, *side).requires_grad_()
    found, wanted = form(weight, offset, dtype=FLOAT)(x), F.conv2d(up(x), weight, offset, padding=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    mixture = some(*wanted.shape, seed=3)
    ours, theirs = (torch.autograd.grad((y * mixture).sum(), x)[0] for y in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", [phases, NineProducts])
def test_it_makes_channels_last_and_takes_any(form: type[nn.Module]) -> None:
    layer = form(some(5, 3, 3, 3, seed=1), None, dtype=FLOAT)
    x = images(2, 3, 6, 6)
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x.contiguous()), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", [phases, NineProducts])
def test_the_weights_may_be_in_half_precision(form: type[nn.Module]) -> None:
    weight, x = some(5, 16, 3, 3, seed=1), images(2, 16, 4, 4)
    found = form(weight, None, dtype=torch.bfloat16)(x.bfloat16())
    wanted = F.conv2d(up(x), weight, padding=1)
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().mean() < 0.01 * wanted.abs().mean()


def test_the_form_is_chosen_by_device_side_and_channels() -> None:
    def form(device: torch.device, side: int, channels: int) -> type[nn.Module]:
        return type(upsampled_conv(some(4, channels, 3, 3), None, side=side, device=device, dtype=FLOAT))

    few, many, small = NINE_PRODUCTS_CHANNELS - 1, NINE_PRODUCTS_CHANNELS, NINE_PRODUCTS_SIDE
    assert form(CPU, small, many) is form(CPU, 4, 2 * many) is NineProducts
    assert form(CPU, small + 1, many) is form(CPU, small, few) is form(GPU, small, many) is TransposedConvolution


@pytest.mark.parametrize("side", [(3, 3), (2, 5)])
def test_adding_the_upsampled_image(side: tuple[int, int]) -> None:
    height, width = side
    big, wider = images(2, 4, 2 * height, 2 * width), images(2, 7, height, width)
    for small in (wider[:, :4], wider[:, :4].contiguous(), images(2, 4, height, width)):
        target = big.clone()
        found = add_upsampled(target, small)
        assert found is target
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, big + up(small), atol=0, rtol=0)


def test_gradients_go_through_both_images() -> None:
    big, small = images(2, 4, 6, 6).requires_grad_(), images(2, 4, 3, 3).requires_grad_()
    mixture = some(2, 4, 6, 6, seed=3)
    ours = torch.autograd.grad((add_upsampled(big * 2, small * 3) * mixture).sum(), (big, small))
    theirs = torch.autograd.grad(((big * 2 + up(small * 3)) * mixture).sum(), (big, small))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
