"""What each of two processes does in the tests of `nonesuch_worker.pretrain.distributed`.

Torchrun starts it with the folder to work in. It is one module, so that the processes, slow to start, start once.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from nonesuch.host.process import ensure_cpu_settings
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.distributed import World, joined
from nonesuch_worker.pretrain.feed import Feed
from nonesuch_worker.pretrain.loop import train
from nonesuch_worker.pretrain.players import Players
from nonesuch_worker.pretrain.steps import Steps
from tests.helpers.tiny_gan import TINY, changed, noise


def weights_after(config: PretrainConfig, world: World) -> dict[str, str]:
    """A digest of each tensor that a rank has after two iterations, by its name; BN's own statistics left out."""
    players = Players(config, world)
    feed, steps = Feed(config, noise(), world), Steps(config, players, world)
    for iteration in range(2):
        for batch in feed(iteration):
            fake_x, _ = steps.discriminator(batch)
        steps.generator(fake_x, batch)
        players.ema.update(players.generator, iteration)  # type: ignore[arg-type]
    return {
        f"{name}/{key}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for name, network in players.state.networks.items()
        for key, tensor in network.state_dict().items()
        if "running" not in key
    }


def averaged(world: World) -> list[float]:
    """A gradient of (1, 2) here and (3, 4) there, averaged."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[1.0, 2.0]]) + 2 * world.rank
    world.average(layer)
    result: list[float] = layer.weight.grad.flatten().tolist()
    return result


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as world:
        config = changed(diffaugment=("color", "cutout"), consistency=1.0)
        report: dict[str, object] = {
            "rank": world.rank,
            "averaged": averaged(world),
            "agreed": world.agree((torch.tensor(1.0 + world.rank),), stop=world.rank == 1),
            "weights": weights_after(config, world),
        }
        own = train(config, noise(), folder / f"of-rank-{world.rank}")
        shared = folder / "shared"
        stopped = train(config, noise(), shared, should_stop=lambda done: world.rank == 1 and done == 3)
        resumed = train(config, noise(), shared)
        report["results"] = [path.name for path in (own, stopped, resumed)]
        try:
            train(TINY.model_copy(update={"batch": 9}), noise(), folder / "refused")
        except ValueError as error:
            report["refused"] = str(error)
        reports = [None] * world.size
        dist.all_gather_object(reports, report)
        threads = len(os.listdir("/proc/self/task"))
    assert len(os.listdir("/proc/self/task")) < threads, "the group's threads outlive it"
    if world.leads:
        (folder / "reports.json").write_text(json.dumps(reports))


if __name__ == "__main__":
    ensure_cpu_settings()  # starts this process again, as the command does
    main(Path(sys.argv[1]))
