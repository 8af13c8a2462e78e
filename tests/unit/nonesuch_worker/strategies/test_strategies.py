"""Strategies: what their parameters refuse, what the catalogue says of them, and the random one."""

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import ATTEMPTS, latents
from nonesuch_worker.strategies.base import MintContext, MixingParams, StrategyParams
from nonesuch_worker.strategies.registry import describe, strategy

CPU = torch.device("cpu")


def context(
    params: StrategyParams, *sources: str, n: int = 5, seed: int = 11, first: int = 100
) -> MintContext[StrategyParams]:
    return MintContext(
        seed=seed,
        indices=np.arange(first, first + n),
        labels=(np.arange(n) % 10).astype(np.int32),
        generators=tuple(load_generator(source) for source in sources or ("analytic",)),
        params=params,
        classifier=None,
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
    assert {"filtered", "hsm", "mixture", "random", "select"} <= found.keys()
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
    assert np.array_equal(minted.images_on_host(), expected.numpy())
    assert np.array_equal(minted.labels, ctx.labels) and np.array_equal(minted.indices, ctx.indices)
    assert minted.generator.tolist() == [0] * 5
    assert minted.score is None and minted.z is None and not minted.tally


def test_a_context_s_draws_are_of_its_rows_and_the_attempt() -> None:
    ctx = context(StrategyParams())
    (draw,) = ctx.draws()
    assert np.array_equal(draw.z.numpy(), latents(11, ctx.indices, 8)) and draw.labels.dtype == torch.int64
    (again,) = ctx.draws(3, np.array([4, 1]))
    assert again.rows.tolist() == [4, 1] and again.labels.tolist() == [4, 1]
    assert np.array_equal(again.z.numpy(), latents(11, ctx.indices[[4, 1]], 8, stream=ATTEMPTS + 3))
    (generator,) = ctx.generators
    assert torch.equal(ctx.render(draw), generator(draw.z, draw.labels))
    assert torch.equal(ctx.render(draw, 2 * draw.z), generator(2 * draw.z, draw.labels))


TWO = ("analytic", "analytic:id=wide,z_dim=12,seed=1")


def test_a_mixture_gives_every_index_to_one_generator_whatever_it_is_asked_with() -> None:
    ctx = context(MixingParams(), *TWO, n=400)
    minted = strategy("mixture").mint(ctx)
    assert np.array_equal(minted.indices, ctx.indices) and np.array_equal(minted.labels, ctx.labels)
    share = minted.generator.mean()
    assert abs(share - 0.5) < 2.58 * 0.5 / 400**0.5
    for position, source in enumerate(TWO):
        rows = np.flatnonzero(minted.generator == position)
        generator = load_generator(source)
        z = torch.from_numpy(latents(11, ctx.indices[rows], generator.info.z_dim))
        expected = to_uint8_NHWC(generator(z, torch.from_numpy(ctx.labels[rows]).long()))
        assert np.array_equal(minted.images_on_host()[rows], expected.numpy())
    alone = strategy("mixture").mint(context(MixingParams(), *TWO, n=1, first=250))
    assert alone.generator[0] == minted.generator[150]
    for attempt in (1, 7):
        chosen = {row: draw.generator for draw in ctx.draws(attempt) for row in draw.rows}
        assert [chosen[row] for row in range(400)] == minted.generator.tolist()  # a retry stays with its generator
    other = strategy("mixture").mint(context(MixingParams(), *TWO, n=400, seed=12))
    assert not np.array_equal(other.generator, minted.generator)


@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.5, 1.5), (30.0, 10.0)])
def test_a_mixture_s_shares_are_its_weights(weights: tuple[float, float]) -> None:
    minted = strategy("mixture").mint(context(MixingParams(weights=weights), *TWO, n=4000))
    expected = weights[1] / sum(weights)
    assert abs(minted.generator.mean() - expected) < 2.58 * (expected * (1 - expected) / 4000) ** 0.5


@pytest.mark.parametrize("weights", [[1, 0], [1, -1], []])
def test_weights_that_cannot_work_are_refused_here_and_by_the_schema(weights: list[float]) -> None:
    with pytest.raises(ValidationError):
        MixingParams.model_validate({"weights": weights})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"weights": weights}, MixingParams.model_json_schema())


def test_what_needs_a_teacher_says_so() -> None:
    assert not StrategyParams().asks_teacher and StrategyParams(soft_labels=True).asks_teacher
    found = {info.name: info for info in describe()}
    assert found["filtered"].needs_teacher and not found["random"].needs_teacher
    assert found["hsm"].needs_gradient and found["hsm"].needs_snapshot and found["select"].needs_snapshot
    assert not found["random"].mixes and all(found[name].mixes for name in ("filtered", "hsm", "mixture", "select"))
    assert found["hsm"].schema_["properties"]["verify"]["needs"] == "teacher"
