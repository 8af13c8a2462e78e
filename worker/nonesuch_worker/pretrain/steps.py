"""One step of each network.

    real ──► augment ──┬──────────────┐
                       └─► perturb ───┤ (consistency)
    z, y ──► generator ──► augment ───┴─► discriminator ──► losses

Shapes: B samples, C channels, H and W the image's sides.
"""

import torch
from torch import Tensor

from nonesuch_worker.pretrain.augmentation import diffaugment, perturb
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.distributed import World
from nonesuch_worker.pretrain.feed import Minibatch
from nonesuch_worker.pretrain.losses import discriminator_hinge, generator_hinge, inconsistency
from nonesuch_worker.pretrain.players import Players


class Steps:
    """How the networks of a run learn from a minibatch; changes the players in place."""

    def __init__(self, config: PretrainConfig, players: Players, world: World) -> None:
        self._config, self._players, self._world = config, players, world
        self._autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bfloat16")

    def discriminator(self, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """Teach the discriminator. Returns the generated images (B, C, H, W), with their graph, and its loss."""
        config, players = self._config, self._players
        with self._autocast:
            fake_x: Tensor = players.generator(batch.z, batch.y)  # (B, C, H, W)
            seen_x = [batch.real_x, fake_x.detach().float()]
            seen_y = [batch.real_y, batch.y]
            if batch.augment is not None:
                seen_x = [diffaugment(x, config.diffaugment, u) for x, u in zip(seen_x, batch.augment[:2], strict=True)]
            if batch.perturb is not None:
                seen_x.append(perturb(seen_x[0], batch.perturb, flip=config.flip))
                seen_y.append(batch.real_y)
            scores = players.discriminator(torch.cat(seen_x), torch.cat(seen_y))  # (2B,) or (3B,)
        real_scores, fake_scores, *perturbed_scores = scores.chunk(len(seen_x))
        loss = discriminator_hinge(real_scores, fake_scores)
        if perturbed_scores:
            loss = loss + config.consistency * inconsistency(real_scores, perturbed_scores[0])
        players.d_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._world.average(players.discriminator)
        players.d_optimizer.step()
        return fake_x, loss

    def generator(self, fake_x: Tensor, batch: Minibatch) -> Tensor:
        """Teach the generator. It answers for the images that the discriminator has just learned from: one forward pass
        less. Returns its loss.
        """
        players = self._players
        players.discriminator.requires_grad_(False)
        with self._autocast:
            if batch.augment is not None:
                fake_x = diffaugment(fake_x.float(), self._config.diffaugment, batch.augment[2])
            loss = generator_hinge(players.discriminator(fake_x, batch.y))
        players.g_optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._world.average(players.generator)
        players.g_optimizer.step()
        players.discriminator.requires_grad_(True)
        return loss
