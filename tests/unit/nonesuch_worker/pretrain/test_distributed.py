"""Two processes that train as one, started by torchrun; and where a process runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nonesuch.errors import InvalidValue
from nonesuch.host.process import CPU_SETTINGS
from nonesuch_worker.generators.compact.folder import WEIGHTS
from nonesuch_worker.pretrain.checkpoint import CHECKPOINT
from nonesuch_worker.pretrain.distributed import World, joined
from nonesuch_worker.pretrain.players import Players
from tests.helpers import two_ranks
from tests.helpers.tiny_gan import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `tests.helpers.two_ranks` has done its work."""
    folder = tmp_path_factory.mktemp("ranks")
    root = Path(__file__).parents[4]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    env = {name: value for name, value in os.environ.items() if name not in CPU_SETTINGS}
    env |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = (*torchrun, "-m", two_ranks.__name__, str(folder))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def reports(folder: Path) -> list[dict[str, Any]]:
    """What each rank saw."""
    found: list[dict[str, Any]] = json.loads((folder / "reports.json").read_text())
    assert [report["rank"] for report in found] == [0, 1]
    return found


def test_the_ranks_agree_bit_for_bit(reports: list[dict[str, Any]]) -> None:
    one, other = (report["weights"] for report in reports)
    assert len(one) > 50
    assert one == other


def test_gradients_are_averaged_and_any_rank_stops_all(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        assert report["averaged"] == [2.0, 3.0]
        assert report["agreed"] == [[1.5], True]
        assert report["results"] == ["6", CHECKPOINT, "6"]


def test_rank_0_alone_writes(folder: Path) -> None:
    assert (folder / "of-rank-0" / "exports" / "6" / WEIGHTS).is_file()
    assert not (folder / "of-rank-1").exists()


def test_resuming_together_equals_never_having_stopped(folder: Path) -> None:
    whole, halves = (folder / name / "exports" / "6" / WEIGHTS for name in ("of-rank-0", "shared"))
    assert whole.read_bytes() == halves.read_bytes()
    one, other = (load_file(folder / name / CHECKPOINT) for name in ("of-rank-0", "shared"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_batch_that_cannot_be_shared_is_refused(folder: Path, reports: list[dict[str, Any]]) -> None:
    assert all("a batch of 9 cannot be split evenly over 2 processes" in report["refused"] for report in reports)
    assert not (folder / "refused").exists()


def test_a_process_alone_is_the_whole_world() -> None:
    with joined("cpu") as world:
        assert world == World(torch.device("cpu"), 0, 1)
        assert world.leads
        assert world.agree((torch.tensor(0.5),), stop=False) == ([0.5], False)
        layer = nn.Linear(1, 1)
        world.average(layer)
        assert layer.weight.grad is None


def test_the_seed_alone_decides_the_initial_weights() -> None:
    one, other = (Players(TINY, World(torch.device("cpu"), rank, 2)) for rank in range(2))
    for key, tensor in one.discriminator.state_dict().items():
        assert torch.equal(tensor, other.discriminator.state_dict()[key])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(InvalidValue, match="torch sees no GPU here: use 'auto' or 'cpu'"), joined("cuda"):
        pass
    with joined("auto") as world:
        assert world.device.type == "cpu"


def test_a_process_too_many_for_the_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(InvalidValue, match="process 1 of this machine has no GPU of its own, there are 1"),
        joined("auto"),
    ):
        pass
