"""What can be said after a BigGAN's folder, and what a generator in its minting form refuses."""

from pathlib import Path

import pytest
import torch

from nonesuch.errors import InvalidValue
from nonesuch_worker.engine.statistics import interpolated, upstream_compatible
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.biggan.loading import save_biggan, seeded_biggan
from nonesuch_worker.generators.biggan.options import BigGANOptions
from nonesuch_worker.generators.load import load_generator
from tests.helpers.tiny_biggan import TINY, rows

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_biggan(seeded_biggan(TINY, seed=0), tmp_path_factory.mktemp("models") / "tiny").path


# --- options


@pytest.mark.parametrize(
    ("words", "options", "suffix"),
    [
        ((), BigGANOptions(), ""),
        (("upstream_compatible",), BigGANOptions(compatible=True), "-upstream"),
        (("bfloat16",), BigGANOptions(precision="bfloat16"), "-bfloat16"),
        (("float16",), BigGANOptions(precision="float16"), "-float16"),
        (("compiled",), BigGANOptions(compiled=True), ""),
        (("compiled", "bfloat16", "upstream_compatible"), BigGANOptions(True, "bfloat16", True), "-upstream-bfloat16"),
    ],
)
def test_options_are_read_and_seen_in_the_id(words: tuple[str, ...], options: BigGANOptions, suffix: str) -> None:
    assert BigGANOptions.parse(words, GPU) == options
    assert options.id_suffix == suffix


def test_what_options_mean() -> None:
    plain = BigGANOptions()
    assert (plain.dtype, plain.rule) == (torch.float32, interpolated)
    assert BigGANOptions(compatible=True).rule is upstream_compatible
    assert BigGANOptions(precision="bfloat16").dtype is torch.bfloat16
    assert BigGANOptions(precision="float16").dtype is torch.float16


@pytest.mark.parametrize(
    ("words", "device", "message"),
    [
        (["fast"], GPU, "no option 'fast': it has upstream_compatible, bfloat16, float16, compiled"),
        ([""], GPU, "no option ''"),
        (["Bfloat16"], GPU, "no option 'Bfloat16'"),
        (["float16", "bfloat16"], GPU, "float16 and bfloat16 exclude each other: give one precision"),
        (["float16"], CPU, "float16 is for GPUs: on a CPU leave it out, or give bfloat16"),
    ],
)
def test_options_that_cannot_be(words: list[str], device: torch.device, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        BigGANOptions.parse(words, device)


def test_a_source_with_options_mints_by_them(folder: Path) -> None:
    z, labels = rows(TINY, 2)
    plain, compatible, half = (
        load_generator(f"biggan:{folder}{options}") for options in ("", ",upstream_compatible", ",bfloat16")
    )
    assert [generator.info.id for generator in (plain, compatible, half)] == ["tiny", "tiny-upstream", "tiny-bfloat16"]
    images = plain(z, labels, 0.425)
    assert not images.requires_grad
    assert (compatible(z, labels, 0.425) - images).abs().max() > 1e-3
    difference = (half(z, labels, 0.425) - images).abs()
    assert difference.mean() > 1e-5 and difference.max() < 0.1
    with pytest.raises(InvalidValue, match="float16 is for GPUs"):
        load_generator(f"biggan:{folder},float16")


def test_a_comma_in_the_name_of_a_folder_starts_no_option(tmp_path: Path) -> None:
    (tmp_path / "big,gans").mkdir()
    folder = save_biggan(seeded_biggan(TINY, seed=0), tmp_path / "big,gans" / "plain").path
    assert load_generator(f"biggan:{folder}").info.id == "plain"


# --- what is asked of a generator


@pytest.fixture(scope="module", params=["biggan", "embedded"])
def generator(request: pytest.FixtureRequest, folder: Path) -> Generator:
    return load_generator(f"biggan:{folder}" if request.param == "biggan" else "fashion-mnist")


@pytest.mark.parametrize(
    ("latents", "labels"),
    [((2, -1), (2,)), ((2, 1), (2,)), ((2, 0), (3,)), ((2, 0), (1,)), ((2, 0), (2, 1)), ((0,), (2,)), ((0,), ())],
    ids=["short", "long", "more labels", "fewer labels", "columns", "one latent", "one of both"],
)
def test_latents_and_labels_that_do_not_fit_are_named(
    generator: Generator, latents: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    z_dim = generator.info.z_dim
    shape = (*latents[:-1], latents[-1] + z_dim)
    with pytest.raises(InvalidValue) as refused:
        generator(torch.zeros(shape), torch.zeros(labels, dtype=torch.int64))
    assert f"latents {shape} and labels {labels} do not fit generator {generator.info.id!r}" in str(refused.value)
    assert f"give latents (B, {z_dim}) and labels (B,)" in str(refused.value)


@pytest.mark.parametrize("truncation", [0.0, -1.0, 1.01, float("nan")])
def test_a_biggan_refuses_a_truncation_without_statistics(folder: Path, truncation: float) -> None:
    generator = load_generator(f"biggan:{folder}")
    z, labels = rows(TINY, 2)
    with pytest.raises(InvalidValue, match=rf"truncation {truncation} must be in \(0, 1\]"):
        generator(z, labels, truncation)
