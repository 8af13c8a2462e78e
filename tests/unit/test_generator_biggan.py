"""BigGAN behind the protocol: against upstream's own forward pass, its statistics, its strictness."""

from pathlib import Path

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig

from nonesuch.errors import GeneratorNotFound, InvalidValue
from nonesuch_worker.generators.biggan import BigGANGenerator, interpolate, load, save_biggan, seeded_biggan
from nonesuch_worker.generators.biggan_folder import SAFE_WEIGHTS, UPSTREAM_WEIGHTS
from nonesuch_worker.generators.load import load_generator

CPU = torch.device("cpu")
CONFIG = BigGANConfig(
    output_dim=16,
    z_dim=8,
    class_embed_dim=8,
    channel_width=8,
    num_classes=5,
    layers=[(True, 16, 8), (False, 8, 8), (True, 8, 4), (False, 4, 2), (False, 2, 1)],
    attention_layer_position=2,
    n_stats=51,
)
LABELS = torch.tensor([0, 1, 4, 4])


@pytest.fixture
def model() -> BigGAN:
    return seeded_biggan(CONFIG, seed=0)


@pytest.fixture
def folder(model: BigGAN, tmp_path: Path) -> Path:
    return save_biggan(model, tmp_path / "tiny-biggan").path


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def upstream(model: BigGAN, z: torch.Tensor, truncation: float) -> torch.Tensor:
    with torch.no_grad():
        return model(z, torch.eye(5)[LABELS], truncation)


def test_seeded_weights_make_finite_images_that_depend_on_everything(model: BigGAN, z: torch.Tensor) -> None:
    images = upstream(model, z, 0.5)
    assert torch.isfinite(images).all()
    assert 0.1 < images.std() < 0.9
    assert not torch.allclose(images[2], images[3])  # two latents, one label
    one_latent = upstream(model, z[:1].expand(4, -1), 0.5)
    assert not torch.allclose(one_latent[0], one_latent[1])
    assert not torch.allclose(images, upstream(model, z, 0.3))
    assert torch.equal(images, upstream(seeded_biggan(CONFIG, seed=0), z, 0.5))


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.43, 0.58, 0.14])
def test_upstream_compatible_is_upstream_to_the_bit(
    model: BigGAN, folder: Path, z: torch.Tensor, truncation: float
) -> None:
    generator = load(f"{folder},upstream_compatible", CPU)
    assert torch.equal(generator(z, LABELS, truncation), upstream(model, z, truncation))
    assert generator.info.id == "tiny-biggan-upstream"


@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_agrees_with_upstream_where_statistics_are_stored(
    model: BigGAN, folder: Path, z: torch.Tensor, truncation: float
) -> None:
    generator = load_generator(str(folder))
    torch.testing.assert_close(generator(z, LABELS, truncation), upstream(model, z, truncation), atol=1e-5, rtol=1e-5)


def test_images_are_continuous_in_the_truncation_and_upstream_s_are_not(
    model: BigGAN, folder: Path, z: torch.Tensor
) -> None:
    generator = load_generator(str(folder))
    step = 1e-6

    def jump(images: object) -> float:
        return (images(0.5 + step) - images(0.5)).abs().max().item()

    assert jump(lambda t: generator(z, LABELS, t)) < 1e-3
    assert jump(lambda t: upstream(model, z, t)) > 0.05


@pytest.mark.parametrize("hundredths", range(0, 101, 2))
def test_interpolation_hits_every_stored_row(hundredths: int) -> None:
    rows = torch.arange(51.0)[:, None]
    assert interpolate(rows, hundredths / 100).item() == pytest.approx(hundredths / 2, abs=1e-5)


def test_interpolation_is_linear_between_rows() -> None:
    rows = torch.tensor([[0.0, 5.0], [1.0, 3.0], [4.0, 3.0]])
    assert interpolate(rows, 0.75).tolist() == [2.5, 3.0]


def test_no_truncation_means_the_statistics_of_one(folder: Path, z: torch.Tensor) -> None:
    generator = load_generator(str(folder))
    assert torch.equal(generator(z, LABELS), generator(z, LABELS, 1.0))
    for outside in (0.0, 1.5):
        with pytest.raises(InvalidValue, match=r"\(0, 1\]"):
            generator(z, LABELS, outside)


def test_is_differentiable_in_z_and_frozen(folder: Path, z: torch.Tensor) -> None:
    generator = load_generator(str(folder))
    z.requires_grad_()
    direction = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(generator(z, LABELS, 0.5).sum(), z)
    with torch.no_grad():
        there, back = (generator(z + s * direction, LABELS, 0.5).double().sum() for s in (1e-3, -1e-3))
    assert (gradient * direction).sum().item() == pytest.approx((there - back).item() / 2e-3, rel=0.05)
    assert isinstance(generator, BigGANGenerator)
    assert not any(p.requires_grad for p in generator._model.parameters())


def test_safetensors_are_the_same_generator(model: BigGAN, folder: Path, z: torch.Tensor, tmp_path: Path) -> None:
    safe = save_biggan(model, tmp_path / "safe", weights=SAFE_WEIGHTS).path
    assert torch.equal(load_generator(str(safe))(z, LABELS), load_generator(str(folder))(z, LABELS))


def test_describes_itself(folder: Path) -> None:
    info = load_generator(f"biggan:{folder}").info
    assert (info.id, info.family, info.image_shape, info.z_dim) == ("tiny-biggan", "biggan", (16, 16, 3), 8)
    assert info.class_names[4] == "class 4"
    (folder / "class_names.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    assert load_generator(str(folder)).info.class_names == ("ant", "bee", "cat", "dog", "eel")
    (folder / "class_names.json").write_text('["ant"]')
    with pytest.raises(InvalidValue, match="1 classes"):
        load_generator(str(folder))


def test_names_every_tensor_at_fault(model: BigGAN, folder: Path) -> None:
    tensors = dict(model.state_dict())
    del tensors["generator.bn.bias"]
    tensors["generator.spare"] = torch.zeros(1)
    tensors["generator.bn.weight"] = torch.zeros(3)
    tensors["embeddings.weight"] = torch.full((8, 5), torch.nan)
    torch.save(tensors, folder / UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue) as refused:
        load_generator(str(folder))
    for line in (
        "missing: generator.bn.bias",
        "extra: generator.spare",
        "misshapen: generator.bn.weight is (3,), not (8,)",
        "not finite: embeddings.weight",
    ):
        assert line in str(refused.value)


@pytest.mark.parametrize("weights", [SAFE_WEIGHTS, UPSTREAM_WEIGHTS])
def test_refuses_a_damaged_file(model: BigGAN, tmp_path: Path, weights: str) -> None:
    path = save_biggan(model, tmp_path / "broken", weights=weights).weights
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidValue, match="not a file of weights"):
        load_generator(str(path.parent))


def test_refuses_pickles_that_run_code(folder: Path) -> None:
    torch.save({"embeddings.weight": print}, folder / UPSTREAM_WEIGHTS)
    with pytest.raises(InvalidValue, match="not a file of weights"):
        load_generator(str(folder))


def test_says_what_a_folder_lacks(folder: Path) -> None:
    (folder / UPSTREAM_WEIGHTS).rename(folder / "elsewhere.bin")
    with pytest.raises(GeneratorNotFound, match=UPSTREAM_WEIGHTS):
        load_generator(str(folder))
    (folder / "elsewhere.bin").rename(folder / UPSTREAM_WEIGHTS)
    (folder / "config.json").unlink()
    with pytest.raises(GeneratorNotFound, match=r"config\.json"):
        load_generator(f"biggan:{folder}")


@pytest.mark.parametrize(("text", "said"), [('{"width": 3}', "width"), ("[]", "dict"), ("{", "not JSON")])
def test_refuses_a_configuration_that_is_none(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidValue, match=said):
        load_generator(str(folder))


def test_refuses_what_cannot_be_an_option_or_an_id(model: BigGAN, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="no option 'fast'"):
        load_generator(f"biggan:{folder},fast")
    with pytest.raises(InvalidValue, match="id"):
        load_generator(str(save_biggan(model, tmp_path / "my big gan").path))
