"""How processes are started: with which variables, what these do, and by which commands."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonesuch.cli.main import make_app
from nonesuch.host import process
from nonesuch.host.allocator import BLOCK_MB, KEPT_FAULTS, faults_in
from nonesuch.host.cores import available_cores
from nonesuch.host.process import (
    CPU_SETTINGS,
    RAY_SETTINGS,
    STARTED_AGAIN,
    THREADS,
    ensure_cpu_settings,
    ray_environment,
    tensor_environment,
)

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep blocks")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux a command starts itself again")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing, on a machine of 8 cores."""
    for name in (*RAY_SETTINGS, THREADS, "LOCAL_WORLD_SIZE", STARTED_AGAIN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "available_cores", lambda: 8)
    return monkeypatch


def test_threads_are_the_cores_unless_somebody_says_another_number(bare: pytest.MonkeyPatch) -> None:
    assert tensor_environment() == {**CPU_SETTINGS, THREADS: "8"}
    bare.setenv(THREADS, "")
    assert tensor_environment()[THREADS] == "8"
    bare.setenv(THREADS, "3")
    assert tensor_environment()[THREADS] == "3"
    assert ray_environment(5) == {**RAY_SETTINGS, THREADS: "5"}


def test_the_ranks_of_a_machine_share_its_cores(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("LOCAL_WORLD_SIZE", "3")
    assert tensor_environment()[THREADS] == "2"
    bare.setenv("LOCAL_WORLD_SIZE", "16")
    assert tensor_environment()[THREADS] == "1"
    bare.setenv(THREADS, "4")
    assert tensor_environment()[THREADS] == "4"


def test_what_the_user_has_set_reaches_what_is_started_from_here(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("GLIBC_TUNABLES", "")
    bare.setenv("GOMP_SPINCOUNT", "7")
    assert ray_environment(2) == {"GLIBC_TUNABLES": "", "GOMP_SPINCOUNT": "7", THREADS: "2"}
    assert tensor_environment() == {"GLIBC_TUNABLES": "", THREADS: "8"}


TENSORS = """
import json, resource, sys, threading
import torch

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def again_and_again():
    for _ in range(12):  # small blocks settle in what the first large ones leave
        torch.ones(2**24)  # 64 MiB
    before = faults()
    for _ in range(6):
        torch.ones(2**24)
    found.append((faults() - before) / 6)

found = []
again_and_again()
thread = threading.Thread(target=again_and_again)
thread.start()
thread.join()
print(json.dumps({"threads": torch.get_num_threads(), "faults": found}))
"""


@glibc
def test_a_process_so_started_has_its_threads_and_keeps_its_memory() -> None:
    """Counted, not timed: on the first thread and, since Ray's actors work there, on another."""
    inherited = {name: value for name, value in os.environ.items() if name not in (*RAY_SETTINGS, THREADS)}

    def found(**given: str) -> tuple[int, list[float]]:
        command = [sys.executable, "-c", TENSORS]
        done = subprocess.run(command, env={**inherited, **given}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        return report["threads"], report["faults"]

    threads, faults = found(**CPU_SETTINGS, OMP_NUM_THREADS="1")
    assert threads == 1
    assert max(faults) <= KEPT_FAULTS
    threads, faults = found(OMP_NUM_THREADS="2")
    assert threads == min(2, available_cores())
    assert min(faults) >= BLOCK_MB // 2, "every page of a block, be they huge"


@glibc
def test_the_allocator_is_measured(bare: pytest.MonkeyPatch) -> None:
    kept, given_back = faults_in(tensor_environment()), faults_in({})
    assert all(number is not None and number <= KEPT_FAULTS for number in kept)
    assert all(number is not None and number >= BLOCK_MB // 2 for number in given_back)
    without_arena = CPU_SETTINGS["GLIBC_TUNABLES"].removesuffix(":glibc.malloc.arena_max=1")
    main, other = faults_in({"GLIBC_TUNABLES": without_arena})
    assert main is not None and main <= KEPT_FAULTS
    assert other is not None and other > KEPT_FAULTS, "what the single arena is for"


SCRIPT = """
import json, os, sys
from nonesuch.host.process import ensure_cpu_settings

if os.environ.get("LOADER") == "drops":  # as it does for a python that has capabilities
    os.environ.pop("GLIBC_TUNABLES", None)
with open(os.environ["STARTS"], "a") as starts:
    starts.write(f"{os.getpid()}\\n")
ensure_cpu_settings()
settings = {name: os.environ.get(name) for name in ("GLIBC_TUNABLES", "OMP_NUM_THREADS")}
print(json.dumps({"arguments": sys.argv[1:], "utf8": sys.flags.utf8_mode, "settings": settings}))
"""
ARGUMENTS = ["two words", "--set", 'a="b"', ""]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "started.py"
    path.write_text(f"#!{sys.executable}\n{SCRIPT}")
    path.chmod(0o755)
    return path


def start(command: list[str], folder: Path, **given: str) -> tuple[dict[str, object], int]:
    """What the script says when it is started so, and how often it was; always as the same process."""
    environment = {name: value for name, value in os.environ.items() if name not in (*RAY_SETTINGS, THREADS)}
    environment |= {"STARTS": str(folder / "starts"), "PYTHONPATH": str(folder), **given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    pids = (folder / "starts").read_text().split()
    assert len(set(pids)) == 1
    return json.loads(done.stdout), len(pids)


@linux
@pytest.mark.parametrize(
    "how",
    [
        ["PYTHON", "-X", "utf8", "SCRIPT"],
        ["PYTHON", "-X", "utf8", "-m", "started"],
        ["PYTHON", "-X", "utf8", "-c", SCRIPT],
    ],
    ids=["script", "module", "code"],
)
def test_a_program_starts_itself_again_once_with_its_arguments(script: Path, how: list[str]) -> None:
    command = [{"PYTHON": sys.executable, "SCRIPT": str(script)}.get(word, word) for word in how] + ARGUMENTS
    said, starts = start(command, script.parent, OMP_NUM_THREADS="3")
    assert starts == 2
    assert said == {"arguments": ARGUMENTS, "utf8": 1, "settings": {**CPU_SETTINGS, THREADS: "3"}}


@linux
def test_a_command_of_its_own_does_so_too(script: Path) -> None:
    """As pip installs console scripts: a file that names its interpreter."""
    said, starts = start([str(script), *ARGUMENTS], script.parent)
    assert starts == 2
    assert said["arguments"] == ARGUMENTS
    assert said["settings"] == {**CPU_SETTINGS, THREADS: str(available_cores())}


@linux
def test_a_program_that_has_them_stays_and_none_starts_for_ever(script: Path) -> None:
    settings = {**CPU_SETTINGS, THREADS: "1"}
    assert start([str(script)], script.parent, **settings)[1] == 1
    (script.parent / "starts").unlink()
    assert start([str(script)], script.parent, LOADER="drops")[1] == 2


class _StartedAgain(Exception):
    pass


@pytest.fixture
def invoke(bare: pytest.MonkeyPatch, tmp_path: Path):
    """Run a command here, in an empty folder and an environment that says nothing, until it would start again."""

    def execute(path: str, arguments: list[str]) -> None:
        raise _StartedAgain

    bare.setattr(os, "execv", execute)
    bare.setattr(os, "environ", dict(os.environ))
    bare.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(make_app(), arguments).exception


@linux
@pytest.mark.parametrize(
    "command",
    [
        "adapt file images --out new", "calibrate --generator g --classifier c --teacher t",
        "condition base classifier --name n --out o", "demo", "evaluate --generator g", "generators add folder",
        "generators verify nobody", "pretrain", "train config.toml", "worker", "gateway --redis nowhere",
    ],
)  # fmt: skip
def test_every_command_that_moves_large_blocks_sees_to_its_settings_first(invoke, command: str) -> None:
    assert isinstance(invoke(*command.split()), _StartedAgain)


@linux
@pytest.mark.parametrize(
    "command",
    ["acceptance counts.json out.png", "classifier show file", "doctor", "generators list",
     "order 1 --out images.png", "token list"],
)  # fmt: skip
def test_the_others_do_not(invoke, command: str) -> None:
    assert not isinstance(invoke(*command.split()), _StartedAgain)


def test_a_process_that_is_told_so_stays(bare: pytest.MonkeyPatch) -> None:
    bare.setenv(STARTED_AGAIN, str(os.getpid()))
    bare.setattr(os, "execv", lambda *arguments: pytest.fail("it started again"))
    ensure_cpu_settings()
