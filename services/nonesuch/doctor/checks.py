"""The checks of `nonesuch doctor`. Other packages add theirs by entry points of group `nonesuch.checks`.

A check is a function from a `Context` to findings. It reports; it repairs nothing.
"""

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import NonesuchError, ServiceError
from nonesuch.host.allocator import BLOCK_MB, KEPT_FAULTS, faults_in
from nonesuch.host.cores import cores
from nonesuch.host.process import RAY_SETTINGS, THREADS, tensor_environment
from nonesuch.link import Call, Link, check_writable
from nonesuch.local.private_redis import find_redis_server
from nonesuch.offers import WorkerInfo
from nonesuch.realdata.fashion_mnist import load_fashion_mnist

SHARED_MEMORY_MB = 256
MIN_REDIS = (6, 2)
LOOKS_ONLY = "operator"
"""The user of `link.users` that may not write."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PACKAGES = ("torch", "ray", "redis", "pyarrow", "fastapi", "pytorch-pretrained-biggan")


@dataclass(frozen=True)
class Context:
    """What the checks are asked about."""

    port: int = 8000
    data: Path | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `note`: it works, but not as well as it could, or only in part."""

    what: str
    verdict: Literal["ok", "note", "fail"]
    detail: str
    remedy: str = ""


Check = Callable[[Context], Iterator[Finding]]


def diagnose(context: Context) -> Iterator[Finding]:
    """Every finding of every installed check."""
    own: list[Check] = [_versions, _redis, _shared_memory, _port, _cores, _cpu_settings, _data]
    for check in own + [point.load() for point in entry_points(group="nonesuch.checks")]:
        yield from check(context)


def _versions(context: Context) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(
                package, "note", "not installed", "pip install 'nonesuch[all]' if this machine should do more"
            )


def _redis(context: Context) -> Iterator[Finding]:
    if "NONESUCH_REDIS_URL" not in os.environ:
        try:
            yield Finding("redis", "ok", f"NONESUCH_REDIS_URL is not set; `nonesuch up` starts {find_redis_server()}")
        except NonesuchError as error:
            yield Finding("redis", "fail", "none", str(error))
        return
    try:
        settings = RedisSettings.from_env()
        with Link(settings) as link:
            if LOOKS_ONLY not in (settings.username, urlsplit(settings.url).username):
                link.run(check_writable(link.keys))
            info = link.run(_info())
            workers = link.run(read_catalog(link.keys)).workers
    except NonesuchError as error:
        yield Finding("redis", "fail", "the one at NONESUCH_REDIS_URL cannot be used", str(error))
        return
    running = str(info["redis_version"])
    if tuple(int(part) for part in running.split(".")[:2]) < MIN_REDIS:
        yield Finding("redis", "fail", f"version {running}", "6.2 or newer is needed")
    elif info["maxmemory"] and info["maxmemory_policy"] != "noeviction":
        remedy = "set maxmemory-policy noeviction: Redis would throw away orders and batches when it is full"
        yield Finding("redis", "fail", f"evicts keys ({info['maxmemory_policy']})", remedy)
    else:
        yield Finding("redis", "ok", f"{running} at {settings.safe_url}, {len(workers)} workers connected")
    for worker in workers:
        yield _worker(worker)


def _worker(worker: WorkerInfo) -> Finding:
    what, faults = f"worker {worker.id}", worker.block_faults
    threads = "threads not said" if worker.threads is None else f"threads: {worker.threads}"
    facts = f"{worker.device} on {worker.host}, {threads}"
    if faults is None:
        return Finding(what, "ok", f"{facts}, page faults not counted")
    if faults > KEPT_FAULTS:
        remedy = f"start it by `nonesuch worker`, with neither {' nor '.join(RAY_SETTINGS)} set"
        return Finding(what, "note", f"{facts}, {_faults(faults)}: its allocator does not keep it", remedy)
    return Finding(what, "ok", f"{facts}, {_faults(faults)}")


def _faults(number: int) -> str:
    return f"{number} page faults for a block of {BLOCK_MB} MiB"


def _info() -> Op[dict[str, int | str]]:
    info: dict[str, int | str] = yield Call("INFO")
    return info


def _shared_memory(context: Context) -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if not folder.exists():
        yield Finding("shared memory", "note", "no /dev/shm", "Ray is slower without it")
        return
    free = shutil.disk_usage(folder).free // 2**20
    if free < SHARED_MEMORY_MB:
        remedy = f"Ray needs about {SHARED_MEMORY_MB} MiB: in a container, set shm_size"
        yield Finding("shared memory", "fail", f"{free} MiB free", remedy)
    else:
        yield Finding("shared memory", "ok", f"{free} MiB free in /dev/shm")


def _port(context: Context) -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", context.port))
        except OSError as error:
            remedy = "something listens there (the gateway itself?): stop it, or choose another with --port"
            yield Finding(f"port {context.port}", "note", str(error.strerror), remedy)
        else:
            yield Finding(f"port {context.port}", "ok", "free for the gateway")


def _cores(context: Context) -> Iterator[Finding]:
    here = cores()
    quota = "no quota" if here.quota is None else f"a quota of {here.quota:g}"
    limits = f"{here.usable} of {here.machine} (affinity {here.affinity}, {quota})"
    asked = os.environ.get(THREADS)
    if asked and asked.isdigit() and int(asked) > here.usable:
        remedy = "more threads than cores wait for each other: unset it"
        yield Finding("cores", "note", f"{limits}, but {THREADS}={asked} is set", remedy)
    elif asked:
        yield Finding("cores", "ok", f"{limits}; {THREADS}={asked} is set")
    else:
        yield Finding("cores", "ok", f"{limits}, so tensor work starts with {THREADS}={tensor_environment()[THREADS]}")


def _cpu_settings(context: Context) -> Iterator[Finding]:
    if sys.platform != "linux":
        yield Finding("cpu settings", "note", f"they do not apply to {sys.platform}")
        return
    other = {name: os.environ[name] for name, value in RAY_SETTINGS.items() if os.environ.get(name, value) != value}
    if other:
        remedy = "unset them, and every process sets what is best when it starts"
        yield Finding("cpu settings", "note", ", ".join(f"{name}={value}" for name, value in other.items()), remedy)
    else:
        yield Finding("cpu settings", "ok", f"{' and '.join(RAY_SETTINGS)} are set by every process that needs them")
    yield _allocator()
    if HUGE_PAGES.exists():
        yield _huge_pages(HUGE_PAGES.read_text())


def _allocator() -> Finding:
    """Whether a process that is started with our environment keeps large blocks."""
    try:
        main, other = faults_in(tensor_environment())
    except ServiceError as error:
        return Finding("allocator", "fail", "it cannot be measured", str(error))
    assert main is not None and other is not None  # this is Linux
    detail = f"{_faults(main)}, {other} on another thread than the first"
    if max(main, other) <= KEPT_FAULTS:
        return Finding("allocator", "ok", f"keeps large blocks: {detail}")
    library = " ".join(platform.libc_ver()).strip() or "another C library"
    remedy = f"tensor work is slower for it: use glibc (here: {library}), no LD_PRELOAD, and leave GLIBC_TUNABLES unset"
    return Finding("allocator", "note", f"gives large blocks back: {detail}", remedy)


def _huge_pages(modes: str) -> Finding:
    """`modes`: what the kernel offers, the chosen one in brackets."""
    mode = re.findall(r"\[(\w+)\]", modes)[0]
    if mode == "never":
        remedy = f"the first use of memory is slower: echo madvise > {HUGE_PAGES}, as root"
        return Finding("huge pages", "note", mode, remedy)
    return Finding("huge pages", "ok", mode)


def _data(context: Context) -> Iterator[Finding]:
    try:
        images = load_fashion_mnist("test", context.data)
    except NonesuchError as error:
        yield Finding("real images", "fail", "Fashion-MNIST cannot be read", str(error))
    else:
        yield Finding("real images", "ok", f"{images.name}: {len(images.labels)} test images")
