"""What `nonesuch doctor` says about this machine as a worker."""

from collections.abc import Iterator
from pathlib import Path

from nonesuch.doctor.checks import Context, Finding
from nonesuch.errors import NonesuchError
from nonesuch.host.cores import available_cores
from nonesuch.host.process import THREADS
from nonesuch_worker.fleet.fleet import Node, seats
from nonesuch_worker.settings import WorkerSettings

BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""What the kernel calls instructions that multiply in bfloat16, on x86 and on ARM."""


def generators(context: Context) -> Iterator[Finding]:
    """The device, the CPU and what a fleet would start here; every generator is loaded and its sha256 checked."""
    try:
        import torch

        from nonesuch_worker.generators.load import load_generator, packaged
        from nonesuch_worker.generators.places import library
    except ModuleNotFoundError as error:
        yield Finding("generators", "note", f"{error.name} is not installed", "pip install 'nonesuch[worker]'")
        return
    gpus = torch.cuda.device_count()
    yield Finding("device", "ok", f"cuda ({gpus} × {torch.cuda.get_device_name()})" if gpus else "cpu")
    yield _cpu()
    yield _fleet(gpus)
    if not packaged():
        yield Finding("generators", "fail", "none is packaged", "install nonesuch again: its package data is missing")
    for name in dict.fromkeys(packaged() + library()):
        try:
            info = load_generator(name).info
        except NonesuchError as error:
            yield Finding(f"generator {name}", "fail", "it cannot be loaded", str(error))
        else:
            shape = "×".join(map(str, info.image_shape))
            yield Finding(f"generator {name}", "ok", f"{shape}, {len(info.class_names)} classes, {info.sha256[:12]}…")


def _cpu() -> Finding:
    """What torch and this CPU have for tensor work."""
    from torch import backends

    parts = {"oneDNN": backends.mkldnn.is_available(), "MKL": backends.mkl.is_available()}  # type: ignore[no-untyped-call]
    there = [backends.cpu.get_cpu_capability(), *(name for name, found in parts.items() if found)]
    detail = f"{', '.join(there)}; bfloat16 {_bf16(Path('/proc/cpuinfo'))}"
    if not parts["oneDNN"]:
        return Finding(
            "cpu", "note", detail, "convolutions are slow without oneDNN: install a build of torch that has it"
        )
    return Finding("cpu", "ok", detail)


def _bf16(cpuinfo: Path) -> str:
    """The CPU's instructions that multiply in bfloat16, as Linux lists them."""
    if not cpuinfo.exists():
        return "unknown"
    words = cpuinfo.read_text().split()
    found = [name for name in BF16 if name in words]
    return f"by {' and '.join(found)}" if found else "not in hardware"


def _fleet(gpus: int) -> Finding:
    """What `nonesuch worker` would start here."""
    try:
        threads = WorkerSettings.from_env().threads
    except NonesuchError as error:
        return Finding("fleet", "fail", "`nonesuch worker` would not start", str(error))
    places = seats([Node("here", available_cores(), gpus)], 1, threads)
    each = "one for each GPU" if gpus else "or --workers N, which share the cores"
    share = next(iter(places)).threads
    return Finding("fleet", "ok", f"`nonesuch worker` starts {len(places)} ({each}), each with {THREADS}={share}")
