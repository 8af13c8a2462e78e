"""The checks of `nonesuch doctor`. Other packages add theirs by entry points of group `nonesuch.checks`.

A check is a function from a `Context` to findings. It reports; it repairs nothing.
"""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.errors import NonesuchError
from nonesuch.link import Call, Link, Op
from nonesuch.private_redis import find_redis_server
from nonesuch.process import CPU_SETTINGS
from nonesuch.realdata import load_fashion_mnist

SHARED_MEMORY_MB = 256
MIN_REDIS = (6, 2)
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
    own: list[Check] = [_versions, _redis, _shared_memory, _port, _cpu, _data]
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
            info = link.run(_info())
            workers = link.run(read_catalog(link.keys)).workers
    except NonesuchError as error:
        yield Finding("redis", "fail", "NONESUCH_REDIS_URL does not lead to one", str(error))
        return
    running = str(info["redis_version"])
    if tuple(int(part) for part in running.split(".")[:2]) < MIN_REDIS:
        yield Finding("redis", "fail", f"version {running}", "6.2 or newer is needed")
    elif info["maxmemory"] and info["maxmemory_policy"] != "noeviction":
        remedy = "set maxmemory-policy noeviction: Redis would throw away orders and batches when it is full"
        yield Finding("redis", "fail", f"evicts keys ({info['maxmemory_policy']})", remedy)
    else:
        yield Finding("redis", "ok", f"{running} at {settings.safe_url}, {len(workers)} workers connected")


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


def _cpu(context: Context) -> Iterator[Finding]:
    other = {name: os.environ[name] for name, value in CPU_SETTINGS.items() if os.environ.get(name, value) != value}
    if sys.platform != "linux":
        yield Finding("cpu settings", "note", f"they do not apply to {sys.platform}")
    elif other:
        remedy = "unset them, and every process sets what is best when it starts"
        yield Finding("cpu settings", "note", ", ".join(f"{name}={value}" for name, value in other.items()), remedy)
    else:
        yield Finding("cpu settings", "ok", f"{' and '.join(CPU_SETTINGS)} are set by every process that needs them")
    yield Finding("cores", "ok", f"{os.cpu_count()}; OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")


def _data(context: Context) -> Iterator[Finding]:
    try:
        images = load_fashion_mnist("test", context.data)
    except NonesuchError as error:
        yield Finding("real images", "fail", "Fashion-MNIST cannot be read", str(error))
    else:
        yield Finding("real images", "ok", f"{images.name}: {len(images.labels)} test images")
