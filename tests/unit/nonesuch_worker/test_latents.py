"""Latents: the published answers of Philox, the law that makes tickets repeatable, and the distributions."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch.errors import InvalidValue
from nonesuch_worker.latents import ATTEMPTS, LATENT, latents, philox, uniforms


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], dtype=np.uint32)


# Random123's known-answer file, philox4x32-10. The key is written low word first.
@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [
        ("0 0 0 0", 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", 0xFFFFFFFF_FFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", 0x299F31D0_A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter: str, seed: int, expected: str) -> None:
    assert np.array_equal(philox(words(counter), seed), words(expected))


@given(
    seed=st.integers(0, 2**64 - 1),
    indices=st.lists(st.integers(0, 2**62), min_size=1, max_size=8, unique=True),
    n=st.integers(1, 9),
    longer=st.integers(0, 5),
)
def test_numbers_of_an_index_depend_on_seed_and_index_alone(seed: int, indices: list[int], n: int, longer: int) -> None:
    together = latents(seed, np.array(indices), n + longer)
    for row, index in enumerate(indices):
        alone = latents(seed, np.array([index]), n)[0]
        assert np.array_equal(together[row, :n], alone)


def test_seeds_streams_and_high_index_words_all_matter() -> None:
    index = np.array([5])
    draws = [
        latents(0, index, 4),
        latents(1, index, 4),
        latents(1 << 32, index, 4),
        latents(0, index, 4, stream=ATTEMPTS + 1),
        latents(0, index + (1 << 32), 4),
    ]
    assert len({d.tobytes() for d in draws}) == len(draws)


def test_uniforms_are_uniform_open_and_uncorrelated() -> None:
    u = uniforms(3, np.arange(20_000), 5)
    assert u.min() > 0 and u.max() < 1
    histogram = np.histogram(u, bins=20, range=(0, 1))[0]
    chi_squared = ((histogram - 5_000) ** 2 / 5_000).sum()
    assert chi_squared < 43.8  # 99.9 % of chi-squared with 19 degrees of freedom
    assert np.abs(np.corrcoef(u, rowvar=False) - np.eye(5)).max() < 0.03


def test_latents_are_the_inverse_normal_cdf_of_the_uniforms() -> None:
    indices = np.arange(50)
    expected = [NormalDist().inv_cdf(u) for u in uniforms(9, indices, 3).ravel()]
    np.testing.assert_allclose(latents(9, indices, 3).ravel(), expected, rtol=1e-6)


def test_latents_have_the_moments_of_their_normal() -> None:
    z = latents(1, np.arange(20_000), 10, sigma=1.5)
    assert z.dtype == np.float32 and z.shape == (20_000, 10)
    assert abs(z.mean()) < 0.015
    assert z.std() == pytest.approx(1.5, rel=0.01)
    assert (z**4).mean() / z.var() ** 2 == pytest.approx(3.0, abs=0.1)


def test_truncated_latents_are_a_scaled_normal_restricted_to_two() -> None:
    z = latents(1, np.arange(20_000), 10, truncation=0.4)
    assert np.abs(z).max() <= np.float32(0.8)
    assert np.abs(z).max() > 0.79
    assert z.std() == pytest.approx(0.4 * 0.8796, rel=0.01)  # of N(0, 1) restricted to [-2, 2]: sqrt(1 - 4φ(2)/0.9545)


@pytest.mark.parametrize("arguments", [{"sigma": 0.0}, {"truncation": -1.0}, {"sigma": 2.0, "truncation": 0.5}])
def test_refuses_scales_that_cannot_be(arguments: dict[str, float]) -> None:
    with pytest.raises(InvalidValue):
        latents(0, np.arange(2), 3, stream=LATENT, **arguments)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_refuses_a_seed_that_is_no_key(seed: int) -> None:
    with pytest.raises(InvalidValue, match="64-bit"):
        uniforms(seed, np.arange(2), 3)
