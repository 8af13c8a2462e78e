"""Minted images as a shard of `webdataset`, in a DataLoader: python examples/load_with_webdataset.py [URL]"""

import sys
import tempfile
from pathlib import Path

import webdataset
from torch.utils.data import DataLoader

import nonesuch


def main(url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minted.tar"
        with nonesuch.Client(url) as client:
            client.export(path, 200, seed=7)
        shard = webdataset.WebDataset(str(path), shardshuffle=False).decode("torchrgb").to_tuple("png", "cls")
        for x, y in DataLoader(shard, batch_size=50):  # (B, 3, H, W) float32 in [0, 1], (B,) int64
            print(f"{tuple(x.shape)}, labels {y[:10].tolist()} …")


if __name__ == "__main__":
    main(*sys.argv[1:])
