"""Minted images in Hugging Face's `datasets`, with their class names: python examples/load_with_datasets.py [URL]"""

import sys
import tempfile
from pathlib import Path

import datasets

import nonesuch


def main(url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minted.parquet"
        with nonesuch.Client(url) as client:
            client.export(path, 200, seed=7)
        rows = datasets.load_dataset("parquet", data_files=str(path), cache_dir=folder, split="train")
        label = rows.features["label"]
        print(rows)
        for row in rows.select(range(5)):
            print(
                f"{label.int2str(row['label'])}: {row['image'].size} pixels, by {row['generator']}, seed {row['seed']}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
