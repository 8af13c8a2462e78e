"""How many cores this process may keep busy: in a container often fewer than the machine has.

OpenMP and torch know nothing of a quota: granted 2 of 64 cores, they would start 64 threads that wait for each other.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Cores:
    """What limits a process, in cores."""

    machine: int
    affinity: int
    """The cores that the process may be put on (taskset, cpusets, `docker run --cpuset-cpus`)."""
    quota: float | None
    """What cgroups grant it (`CPUQuota=`, `docker run --cpus`, limits in Kubernetes); None: as much as it likes."""

    @property
    def usable(self) -> int:
        """Whole cores, at least 1. A part is left alone: a thread that waits for its quota holds up all the others."""
        granted = self.affinity if self.quota is None else min(self.affinity, int(self.quota))
        return max(1, granted)


def cores() -> Cores:
    """What limits this process now."""
    machine = os.cpu_count() or 1
    if sys.platform != "linux":
        return Cores(machine, machine, None)
    return Cores(machine, len(os.sched_getaffinity(0)), cgroup_quota())


def available_cores() -> int:
    """Cores that this process may keep busy, at least 1."""
    return cores().usable


def cgroup_quota(cgroups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The least that a process's cgroups and those around them grant it, in cores; None if none of them limits it.

    Reads both versions of cgroups. In a container `cgroups` may name folders of the host that are not mounted in it:
    its own is then at the top of what is.

    Args:
        cgroups: the process's list, lines `number:controllers:path`.
        mounted: where cgroups are mounted; those of version 1 in a folder for each list of controllers.
    """
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, read = mounted, _quota_v2
        elif "cpu" in controllers.split(","):
            top, read = mounted / controllers, _quota_v1
        else:
            continue
        parts = PurePosixPath(path).parts[1:]
        quotas += [read(top.joinpath(*parts[:depth])) for depth in range(len(parts) + 1)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except OSError:
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except OSError:
        return None
    return None if quota < 0 else quota / period
