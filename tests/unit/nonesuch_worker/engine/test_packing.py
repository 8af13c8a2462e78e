"""Convolutions whose weights oneDNN has in its own order."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Convolution, Linear, Pointwise
from nonesuch_worker.engine.packing import PackedWeight, runs_packed
from tests.helpers.seeded import images, some

FLOAT = torch.float32
HALF = pytest.param(
    torch.bfloat16,
    marks=pytest.mark.skipif(
        not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not compute in bfloat16"
    ),
)
LAID_OUT = {
    "channels_last": images(3, 8, 6, 7),
    "first channels": images(3, 11, 6, 7)[:, :8],
    "cropped": images(3, 8, 6, 9)[..., 1:8],
    "one sample": images(3, 8, 6, 7)[1:2],
    "one pixel": images(3, 8, 1, 1),
    "contiguous": some(3, 8, 6, 7),
}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """What is convolved with packed weights meanwhile."""
    seen: list[Tensor] = []
    convolve = PackedWeight.convolve

    def count(self: PackedWeight, x_NCHW: Tensor) -> Tensor:
        seen.append(x_NCHW)
        return convolve(self, x_NCHW)

    with monkeypatch.context() as patch:
        patch.setattr(PackedWeight, "convolve", count)
        yield seen


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("bias", [None, some(5, seed=2)], ids=["plain", "biased"])
@pytest.mark.parametrize(("kernel", "padding", "stride"), [(1, (0, 0), 1), (3, (1, 1), 1), (4, (1, 1), 2)])
@pytest.mark.parametrize("layout", LAID_OUT)
def test_it_is_the_convolution(
    layout: str, kernel: int, padding: tuple[int, int], stride: int, bias: Tensor | None, dtype: torch.dtype
) -> None:
    x = LAID_OUT[layout].to(dtype)
    if layout == "one pixel" and kernel == 4:
        pytest.skip("the kernel is larger than the padded image")
    layer = Convolution(some(5, 8, kernel, kernel, seed=1), bias, dtype=dtype, padding=padding, stride=stride)
    assert runs_packed(x)
    for _ in range(2):
        wanted = F.conv2d(x, layer.weight, layer.bias, stride, padding)
        torch.testing.assert_close(layer(x), wanted, **({"atol": 1e-5, "rtol": 1e-5} if dtype == FLOAT else {}))


def test_what_was_packed_for_some_samples_serves_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Pointwise(some(64, 48, 1, 1, seed=1), some(64, seed=2), dtype=FLOAT)
    with counted(monkeypatch) as seen:
        for batch in (8, 1, 33, 8):
            x = images(batch, 48, 4, 4)
            torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)
            assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert len(seen) == 8


@pytest.mark.parametrize("samples", [1, 2, 7, 40])
def test_a_linear_layer_is_a_row_of_pixels(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    weight, bias, x = some(30, 12, seed=1), some(30, seed=2), some(samples, 12)
    layer = Linear(weight, bias, dtype=FLOAT)
    with counted(monkeypatch) as seen:
        found = layer(x)
    assert [tuple(row.shape) for row in seen] == [(1, 12, 1, samples)]
    torch.testing.assert_close(found, F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(some(5, 8, 3, 3), some(5), dtype=FLOAT, padding=1),
        Pointwise(some(5, 8, 1, 1), some(5), dtype=FLOAT),
        Linear(some(5, 8), some(5), dtype=FLOAT),
    ],
    ids=["convolution", "pointwise", "linear"],
)
def test_gradients_are_recorded_with_the_plain_weight(monkeypatch: pytest.MonkeyPatch, layer: nn.Module) -> None:
    x = (some(2, 8) if isinstance(layer, Linear) else images(2, 8, 4, 4)).requires_grad_()
    with counted(monkeypatch) as seen:
        recorded = layer(x)
        (gradient,) = torch.autograd.grad(recorded.sum(), x)
        assert not seen
        with torch.no_grad():
            unrecorded = layer(x)
        assert len(seen) == 1
    torch.testing.assert_close(recorded, unrecorded, atol=1e-5, rtol=1e-5)
    assert gradient.abs().min() > 0


def test_half_precision_that_the_processor_has_not_is_computed_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nonesuch_worker.engine.packing._computes_in", lambda dtype: dtype == FLOAT)
    x, layer = images(2, 8, 4, 4).bfloat16(), Pointwise(some(5, 8, 1, 1), dtype=torch.bfloat16)
    with counted(monkeypatch) as seen:
        assert torch.equal(layer(x), F.conv2d(x, layer.weight))
    assert not seen


def test_a_copy_on_another_device_computes_there() -> None:
    layer, x = Pointwise(some(5, 8, 1, 1), dtype=FLOAT), images(2, 8, 4, 4)
    layer(x)
    assert layer.to("meta")(x.to("meta")).shape == (2, 5, 4, 4)
