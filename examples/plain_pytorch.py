"""A PyTorch loop of your own on images that do not exist, half of the new ones mined against your model.

    nonesuch up &
    python examples/plain_pytorch.py [URL]

URL is that of the gateway, or redis://… of the service's Redis.
"""

import sys

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import nonesuch

EPOCHS = 3


def main(url: str | None = None) -> None:
    torch.manual_seed(0)
    with nonesuch.SmoothedDataset(url, size=500, replace=0.5, mined=0.5) as ds:
        model = ds.classifier("resnet18", width=4)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for epoch in range(1, EPOCHS + 1):
            right = 0
            for x, y in DataLoader(ds, batch_size=50, shuffle=True):  # (B, C, H, W) float32 in [-1, 1], (B,) int64
                logits = model(x)
                optimiser.zero_grad()
                F.cross_entropy(logits, y).backward()
                optimiser.step()
                right += int((logits.argmax(1) == y).sum())
            print(f"epoch {epoch}: {right / len(ds):.1%} right, on {ds.age()}")
            if epoch < EPOCHS:
                ds.publish(model)
                ds.refresh()


if __name__ == "__main__":
    main(*sys.argv[1:])
