"""The two networks, their optimisers and the generator's moving average, as a seed starts them on a device."""

import torch

from nonesuch_worker.networks.compact import CompactGenerator
from nonesuch_worker.pretrain.checkpoint import TrainingState
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import Discriminator
from nonesuch_worker.pretrain.distributed import World
from nonesuch_worker.pretrain.ema import Ema
from nonesuch_worker.pretrain.randomness import RandomStream, generator_for


class Players:
    """What a run trains. Both networks are in train mode, the average is in eval mode."""

    def __init__(self, config: PretrainConfig, world: World) -> None:
        memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        with torch.random.fork_rng(devices=[]):  # on the CPU: a seed means the same weights on every device
            torch.manual_seed(generator_for(config.seed, RandomStream.INIT).initial_seed())
            generator = CompactGenerator(config.generator, config.init)
            discriminator = Discriminator(
                config.discriminator,
                image_size=config.generator.image_size,
                channels=config.generator.channels,
                classes=config.generator.classes,
                init=config.init,
            )
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)
        self.ema = Ema(generator.to(world.device), config.ema)
        self.generator = world.synchronised(generator).train()
        self.discriminator = discriminator.to(world.device).train()
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), config.generator_lr, config.betas)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), config.discriminator_lr, config.betas)
        self.state = TrainingState(
            networks={"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema.average},
            optimizers={"generator_adam": self.g_optimizer, "discriminator_adam": self.d_optimizer},
        )
        if config.compile:  # in place: parameters keep their names
            self.generator.compile()
            self.discriminator.compile()

    def set_rates(self, generator_lr: float, discriminator_lr: float) -> None:
        """The learning rates of the next steps."""
        self.g_optimizer.param_groups[0]["lr"] = generator_lr
        self.d_optimizer.param_groups[0]["lr"] = discriminator_lr
