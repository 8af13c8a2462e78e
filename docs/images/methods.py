"""Make `mined.png`, `filtered.png` and `acceptance.png`, the pictures of docs/methods.md.

    nonesuch train trainer/configs/teacher.toml
    nonesuch train trainer/configs/smoothing.toml
    python docs/images/methods.py --classifier runs/smoothing --teacher runs/teacher

The first images of each class that fit are shown; none is chosen by hand.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.snapshot import load_on_generated
from nonesuch_trainer.reporting.acceptance import save_acceptance
from nonesuch_worker.generators.base import Generator, from_uint8_NHWC, to_uint8_NHWC
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.latents import latents
from nonesuch_worker.strategies.base import MintContext
from nonesuch_worker.strategies.filtered import Filtered, FilteredParams
from nonesuch_worker.strategies.mining import MiningParams, mine

HERE = Path(__file__).parent
STEPS = (0, 5, 10, 20)
ETA = 0.05
THRESHOLD = 0.9
TRIED = 6000
KEPT = 2000
ROWS = 2
SEED = 2019


def classifier(path: Path) -> nn.Module:
    return load_on_generated(*read_classifier(path))


def draw(generator: Generator, n: int) -> tuple[Tensor, Tensor]:
    """Latents (n, Z) and labels (n,), classes in turns."""
    indices = np.arange(n)
    z = torch.from_numpy(latents(SEED, indices, generator.info.z_dim))
    return z, torch.from_numpy(indices % len(generator.info.class_names))


def mined_picture(generator: Generator, pupil: nn.Module, path: Path) -> None:
    """A column for each class: a random image, and what more and more steps make of it."""
    names = generator.info.class_names
    z, labels = draw(generator, len(names))
    rows: list[tuple[str, NDArray[np.uint8], list[str]]] = []
    for steps in STEPS:
        x = generator(z, labels)
        if steps:
            x = mine(lambda z: generator(z, labels), pupil, z, labels, MiningParams(steps=steps, eta=ETA)).images
        probability, predicted = pupil(x).softmax(dim=1).max(dim=1)
        says = [f"{names[k]} {p:.2f}" for k, p in zip(predicted.tolist(), probability.tolist(), strict=True)]
        rows.append((f"{steps} steps" if steps else "random", to_uint8_NHWC(x).numpy(), says))
    save(path, rows, names)


def filtered_picture(generator: Generator, teacher: nn.Module, path: Path) -> None:
    """A column for each class: accepted images, those rejected by their label, and those rejected by the threshold."""
    names = generator.info.class_names
    z, labels = draw(generator, TRIED)
    images = to_uint8_NHWC(torch.cat([generator(a, b) for a, b in zip(z.split(500), labels.split(500), strict=True)]))
    p = torch.cat([teacher(from_uint8_NHWC(part)).softmax(dim=1) for part in images.split(500)])  # (n, K)
    predicted, sure = p.argmax(dim=1), p.gather(1, labels[:, None])[:, 0]
    right = predicted == labels
    verdicts = {
        "accepted": right & (sure > THRESHOLD),
        "rejected: label": ~right,
        f"rejected: p ≤ {THRESHOLD}": right & (sure <= THRESHOLD),
    }
    rows = []
    for title, verdict in verdicts.items():
        for turn in range(ROWS):
            line = np.full((len(names), *generator.info.image_shape), 255, np.uint8)
            says = []
            for k in range(len(names)):
                found = torch.nonzero(verdict & (labels == k))[:, 0].tolist()
                says.append("")
                if len(found) > turn:
                    chosen = found[turn]
                    line[k] = images[chosen].numpy()
                    says[k] = f"{names[int(predicted[chosen])]} {float(p[chosen].max()):.2f}"
            rows.append((title if turn == 0 else "", line, says))
    save(path, rows, names)


def acceptance_picture(generator: Generator, teacher: nn.Module, path: Path) -> None:
    """What became of every latent that was tried for 2,000 images (Pham et al. 2019, figures 6 and 7)."""
    names = generator.info.class_names
    indices = np.arange(KEPT)
    context = MintContext(
        seed=SEED,
        indices=indices,
        labels=(indices % len(names)).astype(np.int32),
        generators=(generator,),
        params=FilteredParams(threshold=THRESHOLD),
        classifier=None,
        teacher=teacher,
        device=generator.device,
    )
    save_acceptance(path, Filtered().mint(context).tally, names)


def save(path: Path, rows: Sequence[tuple[str, NDArray[np.uint8], list[str]]], names: Sequence[str]) -> None:
    """Rows of (title, images (K, H, W, 1), what the classifier says of each), a column for each class."""
    figure = Figure(figsize=(1.05 * len(names) + 1, 1.25 * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(names))
    for i, (title, images, says) in enumerate(rows):
        for k, name in enumerate(names):
            ax = axes[i, k]
            ax.imshow(images[k].squeeze(-1), cmap="gray", vmin=0, vmax=255)
            ax.set_xticks([])
            ax.set_yticks([])
            wrong = not says[k].startswith(f"{name} ")
            ax.set_xlabel(says[k], fontsize=6.5, labelpad=2, color="firebrick" if wrong else "black")
            if i == 0:
                ax.set_title(name, fontsize=8)
            if k == 0:
                ax.set_ylabel(title, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifier", type=Path, required=True, help="what is mined against")
    parser.add_argument("--teacher", type=Path, required=True, help="what filters")
    parser.add_argument("--generator", default="fashion-mnist")
    given = parser.parse_args()
    generator = load_generator(given.generator)
    with torch.no_grad():
        mined_picture(generator, classifier(given.classifier), HERE / "mined.png")
        filtered_picture(generator, classifier(given.teacher), HERE / "filtered.png")
        acceptance_picture(generator, classifier(given.teacher), HERE / "acceptance.png")


if __name__ == "__main__":
    main()
