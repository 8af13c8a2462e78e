"""A row remakes its image: of every strategy and every family, from its columns alone, to the last byte."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.plugins import names
from nonesuch.schema import images_of, read_batch, write_batch
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import Generator, to_uint8_NHWC
from nonesuch_worker.generators.biggan.loading import save_biggan, seeded_biggan
from nonesuch_worker.generators.conditioned.card import Card, CardBase, CardClassifier
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.conditioned.loading import ConditionedGenerator
from nonesuch_worker.generators.conditioned.network import InputNetwork
from nonesuch_worker.generators.load import families, load_generator
from nonesuch_worker.latents import ATTEMPTS, LATENT, latents
from nonesuch_worker.minting.minter import Classifier, Minter
from nonesuch_worker.strategies.registry import strategy
from tests.helpers.quadrants import CLASSES, Quadrants
from tests.helpers.tiny_biggan import TINY

COUNT = 10
PARAMS: dict[str, dict[str, Any]] = {
    "filtered": {"threshold": 0.01, "attempts": 8},
    "hsm": {"steps": 2, "verify": True, "attempts": 3},
    "mixture": {"weights": [1, 2]},
    "random": {},
    "select": {"k": 3},
}
SCALES = ({"sigma": 0.7}, {"sigma": 1.2}, {"truncation": 0.42}, {"truncation": 1 / 3})
"""None of these numbers is a float32."""


def conditioned(name: str) -> ConditionedGenerator:
    """An unconditional generator behind an input network of random weights."""
    base = Quadrants()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(len(name))
        network = InputNetwork(classes=CLASSES, z_dim=base.info.z_dim, hidden=8).requires_grad_(False)
    card = Card(
        name=name, description="", license="CC0-1.0", class_names=("a", "b", "c", "d"),
        image_shape=base.info.image_shape, z_dim=base.info.z_dim, real_information="none",
        base=CardBase(family="quadrants", argument="8", id=base.info.id, sha256=base.info.sha256),
        classifier=CardClassifier(channel="run", version=1, sha256="0" * 64),
        recipe=ConditionConfig(hidden=8), metrics={}, sha256="1" * 64,
    )  # fmt: skip
    return ConditionedGenerator(base, network.eval(), card)


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Generator, Generator]]:
    """Two generators of each family, alike in their images and classes."""
    folder: Path = save_biggan(seeded_biggan(TINY, seed=0), tmp_path_factory.mktemp("models") / "tiny").path
    return {
        "analytic": tuple(AnalyticGenerator(AnalyticParams(id=name, seed=len(name))) for name in ("one", "other")),
        "biggan": tuple(load_generator(f"biggan:{folder}{options}") for options in ("", ",upstream_compatible")),
        "compact": tuple(load_generator(name) for name in ("fashion-mnist", "fashion-mnist-s1")),
        "conditioned": (conditioned("one"), conditioned("other")),
    }


def judge(generator: Generator) -> Classifier:
    """A linear classifier of a generator's images."""
    shape, classes = generator.info.image_shape, len(generator.info.class_names)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes)).requires_grad_(False).eval()
    header = SnapshotHeader(
        channel="run", version=3, architecture="linear", image_shape=shape, classes=classes, mean=(0.5,) * shape[2],
        std=(0.5,) * shape[2], epoch=0, step=0, sha256="0" * 64,
    )  # fmt: skip
    return Classifier(network, header)


def minted(generators: Sequence[Generator], name: str, scale: dict[str, float]) -> pa.RecordBatch:
    """An order as it comes over the wire. Rows are made one at a time, as they are made again: the last bits of a sum
    depend on how many are computed together."""
    classes = range(len(generators[0].info.class_names))
    order = Order(
        id="order-1", generators=tuple(g.info.id for g in generators), strategy=name, params={**PARAMS[name], **scale},
        labels=Balanced(classes=tuple(classes)), count=COUNT, seed=2**62 + 1, sink="ring", ticket_size=COUNT,
    )  # fmt: skip
    judged = judge(generators[0])
    return read_batch(write_batch(Minter(generators, micro_batch=1).mint(Ticket(order, 0), judged, judged).batch))


def remade(row: dict[str, Any], generators: Sequence[Generator]) -> np.ndarray:
    """(H, W, C) uint8: the image of a row, from its columns alone."""
    (generator,) = (g for g in generators if (g.info.id, g.info.sha256) == (row["generator"], row["generator_sha256"]))
    if row["z"] is None:
        stream = LATENT if row["attempt"] == 0 else ATTEMPTS + row["attempt"]
        z = latents(
            row["seed"], np.array([row["index"]]), generator.info.z_dim, row["sigma"], row["truncation"], stream
        )
    else:
        z = np.array([row["z"]], np.float32)
    with torch.no_grad():
        return to_uint8_NHWC(generator(torch.from_numpy(z), torch.tensor([row["label"]]), row["truncation"]))[0].numpy()


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", names("nonesuch.strategies"))
@pytest.mark.parametrize("family", families())
def test_a_row_remakes_its_image(
    family: str, name: str, scale: dict[str, float], hosted: dict[str, tuple[Generator, Generator]]
) -> None:
    generators = hosted[family][: 2 if strategy(name).mixes else 1]
    batch = minted(generators, name, scale)
    assert batch.num_rows, "every row was rejected"
    rows = batch.drop_columns(["image"]).to_pylist()
    for row, image in zip(rows, images_of(batch), strict=True):
        assert {key: row[key] for key in scale} == scale
        assert np.array_equal(remade(row, generators), image), f"index {row['index']}"
