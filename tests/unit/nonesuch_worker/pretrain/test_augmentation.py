"""What the discriminator sees: DiffAugment, the perturbations of consistency regularisation, and how steps use them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from nonesuch_worker.pretrain.augmentation import diffaugment, perturb
from nonesuch_worker.pretrain.distributed import World
from nonesuch_worker.pretrain.feed import Feed
from nonesuch_worker.pretrain.loop import train
from nonesuch_worker.pretrain.losses import inconsistency
from nonesuch_worker.pretrain.players import Players
from nonesuch_worker.pretrain.steps import Steps
from tests.helpers.tiny_gan import changed, noise

HALF = 0.5  # the middle of U[0, 1): the change that changes nothing


def numbers(**given: float) -> Tensor:
    """One row for `diffaugment`: the middle, but for those given."""
    order = ("brightness", "saturation", "contrast", "down", "right", "row", "column")
    return torch.tensor([[given.get(name, HALF) for name in order]])


@pytest.fixture
def x() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_middle_of_every_colour_change_is_none(x: Tensor) -> None:
    torch.testing.assert_close(diffaugment(x, ["color"], numbers()), x)
    torch.testing.assert_close(diffaugment(x, ["color"], numbers(brightness=0.9)), x + 0.4)


def test_saturation_moves_colours_about_their_grey(x: Tensor) -> None:
    grey = x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(diffaugment(x, ["color"], numbers(saturation=0)), grey.expand_as(x))
    torch.testing.assert_close(diffaugment(x, ["color"], numbers(saturation=1)), grey + 2 * (x - grey))


def test_contrast_moves_pixels_about_the_image_s_mean(x: Tensor) -> None:
    torch.testing.assert_close(diffaugment(x, ["color"], numbers(contrast=0)), x.mean() + 0.5 * (x - x.mean()))


def test_translation_moves_by_up_to_an_eighth_and_zeros_come_in(x: Tensor) -> None:
    assert torch.equal(diffaugment(x, ["translation"], numbers()), x)
    moved = diffaugment(x, ["translation"], numbers(down=0.999, right=0))  # 2 px down, 2 px to the left
    assert torch.equal(moved[:, :, 2:, :-2], x[:, :, :-2, 2:])
    assert moved[:, :, :2].abs().max() == 0 and moved[:, :, :, -2:].abs().max() == 0


def test_cutout_takes_a_square_of_half_the_side(x: Tensor) -> None:
    cut = diffaugment(x, ["cutout"], numbers())
    gone = (cut == 0).all(dim=1)[0]
    assert gone.sum() == 64 and gone[4:12, 4:12].all()
    assert torch.equal(cut[:, :, ~gone], x[:, :, ~gone])
    corner = (diffaugment(x, ["cutout"], numbers(row=0, column=0.999)) == 0).all(dim=1)[0]
    assert corner.sum() == 16 and corner[:4, -4:].all(), "most of it lies outside"


def test_each_image_has_its_own_changes_and_gradients_flow() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, 16, 16, generator=rng).expand(6, -1, -1, -1).clone().requires_grad_()
    u = torch.rand(6, 7, generator=rng)
    changed_x = diffaugment(x, ["color", "translation", "cutout"], u)
    alone = torch.cat([diffaugment(x[i : i + 1], ["color", "translation", "cutout"], u[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(changed_x, alone)
    assert len({tuple(image.flatten().tolist()) for image in changed_x}) == 6
    diffaugment(x, ["translation", "cutout"], u).sum().backward()
    assert x.grad is not None
    assert x.grad.unique().tolist() == [0, 1], "what was cut or moved out has no say, the rest has"


def test_a_perturbation_shifts_and_mirrors_and_brings_in_nothing_new(x: Tensor) -> None:
    still = torch.tensor([[0.9, HALF, HALF]])
    assert torch.equal(perturb(x, still, flip=True), x)
    mirror = torch.tensor([[0.1, HALF, HALF]])
    assert torch.equal(perturb(x, mirror, flip=True), x.flip(3))
    assert torch.equal(perturb(x, mirror, flip=False), x)
    shifted = perturb(x, torch.tensor([[0.9, 0.999, HALF]]), flip=False)
    assert torch.equal(shifted[:, :, 2:], x[:, :, :-2])
    assert torch.equal(shifted[:, :, :2], x[:, :, :1].expand(-1, -1, 2, -1)), "the border, repeated"
    large = torch.arange(64.0).view(1, 1, 64, 1).expand(1, 1, 64, 64)
    assert perturb(large, torch.tensor([[0.9, 0.0, HALF]]), flip=False)[0, 0, 0, 0] == 4, "4 px from 64 px on"


def test_inconsistency_is_a_mean_square() -> None:
    assert inconsistency(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])).item() == 2.5


def test_both_kinds_of_images_are_changed_in_both_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real and generated images in the discriminator's step, generated ones in the generator's, with other numbers."""
    config = changed(diffaugment=("cutout",), n_dis=1)
    world = World(torch.device("cpu"))
    players = Players(config, world)
    seen: list[Tensor] = []
    players.discriminator.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    batch = next(iter(Feed(config, noise(), world)(0)))
    steps = Steps(config, players, world)
    fake_x, _ = steps.discriminator(batch)
    steps.generator(fake_x, batch)
    assert batch.augment is not None
    real_u, fake_u, again_u = batch.augment
    assert not torch.equal(fake_u, again_u)
    assert torch.equal(seen[0][:8], diffaugment(batch.real_x, ["cutout"], real_u))
    assert torch.equal(seen[0][8:], diffaugment(fake_x.detach(), ["cutout"], fake_u))
    assert torch.equal(seen[1], diffaugment(fake_x.detach(), ["cutout"], again_u))


def test_consistency_adds_its_weight_to_the_discriminator_s_loss() -> None:
    losses = []
    for weight in (1e-6, 10.0, 20.0):
        config, world = changed(consistency=weight), World(torch.device("cpu"))
        batch = next(iter(Feed(config, noise(), world)(0)))
        losses.append(Steps(config, Players(config, world), world).discriminator(batch)[1].item())
    assert losses[1] > losses[0] + 1e-4
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)


def test_augmentation_changes_no_other_number_of_a_run() -> None:
    world = World(torch.device("cpu"))
    plain, augmented = (
        list(Feed(config, noise(), world)(5))
        for config in (changed(), changed(diffaugment=("color",), consistency=1.0))
    )
    for one, other in zip(plain, augmented, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("real_x", "real_y", "z", "y"))
        assert one.augment is None and one.perturb is None
        assert other.augment is not None and other.perturb is not None
    first, second = augmented
    assert first.augment is not None and not torch.equal(first.augment, second.augment)  # type: ignore[arg-type]


def test_ranks_share_out_the_same_numbers() -> None:
    config = changed(diffaugment=("color",), consistency=1.0)
    cpu = torch.device("cpu")
    whole = next(iter(Feed(config, noise(), World(cpu))(3)))
    parts = [next(iter(Feed(config, noise(), World(cpu, rank, 2))(3))) for rank in range(2)]
    for name, dim in (("real_x", 0), ("real_y", 0), ("z", 0), ("y", 0), ("augment", 1), ("perturb", 0)):
        together = torch.cat([getattr(part, name) for part in parts], dim=dim)
        assert torch.equal(together, getattr(whole, name)), name
    with pytest.raises(ValueError, match="batch of 8 cannot be split evenly over 3 processes"):
        Feed(config, noise(), World(cpu, 0, 3))
    with pytest.raises(ValueError, match="with 2 or more for each"):
        Feed(config, noise(), World(cpu, 0, 8))


def test_a_run_may_have_all_of_it(tmp_path: Path) -> None:
    config = changed(diffaugment=("color", "translation", "cutout"), consistency=10.0, precision="bfloat16")
    assert train(config, noise(), tmp_path).name == "6"
