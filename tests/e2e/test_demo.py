"""The demo, small: every row is there, and says where its figure comes from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_every_dataset_is_judged_with_and_without_adapted_batch_norm(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "nonesuch", "demo", "--out", str(out), "--size", "60", "--epochs", "2",
         "--split", "validation"],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    expected = [(name, bna) for name in ("fixed", "smoothing", "smoothing+hsm") for bna in (False, True)]
    assert [(row["dataset"], row["bna"]) for row in summary["rows"]] == expected
    assert all(0 < row["accuracy"] < 100 for row in summary["rows"]) and 0 < summary["real"] < 100
    assert summary["images_seen"] == {"fixed": 60, "smoothing": 90, "smoothing+hsm": 90, "real": 60}
    assert summary["steps"] == dict.fromkeys(summary["steps"], 2)
    said = summary["real_information"]
    assert "through generator fashion-mnist" in said["smoothing+hsm"] and "batch norm" not in said["smoothing+hsm"]
    assert "batch norm adaptation (real images without labels" in said["smoothing+hsm with BNA"]
    for name in ("minted.png", "curves.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "with BNA" in done.stdout and f"{summary['real']} %" in done.stdout
