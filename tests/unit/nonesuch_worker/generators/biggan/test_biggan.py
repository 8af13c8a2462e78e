"""BigGAN behind the protocol: against upstream's own forward pass, its statistics, its strictness."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN
from safetensors.torch import save_file

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch_worker.generators.biggan.folder import SAFE_WEIGHTS, UPSTREAM_WEIGHTS
from nonesuch_worker.generators.biggan.loading import BigGANGenerator, load, save_biggan, seeded_biggan
from nonesuch_worker.generators.load import load_generator
from tests.helpers.tiny_biggan import TINY, upstream_images

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 1, 4, 4])


@pytest.fixture
def model() -> BigGAN:
    return seeded_biggan(TINY, seed=0)


@pytest.fixture
def folder(model: BigGAN, tmp_path: Path) -> Path:
    return save_biggan(model, tmp_path / "tiny-biggan").path


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def with_card(folder: Path, **said: object) -> None:
    """Give a folder a card that fits it, but for what is said."""
    card = {
        "format": "nonesuch-biggan-1",
        "family": "biggan",
        "name": "carded",
        "sha256": hashlib.sha256((folder / SAFE_WEIGHTS).read_bytes()).hexdigest(),
        "architecture": json.loads((folder / "config.json").read_text()),
    }
    (folder / "card.json").write_text(json.dumps({**card, **said}))


def upstream(model: BigGAN, z: torch.Tensor, truncation: float) -> torch.Tensor:
    with torch.no_grad():
        return upstream_images(model, z, LABELS, truncation)


def test_seeded_weights_make_finite_images_that_depend_on_everything(model: BigGAN, z: torch.Tensor) -> None:
    images = upstream(model, z, 0.5)
    assert torch.isfinite(images).all()
    assert 0.1 < images.std() < 0.9
    assert not torch.allclose(images[2], images[3])  # two latents, one label
    one_latent = upstream(model, z[:1].expand(4, -1), 0.5)
    assert not torch.allclose(one_latent[0], one_latent[1])
    assert not torch.allclose(images, upstream(model, z, 0.3))
    assert torch.equal(images, upstream(seeded_biggan(TINY, seed=0), z, 0.5))


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.425, 0.58, 0.14])
def test_upstream_compatible_is_upstream(model: BigGAN, folder: Path, z: torch.Tensor, truncation: float) -> None:
    generator = load(f"{folder},upstream_compatible", CPU)
    torch.testing.assert_close(generator(z, LABELS, truncation), upstream(model, z, truncation), atol=1e-5, rtol=1e-5)
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
    assert not list(generator.network.parameters())


def test_describes_itself(folder: Path) -> None:
    info = load_generator(f"biggan:{folder}").info
    assert (info.id, info.family, info.image_shape, info.z_dim) == ("tiny-biggan", "biggan", (16, 16, 3), 8)
    assert info.class_names[4] == "class 4"
    (folder / "class_names.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    assert load_generator(str(folder)).info.class_names == ("ant", "bee", "cat", "dog", "eel")
    (folder / "class_names.json").write_text('["ant"]')
    with pytest.raises(InvalidValue, match=r"class_names\.json has 1 class names and the generator has 5 classes"):
        load_generator(str(folder))


def test_a_card_goes_before_what_the_folder_says(folder: Path, z: torch.Tensor) -> None:
    with_card(folder, name="fauna", license="MIT", class_names=list("vwxyz"), max_sigma=1.25)
    generator = load_generator(str(folder))
    info = generator.info
    assert (info.id, info.license, info.class_names, info.max_sigma) == ("fauna", "MIT", tuple("vwxyz"), 1.25)
    (folder / "card.json").unlink()
    assert load_generator(str(folder)).info.max_sigma == 2.0
    assert torch.equal(load_generator(str(folder))(z, LABELS), generator(z, LABELS))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sha256": "0" * 64}, "model.safetensors has sha256 .*, but its card says 0000"),
        ({"format": "something-else"}, "not a card of format nonesuch-biggan-1"),
        ({"sha256": None}, "not a card of format nonesuch-biggan-1 with a sha256"),
        ({"architecture": {"z_dim": 9}}, r"config\.json and the architecture on the card differ in .*z_dim"),
    ],
)
def test_a_card_of_something_else_is_refused(folder: Path, said: dict[str, object], message: str) -> None:
    with_card(folder, **said)
    with pytest.raises(IntegrityError, match=message):
        load_generator(str(folder))


@pytest.mark.parametrize("max_sigma", [0, -1, float("nan"), "wide"])
def test_a_max_sigma_that_cannot_be(folder: Path, max_sigma: object) -> None:
    with_card(folder, max_sigma=max_sigma)
    with pytest.raises(InvalidValue, match="max_sigma"):
        load_generator(str(folder))


def test_names_every_tensor_at_fault(model: BigGAN, folder: Path) -> None:
    tensors = dict(model.state_dict())
    del tensors["generator.bn.bias"]
    tensors["generator.spare"] = torch.zeros(1)
    tensors["generator.bn.weight"] = torch.zeros(3)
    tensors["generator.bn.running_vars"] = tensors["generator.bn.running_vars"].half()
    tensors["embeddings.weight"] = torch.full((8, 5), torch.nan)
    save_file(tensors, folder / SAFE_WEIGHTS)
    with pytest.raises(InvalidValue, match=r"model\.safetensors") as refused:
        load_generator(str(folder))
    for line in (
        "missing generator.bn.bias",
        "extra generator.spare",
        "generator.bn.weight is (3,), not (8,)",
        "generator.bn.running_vars is torch.float16, not torch.float32",
        "embeddings.weight has values that are not finite",
    ):
        assert line in str(refused.value)


def test_refuses_a_damaged_file(folder: Path) -> None:
    path = folder / SAFE_WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidValue, match="not a file of weights"):
        load_generator(str(folder))


def test_upstream_s_pickle_is_refused_with_the_command_that_converts_it(model: BigGAN, tmp_path: Path) -> None:
    folder = save_biggan(model, tmp_path / "from upstream", weights=UPSTREAM_WEIGHTS).path
    for source in (str(folder), f"biggan:{folder}", f"biggan:{folder},upstream_compatible"):
        with pytest.raises(InvalidValue) as refused:
            load_generator(source)
        assert f"{folder / UPSTREAM_WEIGHTS} is a pickle from an unnamed source" in str(refused.value)
        assert f"nonesuch generators add '{folder}' --source 'where it comes from'" in str(refused.value)


def test_says_what_a_folder_lacks(folder: Path) -> None:
    (folder / SAFE_WEIGHTS).rename(folder / "elsewhere.safetensors")
    with pytest.raises(GeneratorNotFound, match=SAFE_WEIGHTS):
        load_generator(str(folder))
    (folder / "elsewhere.safetensors").rename(folder / SAFE_WEIGHTS)
    (folder / "config.json").unlink()
    with pytest.raises(GeneratorNotFound, match=r"config\.json"):
        load_generator(f"biggan:{folder}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"width": 3}', "width"),
        ("[]", "dict"),
        ("{", "not JSON"),
        ('{"layers": 3}', "cannot be built"),
        ('{"layers": [[true, 16]]}', "cannot be built"),
    ],
)
def test_refuses_a_configuration_that_is_none(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidValue, match=said):
        load_generator(str(folder))


def test_refuses_what_cannot_be_an_option_or_an_id(model: BigGAN, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="no option 'fast'"):
        load_generator(f"biggan:{folder},fast")
    with pytest.raises(InvalidValue, match="id"):
        load_generator(str(save_biggan(model, tmp_path / "my big gan").path))
