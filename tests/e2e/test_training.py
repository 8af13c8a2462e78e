"""A training run against the whole service: killed and resumed, Redis restarted, stopped by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.local.service import LocalService
from tests.helpers.service import eventually, keys_of, serving, workers

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "run": "e2e",
    "epochs": 5,
    "batch_size": 50,
    "dataset.size": 300,
    "classifier.args.width": 4,
    "evaluate.split": "validation",
    "evaluate.every": 5,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalService, Link, PrivateRedis]]:
    """A service on a Redis that these tests may kill, with the generator that ships."""
    with PrivateRedis() as private:
        redis = RedisSettings(url=private.url)
        logs = tmp_path_factory.mktemp("logs")
        with serving(redis, logs, workers=1, threads=1, generators=("fashion-mnist",)) as (service, link):
            yield service, link, private


def train(service: LocalService, out: Path, **settings: object) -> subprocess.Popen[str]:
    """`nonesuch train`, as a process that has just been started."""
    chosen = {**SETTINGS, "out": out, **settings}
    options = [word for name, value in chosen.items() for word in ("--set", f"{name}={json.dumps(str(value))}"
               if isinstance(value, Path) else f"{name}={value}")]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "nonesuch", "train", str(ROOT / "trainer/configs/smoothing-hsm.toml"), *options],
        env={**os.environ, "NONESUCH_REDIS_URL": service.redis.url, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return said


def epochs(out: Path) -> list[dict[str, float]]:
    file = out / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def undisturbed(running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    said = finish(train(running[0], out))
    assert "real information used: labelled, through generator fashion-mnist" in said
    assert [e["r"] for e in epochs(out)] == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert list((out / "events").glob("events.out.tfevents.*"))
    return out


def same_end(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same classifier and the same resident dataset, to the bit."""
    from safetensors import safe_open

    files = [safe_open(folder / "checkpoint.safetensors", "np") for folder in (one, other)]
    names = [sorted(file.keys()) for file in files]
    return names[0] == names[1] and all(
        (files[0].get_tensor(name) == files[1].get_tensor(name)).all() for name in names[0]
    )


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(running, undisturbed: Path, tmp_path: Path) -> None:
    service, link, _ = running
    out = tmp_path / "run"
    process = train(service, out)
    eventually(lambda: len(epochs(out)) >= 2, 120)
    process.kill()
    process.communicate()
    said = finish(train(service, out))
    assert "going on from" in said
    assert same_end(out, undisturbed)
    assert not [k for k in keys_of(link) if ":worker" not in k]


def test_redis_restarted_costs_nothing_that_was_there(running, undisturbed: Path, tmp_path: Path) -> None:
    service, link, private = running
    out = tmp_path / "run"
    process = train(service, out)
    eventually(lambda: len(epochs(out)) >= 1, 120)
    private.kill()
    private.start()
    finish(process)
    assert same_end(out, undisturbed)
    assert not [k for k in keys_of(link) if ":worker" not in k]
    eventually(lambda: len(workers(link)) == 1)


@pytest.mark.parametrize(
    ("number", "wanted", "code"), [(signal.SIGINT, 0, 130), (signal.SIGTERM, None, 143), (signal.SIGTERM, 0, 0)]
)
def test_stopped_it_leaves_its_checkpoint_and_no_key(
    running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, wanted: int | None, code: int
) -> None:
    if wanted is not None:
        monkeypatch.setenv("NONESUCH_STOPPED_EXIT_CODE", str(wanted))
    service, link, _ = running
    out = tmp_path / "run"
    process = train(service, out, epochs=500)
    eventually(lambda: len(epochs(out)) >= 1, 120)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "stopped; the same command goes on from" in said and "Traceback" not in said
    assert not [k for k in keys_of(link) if ":worker" not in k]
    assert (out / "checkpoint.safetensors").exists()
    assert not [p for p in out.rglob("*") if p.name.endswith(".tmp")]


def test_missing_data_is_one_clear_line(running, tmp_path: Path) -> None:
    process = train(running[0], tmp_path / "run", **{"evaluate.folder": tmp_path})
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "dataset-fashion-mnist" in said and "Traceback" not in said
