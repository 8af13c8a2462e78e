"""Precision, recall, density and coverage: by hand, in edge cases, on known laws, and against their authors' code."""

import numpy as np
import pytest
from prdc import compute_prdc

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics import manifold
from nonesuch_trainer.metrics.manifold import PRDC, expected_coverage, prdc


def normal(seed: int, n: int, d: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_a_line_by_hand() -> None:
    real = column(-40, 0, 1, 3)  # radii 40, 1, 1, 2: the first ball ends just before 0
    fake = column(0.5, 4.5, 20)  # radii 4, 4, 15.5; in 2, 1 and 0 real balls
    assert prdc(real, fake, k=1) == PRDC(precision=2 / 3, recall=3 / 4, density=1.0, coverage=3 / 4)


def test_the_k_th_neighbour_is_another_image_and_a_copy_is_another() -> None:
    real = column(0, 0, 1, 10)
    assert prdc(real, column(0.5, 0.6), k=1).density == 1  # radii 0, 0, 1, 9: both are in the ball of 1 alone
    assert prdc(real, column(0.4, 0.3, 11), k=2).density == 3 / 2  # radii 1, 1, 1, 10: 4 + 4 + 1 balls of 3 · 2


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
def test_an_image_on_the_rim_of_a_ball_is_outside(offset: float) -> None:
    real, fake = column(0.0, 0.3) + offset, column(-0.3, 0.6) + offset
    assert prdc(real, fake, k=1) == PRDC(precision=0, recall=1, density=0, coverage=0)


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize(("n", "d"), [(300, 3), (257, 40)])
def test_a_set_against_itself_is_perfect(n: int, d: int, offset: float) -> None:
    a = normal(0, n, d) + offset
    assert prdc(a, a.copy()) == PRDC(precision=1, recall=1, density=1, coverage=1)


def test_copies_lie_in_a_ball_of_radius_0() -> None:
    real = np.repeat(normal(0, 3, 5), 10, axis=0)  # 9 copies each: every radius is 0
    found = prdc(real, real[[0, 0, 0, 0, 0, 0, 29]], k=5)
    assert found == PRDC(precision=1, recall=2 / 3, density=2, coverage=2 / 3)


def test_a_generator_that_knows_one_of_two_modes_is_precise_and_covers_half() -> None:
    modes = np.repeat([[0.0], [100.0]], 200, axis=0)
    real = normal(0, 400, 2) + modes
    found = prdc(real, normal(1, 400, 2))
    assert found.precision > 0.9
    assert 0.4 < found.recall <= 0.5 and 0.4 < found.coverage <= 0.5


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(0, 210, 8), normal(1, 130, 8)
    whole = prdc(real, fake)
    for cells in (1, 999, 5000):
        monkeypatch.setattr(manifold, "_CELLS", cells)
        assert prdc(real, fake) == whole


@pytest.mark.parametrize(
    ("n", "m", "d", "k", "scale"), [(300, 200, 3, 5, 1.0), (150, 400, 20, 1, 0.8), (250, 250, 64, 7, 1.1)]
)
def test_the_authors_code_finds_the_same(n: int, m: int, d: int, k: int, scale: float) -> None:
    real, fake = normal(0, n, d).astype(np.float64), scale * normal(1, m, d).astype(np.float64)
    assert prdc(real, fake, k).model_dump() == pytest.approx(compute_prdc(real, fake, nearest_k=k), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "k", "expected"),
    [
        (10_000, 10_000, 5, 0.96877),
        (2, 1, 1, 1 / 2),  # the other real image or the generated one: whichever is nearer
        (3, 2, 2, 5 / 6),  # of the 6 pairs of 4 others, one is the two real ones
        (100, 1, 99, 0.99),  # not covered when the generated one is the farthest of 100
    ],
)
def test_expected_coverage_is_counted_right(n: int, m: int, k: int, expected: float) -> None:
    assert expected_coverage(n, m, k) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("n", "m", "k", "d"), [(60, 60, 3, 4), (40, 25, 2, 30)])
def test_on_one_law_coverage_and_density_are_what_theory_expects(n: int, m: int, k: int, d: int) -> None:
    found = [prdc(normal(2 * i, n, d), normal(2 * i + 1, m, d), k) for i in range(400)]
    for values, expected in (
        ([one.coverage for one in found], expected_coverage(n, m, k)),
        ([one.density for one in found], 1.0),
    ):
        assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(400))


@pytest.mark.slow
def test_the_published_figures_of_a_thousand_features() -> None:
    # One draw theirs, one ours. Over three draws of ours the deviations were 0.02, 0.006, 0.08 and 0.009; precision and
    # recall have the same law, so the larger holds for both. Three of them, of a difference.
    found = prdc(normal(0, 10_000, 1000), normal(1, 10_000, 1000))
    assert found.precision == pytest.approx(0.4772, abs=0.085)
    assert found.recall == pytest.approx(0.4705, abs=0.085)
    assert found.density == pytest.approx(1.0555, abs=0.34)
    assert found.coverage == pytest.approx(0.9735, abs=0.038)


@pytest.mark.parametrize(
    ("n", "m", "k", "message"),
    [(10, 10, 0, "k = 0"), (5, 10, 5, "of 5 images are too few: give at least 6"), (10, 5, 5, "give at least 6")],
)
def test_too_few_neighbours_are_refused(n: int, m: int, k: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        prdc(normal(0, n, 3), normal(1, m, 3), k)


@pytest.mark.parametrize(("n", "m", "k"), [(5, 5, 5), (5, 5, 0), (5, 0, 2)])
def test_no_coverage_is_expected_without_neighbours_or_images(n: int, m: int, k: int) -> None:
    with pytest.raises(InvalidValue, match=f"n = {n}, m = {m}, k = {k}"):
        expected_coverage(n, m, k)
