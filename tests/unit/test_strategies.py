"""Strategies: what their parameters refuse, what the catalogue says of them, and the random one."""

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nonesuch.errors import InvalidOrder, InvalidValue
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import ATTEMPTS, latents
from nonesuch_worker.strategies.base import MintContext, StrategyParams
from nonesuch_worker.strategies.registry import describe, strategy

CPU = torch.device("cpu")


def context(params: StrategyParams, *, generators: int = 1, n: int = 5) -> MintContext[StrategyParams]:
    return MintContext(
        seed=11,
        indices=np.arange(100, 100 + n),
        labels=np.arange(n, dtype=np.int32),
        generators=(load_generator("analytic"),) * generators,
        params=params,
        classifier=None,
        snapshot_version=None,
        device=CPU,
    )


@pytest.mark.parametrize("params", [{}, {"sigma": 4.0}, {"truncation": 0.5}, {"truncation": None, "sigma": 2.0}])
def test_params_that_work(params: dict[str, float]) -> None:
    StrategyParams.model_validate(params)
    jsonschema.validate(params, StrategyParams.model_json_schema())


@pytest.mark.parametrize(
    "params",
    [{"sigma": 0}, {"sigma": 4.1}, {"truncation": 0}, {"truncation": 1.1}, {"sigma": 2, "truncation": 0.5}, {"eta": 1}],
)
def test_params_that_cannot_work_are_refused_here_and_by_the_schema(params: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        StrategyParams.model_validate(params)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, StrategyParams.model_json_schema())


def test_every_installed_strategy_describes_itself_under_its_own_name() -> None:
    found = {info.name: info for info in describe()}
    assert "random" in found
    for name, info in found.items():
        assert strategy(name).name == name
        jsonschema.Draft202012Validator.check_schema(info.schema_)
        assert {"sigma", "truncation"} <= info.schema_["properties"].keys()
    assert not found["random"].needs_snapshot and not found["random"].needs_gradient
    assert "σ" in found["random"].schema_["properties"]["sigma"]["description"]


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"'luck'.*random"):
        strategy("luck")


@pytest.mark.parametrize("params", [{"sigma": 1.5}, {"truncation": 0.3}])
def test_random_is_the_generator_at_the_latents_of_the_indices(params: dict[str, float]) -> None:
    ctx = context(StrategyParams.model_validate(params))
    minted = strategy("random").mint(ctx)
    z = torch.from_numpy(latents(11, ctx.indices, 8, **params))
    expected = to_uint8_NHWC(ctx.generators[0](z, torch.arange(5)))
    assert np.array_equal(minted.images, expected.numpy())
    assert np.array_equal(minted.labels, ctx.labels) and np.array_equal(minted.indices, ctx.indices)
    assert minted.generator.tolist() == [0] * 5
    assert minted.score is None and minted.z is None


def test_random_refuses_several_generators() -> None:
    with pytest.raises(InvalidOrder, match="mixture"):
        strategy("random").mint(context(StrategyParams(), generators=2))


def test_a_context_s_latents_are_of_its_rows_and_stream() -> None:
    ctx = context(StrategyParams())
    assert np.array_equal(ctx.latents().numpy(), latents(11, ctx.indices, 8))
    assert not torch.equal(ctx.latents(), ctx.latents(ATTEMPTS + 1))
    assert ctx.targets().dtype == torch.int64
