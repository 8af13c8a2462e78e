"""How many cores a process may keep busy, by hand-made cgroups of both versions and by a real affinity."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nonesuch.host import cores as cores_module
from nonesuch.host.cores import Cores, available_cores, cgroup_quota, cores


class Groups:
    """A machine's cgroups, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.list = folder / "cgroup"
        self.mounted = folder / "mounted"

    def write(self, path: str, **files: str) -> None:
        folder = self.mounted / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(f"{text}\n")

    def quota(self, *lines: str) -> float | None:
        """Of a process with this list."""
        self.list.write_text("\n".join(lines) + "\n")
        return cgroup_quota(self.list, self.mounted)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_version_2_in_a_container(groups: Groups) -> None:
    groups.write("", cpu__max="150000 100000")
    assert groups.quota("0::/") == 1.5
    groups.write("", cpu__max="max 100000")
    assert groups.quota("0::/") is None


def test_version_2_the_tightest_of_a_group_and_those_around_it(groups: Groups) -> None:
    groups.write("user.slice", cpu__max="400000 100000")
    groups.write("user.slice/run.scope", cpu__max="max 100000")
    assert groups.quota("0::/user.slice/run.scope") == 4
    groups.write("user.slice/run.scope", cpu__max="50000 25000")
    assert groups.quota("0::/user.slice/run.scope") == 2
    assert groups.quota("0::/user.slice") == 4


def test_version_1(groups: Groups) -> None:
    groups.write("cpu,cpuacct/batch/mine", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    groups.write("cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    lists = ("5:memory:/elsewhere", "4:cpu,cpuacct:/batch/mine", "3:cpuset:/", "0::/")
    assert groups.quota(*lists) == 3
    groups.write("cpu,cpuacct/batch/mine", cpu__cfs_quota_us="-1")
    assert groups.quota(*lists) is None


def test_version_1_in_a_container_whose_folders_have_the_names_of_the_host(groups: Groups) -> None:
    groups.write("cpu,cpuacct", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert groups.quota("4:cpu,cpuacct:/docker/0123456789ab") == 0.5


def test_no_cgroups_no_quota(groups: Groups) -> None:
    assert cgroup_quota(groups.list, groups.mounted) is None
    assert groups.quota("0::/gone") is None


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(64, None, 64), (64, 2.0, 2), (64, 2.9, 2), (64, 0.5, 1), (2, 8.0, 2), (1, None, 1)],
)
def test_whole_cores_and_at_least_one(affinity: int, quota: float | None, usable: int) -> None:
    assert Cores(64, affinity, quota).usable == usable


def test_a_container_of_two_cores_on_a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    monkeypatch.setattr(cores_module, "cgroup_quota", lambda: 2.0)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cores() == Cores(64, 32, 2.0)
    assert available_cores() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_a_process_on_one_core_has_one() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from nonesuch.host.cores import available_cores, cores; print(available_cores(), cores().affinity)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "1"], done.stderr
