"""What an iteration learns from: real images, latents, and the random numbers of augmentations.

All of it is a function of (seed, iteration); a rank gets its slice of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.pretrain.augmentation import DIFFAUGMENT_NUMBERS, PERTURB_NUMBERS
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.distributed import World
from nonesuch_worker.pretrain.randomness import EpochOrder, RandomStream, draw_latents, generator_for


@dataclass(frozen=True, eq=False)
class Minibatch:
    """A rank's share, B samples, of one step of the discriminator (and of the generator's, if it is the last one).

    Attributes:
        real_x: (B, C, H, W) float32 in [-1, 1].
        real_y: (B,) int64.
        z: (B, Z) float32, N(0, I).
        y: (B,) int64, the labels of the latents.
        augment: (3, B, 7) U[0, 1) for DiffAugment of the real images, of the generated ones, and of those once more in
            the generator's step; None without DiffAugment.
        perturb: (B, 3) U[0, 1) for consistency regularisation; None without it.
    """

    real_x: Tensor
    real_y: Tensor
    z: Tensor
    y: Tensor
    augment: Tensor | None
    perturb: Tensor | None


class Feed:
    """The minibatches of a run, iteration by iteration."""

    def __init__(self, config: PretrainConfig, real: RealImages, world: World) -> None:
        """Raises `InvalidValue` when the batch cannot be split over the world's ranks."""
        self._config, self._device = config, world.device
        self._images = torch.from_numpy(real.images).permute(0, 3, 1, 2)  # (N, C, H, W) uint8
        self._labels = torch.from_numpy(real.labels).long()  # (N,)
        self._order = EpochOrder(len(real), config.batch, config.seed)
        self._mine = world.slice_of(config.batch)

    def __call__(self, iteration: int) -> Iterator[Minibatch]:
        """The `n_dis` minibatches of an iteration, counted from 0."""
        config, mine = self._config, self._mine
        rng = generator_for(config.seed, RandomStream.LATENTS, iteration)
        for step in range(iteration * config.n_dis, (iteration + 1) * config.n_dis):
            rows = self._order[step][mine]
            mirrored = torch.rand(config.batch, generator=rng)[mine] < 0.5 if config.flip else None
            z, y = draw_latents(config.batch, config.generator.z_dim, config.generator.classes, rng)
            augment = perturb = None
            if config.diffaugment:
                augment_rng = generator_for(config.seed, RandomStream.AUGMENTATION, step)
                augment = torch.rand(3, config.batch, DIFFAUGMENT_NUMBERS, generator=augment_rng)
                augment = augment[:, mine].to(self._device)
            if config.consistency:
                perturb_rng = generator_for(config.seed, RandomStream.CONSISTENCY, step)
                perturb = torch.rand(config.batch, PERTURB_NUMBERS, generator=perturb_rng)[mine].to(self._device)
            yield Minibatch(
                real_x=self._floats(rows, mirrored),
                real_y=self._labels[rows].to(self._device),
                z=z[mine].to(self._device),
                y=y[mine].to(self._device),
                augment=augment,
                perturb=perturb,
            )

    def _floats(self, rows: Tensor, mirrored: Tensor | None) -> Tensor:
        """Images (B, C, H, W) float32 in [-1, 1], those `mirrored` (B,) from left to right."""
        x_NCHW = self._images[rows].to(self._device).float().div_(127.5).sub_(1)
        if mirrored is not None:
            x_NCHW = torch.where(mirrored.to(self._device)[:, None, None, None], x_NCHW.flip(3), x_NCHW)
        return x_NCHW.to(memory_format=torch.channels_last if self._config.channels_last else torch.contiguous_format)


def check_fit(config: PretrainConfig, real: RealImages) -> None:
    """Raise `InvalidValue` when a run of `config` cannot learn from these images."""
    wanted = (config.generator.image_size, config.generator.image_size, config.generator.channels)
    if real.images.shape[1:] != wanted:
        raise InvalidValue(
            f"{real.name} has images {real.images.shape[1:]}, but the generator makes {wanted}: set "
            "generator.image_size and generator.channels"
        )
    if len(real.class_names) != config.generator.classes:
        raise InvalidValue(
            f"{real.name} has {len(real.class_names)} classes, but generator.classes is {config.generator.classes}: "
            "make them equal"
        )
    if len(real) < config.batch:
        raise InvalidValue(f"{real.name} has {len(real)} images, fewer than one batch of {config.batch}")


def unlabelled(real: RealImages) -> RealImages:
    """The same images, all of one class."""
    return RealImages(real.images, real.labels * 0, ("anything",), real.name)
