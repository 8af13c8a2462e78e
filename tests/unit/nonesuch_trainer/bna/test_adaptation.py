"""Batch norm adaptation: equal to torch's own passes, in parts as in one, and nothing else in the model moves."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidValue
from nonesuch_trainer.bna import adaptation as bna
from nonesuch_trainer.bna.adaptation import adapt, apply, batch_rows, merge, statistics
from nonesuch_trainer.settings.adapting import BNAConfig

NORMALISATION = Normalisation()
CONFIGS = {
    "cumulative": BNAConfig(batch_size=8),
    "ema": BNAConfig(form="ema", alpha=0.3, batch_size=8),
}


def small_resnet(seed: int = 0) -> nn.Module:
    """A residual network whose statistics are neither 0 and 1 nor those of the images."""
    torch.manual_seed(seed)
    spec = ClassifierSpec(architecture="resnet18", args={"width": 4})
    model = build(spec, in_channels=1, classes=3, image_size=12)
    for layer in bna.batch_norms(model).values():
        moments = (layer.running_mean, layer.running_var)
        assert moments[0] is not None and moments[1] is not None
        moments[0].normal_()
        moments[1].uniform_(0.5, 2.0)
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(5)
    return model.eval()


def some_images(count: int = 44) -> np.ndarray:
    """Images whose brightness changes along the way, so that batches differ."""
    rng = np.random.default_rng(1)
    return (rng.integers(0, 256, (count, 12, 12, 1)) * np.linspace(0.2, 1, count)[:, None, None, None]).astype(np.uint8)


def inputs(images: np.ndarray, config: BNAConfig) -> list[Tensor]:
    return [input_tensor(torch.from_numpy(images[rows]), NORMALISATION) for rows in batch_rows(len(images), config)]


def copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close(model: nn.Module, expected: nn.Module, tolerance: float = 1e-6) -> None:
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def test_cumulative_is_update_bn() -> None:
    images, config = some_images(), CONFIGS["cumulative"]
    model, theirs = small_resnet(), small_resnet()
    update_bn(inputs(images, config), theirs)
    adapt(model, images, NORMALISATION, config)
    assert not same(copy(model), copy(small_resnet()))
    assert_close(model, theirs)


def test_ema_is_torchs_running_average_with_momentum_alpha() -> None:
    images, config = some_images(), CONFIGS["ema"]
    model, theirs = small_resnet(), small_resnet()
    for layer in bna.batch_norms(theirs).values():
        layer.momentum = 0.3
    theirs.train()
    with torch.no_grad():
        for x in inputs(images, config):
            theirs(x)
    adapt(model, images, NORMALISATION, config)
    assert_close(model, theirs)


def test_ema_with_alpha_1_is_the_last_batch() -> None:
    images = some_images()
    config = BNAConfig(form="ema", alpha=1, batch_size=8)
    model, theirs = small_resnet(), small_resnet()
    update_bn(inputs(images, config)[-1:], theirs)
    adapt(model, images, NORMALISATION, config)
    moments = {name: t for name, t in theirs.state_dict().items() if "running" in name}
    for name, tensor in moments.items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", CONFIGS)
def test_parts_merged_in_any_order_are_one_pass(form: str) -> None:
    images, config = some_images(), CONFIGS[form]
    batches = inputs(images, config)
    one, model = small_resnet(), small_resnet()
    adapt(one, images, NORMALISATION, config)
    cuts = [(0, 3), (3, 4), (4, 6)]
    parts = [
        statistics(small_resnet(), batches[start:stop], config, total=len(batches), first=start) for start, stop in cuts
    ]
    found = merge([parts[1], parts[2], parts[0]])
    assert (found.start, found.stop, found.total, found.images) == (0, 6, 6, 44)
    apply(model, found)
    assert_close(model, one)


@pytest.mark.parametrize("form", CONFIGS)
def test_parameters_are_bit_identical_and_modes_and_momenta_come_back(form: str) -> None:
    model = small_resnet()
    model.train()
    model.get_submodule("layer2").eval()
    next(iter(bna.batch_norms(model).values())).momentum = None
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    momenta = [layer.momentum for layer in bna.batch_norms(model).values()]
    adapt(model, some_images(), NORMALISATION, CONFIGS[form])
    assert same(theta, dict(model.named_parameters()))
    assert [module.training for module in model.modules()] == modes
    assert [layer.momentum for layer in bna.batch_norms(model).values()] == momenta
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("form", CONFIGS)
def test_mixing_is_between_source_and_target(form: str) -> None:
    source, target, mixed = small_resnet(), small_resnet(), small_resnet()
    adapt(target, some_images(), NORMALISATION, CONFIGS[form])
    adapt(mixed, some_images(), NORMALISATION, CONFIGS[form].model_copy(update={"source_weight": 0.25}))
    a, b, c = (copy(model) for model in (source, target, mixed))
    for name in (n for n in a if "running" in n):
        torch.testing.assert_close(c[name], 0.25 * a[name] + 0.75 * b[name], rtol=1e-6, atol=1e-6)


class Vectors(nn.Module):
    """Batch norm of vectors, behind and before dropout; one layer is run twice, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.first = nn.BatchNorm1d(5)
        self.twice = nn.BatchNorm1d(5)
        self.never = nn.BatchNorm1d(5)

    def forward(self, x_NF: Tensor) -> Tensor:
        h: Tensor = self.dropout(self.twice(2 + 3 * self.twice(self.first(self.dropout(x_NF)))))
        return h


def test_vectors_with_dropout_off_and_a_layer_that_runs_twice() -> None:
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 4 + 1
    model = Vectors().train()
    model.never.running_mean.fill_(7)
    found = statistics(model, x.split(10), BNAConfig(), total=2)
    assert found.layers.keys() == {"first", "twice"}
    apply(model, found)
    halves = torch.stack(x.split(10))
    torch.testing.assert_close(model.first.running_mean, halves.mean(dim=(0, 1)))
    torch.testing.assert_close(model.first.running_var, halves.var(dim=1).mean(dim=0))
    torch.testing.assert_close(model.twice.running_mean, torch.ones(5), rtol=1e-4, atol=1e-4)  # of 0 and 2
    assert model.never.running_mean.tolist() == [7] * 5
    assert model.never.num_batches_tracked == 0


@pytest.mark.parametrize(("layer", "shape"), [(nn.BatchNorm2d, (9, 3, 4, 4)), (nn.BatchNorm3d, (9, 3, 2, 2, 2))])
def test_pictures_and_volumes(layer: Callable[[int], nn.Module], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model, theirs = (nn.Sequential(layer(3), nn.Flatten()) for _ in range(2))
    update_bn([x], theirs)
    apply(model, statistics(model, [x], BNAConfig(), total=1))
    assert_close(model, theirs)


def test_a_source_that_is_not_finite_is_replaced() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    next(iter(model.buffers())).fill_(float("nan"))
    apply(model, statistics(model, [torch.randn(8, 2)] * 6, BNAConfig(), total=6))
    assert all(bool(torch.isfinite(buffer).all()) for buffer in model.buffers())


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)),
        nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)),
        nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True)),
    ],
)
def test_nothing_to_adapt_is_refused(model: nn.Module) -> None:
    with pytest.raises(InvalidValue, match="choose a classifier with BatchNorm"):
        adapt(model, some_images(), NORMALISATION, BNAConfig())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_model_of_narrow_numbers_is_refused_with_the_remedy(kind: torch.dtype) -> None:
    model, images = small_resnet().to(kind), some_images()
    before = copy(model)
    with pytest.raises(InvalidValue, match=rf"conv1\.weight is {str(kind)[6:]}: adapt the model in float32"):
        adapt(model, images, Normalisation(), BNAConfig())
    assert same(copy(model), before)
    adapt(model.float(), images, Normalisation(), BNAConfig())


def test_one_narrow_layer_is_refused_too() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2, dtype=torch.float16))
    with pytest.raises(InvalidValue, match=r"1\.weight is float16"):
        bna.batch_norms(model)


def test_a_layer_that_waits_for_other_processes_is_refused_with_the_remedy() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small_resnet())
    with pytest.raises(InvalidValue, match=r"bn1 is a SyncBatchNorm.*in a network with BatchNorm"):
        adapt(model, some_images(), Normalisation(), BNAConfig())
    plain = small_resnet(1)
    plain.load_state_dict(model.state_dict())  # as the remedy says
    adapt(plain, some_images(), Normalisation(), BNAConfig())


def test_a_batch_norm_that_is_not_run_is_refused() -> None:
    class Idle(Vectors):
        def forward(self, x_NF: Tensor) -> Tensor:
            return x_NF

    model = Idle()
    found = statistics(model, [torch.zeros(2, 5)], BNAConfig(), total=1)
    with pytest.raises(InvalidValue, match="no forward pass ran any of the 3"):
        apply(model, found)


class Interrupted(BaseException):
    """Ctrl-C, say."""


@pytest.mark.parametrize("form", CONFIGS)
def test_an_interrupted_pass_changes_nothing(form: str) -> None:
    model = small_resnet().train()
    before = copy(model)
    calls: list[None] = []

    def stop_at_3() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        adapt(model, some_images(), NORMALISATION, CONFIGS[form], between=stop_at_3)
    assert same(copy(model), before)
    assert all(module.training for module in model.modules())
    assert {layer.momentum for layer in bna.batch_norms(model).values()} == {0.1}
    assert not any(module._forward_hooks for module in model.modules())


def test_an_interrupted_apply_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_resnet()
    before = copy(model)
    found = statistics(model, inputs(some_images(), BNAConfig()), BNAConfig(), total=1)
    assign, calls = bna._assign, []

    def half(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        calls.append(None)
        assign(pairs := list(pairs))
        if len(calls) == 1:
            assert not same(copy(model), before)
            raise Interrupted

    monkeypatch.setattr(bna, "_assign", half)
    with pytest.raises(Interrupted):
        apply(model, found)
    assert same(copy(model), before)


def test_statistics_that_are_not_finite_are_refused_and_change_nothing() -> None:
    model = small_resnet()
    conv = model.get_submodule("layer4.1.conv2")
    with torch.no_grad():
        conv.weight.fill_(float("inf"))  # type: ignore[union-attr]
    before = copy(model)
    with pytest.raises(InvalidValue, match=r"layer4\.1\.bn2 are not finite"):
        adapt(model, some_images(), NORMALISATION, CONFIGS["cumulative"])
    assert same(copy(model), before)


def test_parts_that_are_not_one_pass_are_refused() -> None:
    model = small_resnet()
    config = CONFIGS["cumulative"]
    batches = inputs(some_images(), config)
    first, second, third = (
        statistics(model, batches[i : i + 2], config, total=6, first=i) for i in (0, 2, 4)
    )  # fmt: skip
    for parts in ([first, third], [first, first], [first, dataclasses.replace(second, form="ema")], []):
        with pytest.raises(InvalidValue, match="not one pass"):
            merge(parts)
    for part in (first, merge([second, third])):
        with pytest.raises(InvalidValue, match="merge every part first"):
            apply(model, part)


def test_statistics_of_another_model_are_refused() -> None:
    found = statistics(Vectors(), [torch.randn(4, 5)], BNAConfig(), total=1)
    with pytest.raises(InvalidValue, match="of another model, with first, twice"):
        apply(small_resnet(), found)
    wider = Vectors()
    wider.first = nn.BatchNorm1d(6)
    with pytest.raises(InvalidValue, match="first has 6 features, and the statistics are of 5"):
        apply(wider, found)
    with pytest.raises(InvalidValue, match=r"source_weight 1\.5"):
        apply(Vectors(), found, source_weight=1.5)


def test_a_batch_of_one_or_one_too_many_is_refused() -> None:
    with pytest.raises(InvalidValue, match="batch 1 of 2 has 1 inputs"):
        statistics(Vectors(), [torch.randn(4, 5), torch.randn(1, 5)], BNAConfig(), total=2)
    with pytest.raises(InvalidValue, match="there are 1 batches"):
        statistics(Vectors(), [torch.randn(4, 5)] * 2, BNAConfig(), total=1)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(44, 8, [8, 8, 7, 7, 7, 7]), (10, 256, [10]), (7, 2, [3, 2, 2]), (2, 2, [2]), (257, 256, [129, 128])],
)
def test_batches_are_alike_and_use_every_image_once(count: int, batch_size: int, sizes: list[int]) -> None:
    rows = batch_rows(count, BNAConfig(batch_size=batch_size))
    assert [len(batch) for batch in rows] == sizes
    assert sorted(np.concatenate(rows)) == list(range(count))


def test_the_seed_draws_and_orders() -> None:
    def order(count: int = 100, **given: object) -> list[int]:
        return np.concatenate(batch_rows(count, BNAConfig.model_validate(given))).tolist()

    assert order(seed=1) == order(seed=1) != order(seed=2)
    assert order() != sorted(order())
    assert order(images=10) == order()[:10]
    with pytest.raises(InvalidValue, match="1 images have no variance"):
        order(count=1)


@pytest.mark.parametrize(
    "given",
    [
        {"alpha": 0.1},
        {"form": "ema", "alpha": 0},
        {"form": "ema", "alpha": 1.1},
        {"form": "mean"},
        {"source_weight": 1},
        {"source_weight": -0.1},
        {"batch_size": 1},
        {"images": 1},
    ],
)
def test_configs_that_cannot_work_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BNAConfig.model_validate(given)


@pytest.mark.parametrize("batches", [1, 7])
def test_weights_are_whole_with_the_sources(batches: int) -> None:
    assert BNAConfig().weights(batches).sum() == pytest.approx(1)
    assert BNAConfig(form="ema").weights(batches).sum() == pytest.approx(1 - 0.9**batches)
    assert BNAConfig(form="ema").weights(batches)[-1] == pytest.approx(0.1)
