"""The same in the style of Lightning: a module, a callback that refreshes the dataset, and a trainer that calls both.

    nonesuch up &
    python examples/lightning_style.py [URL]

`Refresh` is a callback for Lightning as it is; make `Classifier` a LightningModule, and take its Trainer for ours. With
Lightning, `state_dict` and `load_state_dict` of the callback are in every checkpoint, and so is the dataset.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import nonesuch

EPOCHS = 3


class Classifier(nn.Module):
    """What a LightningModule has: a step, and its optimiser."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


class Refresh:
    """After every epoch, mine against the network as it is now and replace a part of the dataset."""

    def __init__(self, ds: nonesuch.SmoothedDataset) -> None:
        self.ds = ds

    def on_train_epoch_end(self, trainer: Any, module: Classifier) -> None:
        self.ds.publish(module.network)
        done = self.ds.refresh()
        print(f"epoch {trainer.current_epoch}: {done.replaced} images replaced, mined {done.age} versions ago")

    def state_dict(self) -> dict[str, Any]:
        return self.ds.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ds.load_state_dict(state)


class Trainer:
    """As much of a trainer as it takes."""

    def __init__(self, max_epochs: int, callbacks: list[Refresh]) -> None:
        self.max_epochs, self.callbacks, self.current_epoch = max_epochs, callbacks, 0

    def fit(self, module: Classifier, loader: DataLoader[tuple[Tensor, int]]) -> None:
        optimiser = module.configure_optimizers()
        for epoch in range(self.max_epochs):
            self.current_epoch = epoch
            for i, batch in enumerate(loader):
                loss = module.training_step(batch, i)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            for callback in self.callbacks:
                callback.on_train_epoch_end(self, module)


def main(url: str | None = None) -> None:
    torch.manual_seed(0)
    with nonesuch.SmoothedDataset(url, size=500, staleness=0) as ds:
        module = Classifier(ds.classifier("resnet18", width=4))
        Trainer(EPOCHS, [Refresh(ds)]).fit(module, DataLoader(ds, batch_size=50, shuffle=True))
        print(ds.age())


if __name__ == "__main__":
    main(*sys.argv[1:])
