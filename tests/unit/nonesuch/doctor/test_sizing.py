"""`nonesuch doctor --plan`: its defaults are the service's, its figures are of what is really kept."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nonesuch import snapshots
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import dump
from nonesuch.cli.main import make_app
from nonesuch.config import validated
from nonesuch.doctor import maxmemory
from nonesuch.doctor.plan import KNOWN, MIB, MemoryLimits, Setup
from nonesuch.doctor.sizing import SHORT_COMMANDS, allocated, redis_lines, resident_row_bytes, slot_bytes
from nonesuch.errors import InvalidValue
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.schema import batch_bytes
from nonesuch.smoothed import over_redis
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_worker.generators.load import load_generator

WEIGHTS = Path(__file__).parents[4] / "worker/nonesuch_worker/generators/weights"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        maxmemory.SETTING,
        "NONESUCH_REDIS_URL",
        *(f"NONESUCH_GATEWAY_{f.upper()}" for f in MemoryLimits.model_fields),
    ):
        monkeypatch.delenv(name, raising=False)


def test_the_gateway_s_limits_have_its_names_and_defaults() -> None:
    settings = GatewaySettings()
    assert MemoryLimits().model_dump() == {name: getattr(settings, name) for name in MemoryLimits.model_fields}
    assert settings.redis_connections == settings.max_streams + SHORT_COMMANDS


def test_the_other_defaults_are_the_trainer_s() -> None:
    setup, config = Setup(), TrainConfig(run="any")
    dataset = config.dataset
    assert (setup.images, setup.replacement, setup.ring_slots) == (
        dataset.size,
        dataset.replacement,
        dataset.ring_slots,
    )
    assert setup.ring_slots == over_redis.SLOTS
    assert setup.snapshots_kept == inspect.signature(snapshots.publish).parameters["keep"].default
    classifier = build(config.classifier, in_channels=1, classes=10, image_size=28)
    assert setup.snapshot_mb - 0.2 < len(dump(classifier)) / 1e6 <= setup.snapshot_mb


def test_the_embedded_generator_is_known_as_it_is() -> None:
    info, known = load_generator("fashion-mnist", torch.device("cpu")).info, KNOWN["fashion-mnist"]
    assert (known.side, known.side, known.channels) == info.image_shape
    assert (known.classes, known.z_dim) == (len(info.class_names), info.z_dim)
    size = (WEIGHTS / "fashion-mnist/generator.safetensors").stat().st_size / 1e6
    assert size <= known.weights_mb < size + 0.5
    assert batch_bytes(info, 64) <= slot_bytes(Setup()) < 1.05 * batch_bytes(info, 64)


def test_values_take_a_quarter_more_at_most() -> None:
    assert [allocated(size) for size in (2**20 - 12, 2**20, 4 * 2**20)] == [2**20, 1.25 * 2**20, 5 * 2**20]
    sizes = np.unique(np.logspace(16, 23, 2000, base=2).astype(int)).tolist()
    assert all(size < allocated(size) <= 1.25 * (size + 12) for size in sizes)


@pytest.mark.parametrize("soft_classes", [0, 10])
def test_rows_of_a_resident_dataset(soft_classes: int) -> None:
    n, shape = 50, (6, 5, 3)
    images = LabelledImages(
        images=np.zeros((n, *shape), np.uint8),
        labels=np.zeros(n, np.int32),
        seeds=np.zeros(n, np.int64),
        indices=np.zeros(n, np.int64),
        snapshots=np.zeros(n, np.int64),
        soft=np.zeros((n, soft_classes), np.float16) if soft_classes else None,
    )
    columns = [c for c in vars(ResidentDataset.of(images, torch.device("cpu"))).values() if c is not None]
    assert sum(column.nbytes for column in columns) == n * resident_row_bytes(shape, soft_classes)


def test_what_grows_with_what() -> None:
    def of(**given: object) -> dict[str, int]:
        return {line.what: line.bytes for line in redis_lines(validated(Setup, given, "the plan"))}

    base, two = of(), of(trainers=2, gateways=2, workers=2)
    assert {what for what in base if base[what] == two[what]} == {
        "rings of orders over HTTP",
        "open orders",
        "Redis itself",
    }
    assert two["rings of trainers"] == 2 * base["rings of trainers"]
    assert of(generator="biggan-deep-128")["rings of trainers"] > 30 * base["rings of trainers"]
    assert of(trainers=0)["snapshots"] == 0


@pytest.mark.parametrize(
    ("text", "size"), [("1gb", 2**30), ("1G", 10**9), ("1536mb", 1536 * MIB), ("100", 100), (" 5kb ", 5120)]
)
def test_sizes_are_written_as_in_redis_conf(text: str, size: int) -> None:
    assert maxmemory.parse_bytes(text, "x") == size


@pytest.mark.parametrize("text", ["", "gb", "1.5gb", "-1", "1tb", "one"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match=r"MAX .* as 1gb"):
        maxmemory.parse_bytes(text, "MAX")


def run(*options: str, **env: str):
    return CliRunner().invoke(make_app(), ["doctor", "--plan", *options], env=env)


def test_the_default_setup_fits_into_the_default_redis() -> None:
    done = run(NONESUCH_REDIS_MAXMEMORY=f"{PrivateRedis().max_memory_mb}mb")
    assert done.exit_code == 0, done.output
    assert "rings of replies" in done.output and "1 gateway × max_reply_bytes 512 MiB × 1.25" in done.output
    assert "ok   NONESUCH_REDIS_MAXMEMORY=1024mb: 1024 MiB" in done.output


def test_too_little_fails_with_the_remedy() -> None:
    done = run("--generator", "biggan-deep-256", "--workers", "4", NONESUCH_REDIS_MAXMEMORY="1gb")
    assert done.exit_code == 1
    assert "FAIL NONESUCH_REDIS_MAXMEMORY=1gb" in done.output
    assert "→ set NONESUCH_REDIS_MAXMEMORY=1792mb, or lower what takes the most" in done.output
    lowered = {"NONESUCH_GATEWAY_MAX_REPLY_BYTES": str(64 * MIB), "NONESUCH_GATEWAY_MAX_STREAMS": "16"}
    done = run("--generator", "biggan-deep-256", "--workers", "4", NONESUCH_REDIS_MAXMEMORY="1gb", **lowered)
    assert done.exit_code == 0, done.output


def test_the_redis_that_runs_is_asked(redis_url: str) -> None:
    done = run(NONESUCH_REDIS_URL=redis_url)  # of 512 MiB
    assert done.exit_code == 1
    assert f"FAIL Redis at {redis_url}: 512 MiB" in done.output and "set its maxmemory to 1024mb" in done.output
    done = run(NONESUCH_REDIS_URL="unix:///nowhere/redis.sock")
    assert done.exit_code == 0 and "note running Redis: it was not asked" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--side", "0"], "side: Input should be greater"),
        (["--replacement", "2"], "replacement: Input should be less"),
        (
            ["--generator", "mine"],
            "'mine' is none of fashion-mnist, .*: give its side, channels, classes and weights_mb",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(options: list[str], words: str) -> None:
    done = run(*options)
    with pytest.raises(InvalidValue, match=words):
        raise done.exception


def test_a_generator_of_one_s_own() -> None:
    done = run("--generator", "mine", "--side", "64", "--channels", "3", "--classes", "20", "--weights-mb", "100")
    assert done.exit_code == 0 and "4 × weights 95.37 MiB" in done.output
