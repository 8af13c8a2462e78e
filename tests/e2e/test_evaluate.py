"""Judging generators with the whole service: the command, and the ranking of a pretraining run's exports."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from nonesuch.errors import GeneratorNotFound
from nonesuch_trainer.loop import train
from nonesuch_trainer.metrics import ranking
from nonesuch_trainer.settings.datasets import Real
from nonesuch_worker.generators.load import folder_of
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.loop import pretrain
from tests.helpers.blobs import make_config, one_thread, write_real

pytestmark = pytest.mark.timeout(240)


def evaluate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nonesuch", "evaluate", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )


def test_the_command_prints_measures_with_floors_and_writes_json_and_pictures(tmp_path: Path) -> None:
    """Garments against blobs: few real images, so that it takes seconds."""
    real = write_real(tmp_path)
    run = make_config(real, tmp_path / "features", 1)
    with one_thread():
        train(run.model_copy(update={"run": "features", "dataset": Real(folder=real, size=200)}))
    done = evaluate(
        "--generator", "fashion-mnist", "--size", "200", "--epochs", "1", "--sigma", "1.1", "--split", "test",
        "--data", str(real), "--features", "features", "--out", "found",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("FID", "coverage", "floor", "Ankle boot", "a gap of", "real information used: labelled"):
        assert words in done.stdout
    found = json.loads((tmp_path / "found/evaluation.json").read_text())
    assert found["plan"]["sigma"] == 1.1 and found["judged_on"] == "300 images of fashion-mnist/test"
    assert found["generated"]["fid"] > 2 * found["floor"]["fid"] > 0
    pictures = sorted(path.name for path in (tmp_path / "found").rglob("*.png"))
    assert len(pictures) == 12 and {"per-class.png", "resolution.png", "00-t-shirt-top.png"} <= set(pictures)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--generator", "fashion-mnist", "--size", "10"), "size"),
        (("--generator", "fashion-mnist", "--split", "tests"), "split"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = evaluate(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_exports_are_ranked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two exports: the shipped generator's weights, and the same with the last convolution's sign turned around."""
    monkeypatch.setattr(ranking, "SIZE", 300)
    monkeypatch.setattr(ranking, "EPOCHS", 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    exports = tmp_path / "exports"
    shipped = folder_of("fashion-mnist")
    assert shipped is not None
    for iteration in (10, 20):
        folder = exports / str(iteration)
        shutil.copytree(shipped, folder)
        card = json.loads((folder / "card.json").read_text()) | {"iterations": iteration}
        if iteration == 20:
            tensors = load_file(folder / "generator.safetensors")
            tensors["output.weight"], tensors["output.bias"] = -tensors["output.weight"], -tensors["output.bias"]
            save_file(tensors, folder / "generator.safetensors")
            card["sha256"] = sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
        (folder / "card.json").write_text(json.dumps(card))

    assert ranking.rank(exports) == exports / "10"
    found = json.loads((exports / "ranking.json").read_text())
    better, worse = found["rows"]
    assert found["best"] == 10 and better["accuracy"] > worse["accuracy"] and better["fid"] < worse["fid"]
    card = json.loads((exports / "20/card.json").read_text())
    assert [row["iteration"] for row in card["curve"]] == [10, 20]
    assert card["validation"]["accuracy"] == worse["accuracy"]
    assert (exports / "ranking.png").stat().st_size > 10_000

    monkeypatch.setattr(ranking, "LocalService", None)  # would fail: nothing is judged twice
    assert ranking.rank(exports) == exports / "10"


@pytest.mark.slow
def test_two_classes_of_a_few_dozen_small_images_are_evaluated_and_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No feature network knows them, MS-SSIM takes larger ones, and there are fewer than are minted."""
    monkeypatch.setattr(ranking, "SIZE", 200)
    monkeypatch.setattr(ranking, "EPOCHS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rng = np.random.default_rng(0)
    for name, bright in (("bird", 0), ("cat", 150)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(30):
            pixels = np.add(rng.integers(0, 90, (16, 16, 3)), (bright, 0, 0))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"data/{name}/{i}.png")
    recipe = PretrainConfig.model_validate(
        {
            "name": "small", "data": str(tmp_path / "data"), "iterations": 1, "batch": 8, "decay_iterations": 0,
            "standing_batches": 1, "standing_batch": 8, "precision": "float32", "grid_every": 1,
            "generator": {
                "image_size": 16, "channels": 3, "classes": 2, "z_dim": 8, "embedding_dim": 4, "widths": [16, 8],
            },
            "discriminator": {"widths": [8, 16]},
        }
    )  # fmt: skip
    exports = pretrain(recipe, tmp_path / "pre", resume=False, data_folder=None).parent

    assert ranking.rank(exports) == exports / "1"
    (row,) = json.loads((exports / "ranking.json").read_text())["rows"]
    assert row["real_images"] == 54 and 0 <= row["accuracy"] <= 100  # 27 of each class are left to learn from

    done = evaluate(
        "--generator", str(exports / "1"), "--real", str(tmp_path / "data"), "--size", "200", "--epochs", "1",
        "--out", "found", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "16 pixels are too small" in done.stdout and "by --features" in done.stdout
    found = json.loads((tmp_path / "found/evaluation.json").read_text())
    assert found["generated"]["fid"] is None and set(found["generated"]["missing"]) >= {"fid", "ms_ssim", "agreement"}
    assert found["real_images_learned_from"] == 54 and found["learned"]["real"]["mean"] >= 0


def test_nothing_to_rank(tmp_path: Path) -> None:
    with pytest.raises(GeneratorNotFound, match="holds no exports"):
        ranking.rank(tmp_path)
