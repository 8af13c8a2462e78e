"""Batch norm adaptation spread over Ray: each task sums up the statistics of a run of batches; the sums are added.

    main   waits for: the next task that is done ── unblocked by: its result, its failure, the timeout

Images and weights go through Ray's object store, never through its client (`ray://`). Ray is imported when it is used.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.classifiers.spec import Normalisation
from nonesuch.errors import InvalidValue, NonesuchError, ServiceError
from nonesuch.host.cores import available_cores
from nonesuch.host.private_ray import private_ray
from nonesuch.host.process import ray_environment
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.bna.adaptation import BatchStatistics, batch_rows, merge, statistics
from nonesuch_trainer.settings.adapting import BNAConfig

TIMEOUT_S = 600.0
"""How many seconds may pass until the next task is done, its start included."""
_STORE_BYTES = 80 * 2**20  # Ray's minimum
_STORE_SLACK = 1.25
_CONNECT_S = 10.0


def spread(
    header: SnapshotHeader,
    payload: bytes,
    images: NDArray[np.uint8],
    config: BNAConfig,
    *,
    address: str | None,
    workers: int,
    timeout_s: float = TIMEOUT_S,
    on_batches: Callable[[int], None] = lambda batches: None,
) -> BatchStatistics:
    """What `statistics` finds in one process, found by `workers` Ray tasks: the batches are the same. Blocks.

    A task reserves a CPU, or a GPU if the cluster has any, and its nodes need nonesuch with the extra `trainer`. A task
    that is lost with its node is started again. Whatever happens, no task goes on and a private cluster ends.

    Args:
        header: of the classifier, with its `payload` as `load_snapshot` takes them.
        images: (N, H, W, C).
        address: of a Ray cluster ("host:6379", or "auto" for the one on this machine); None starts a private one, with
            as many CPUs as workers.
        workers: tasks, at least 1; never more than batches.
        timeout_s: how long to wait for the next task to be done.
        on_batches: told after every task how many batches were in it; what it raises ends the work.

    Raises:
        InvalidValue: Ray is not installed, or already used by this process; the address is a client's; `workers` is
            not positive; and what `batch_rows`, `load_snapshot` and `statistics` raise.
        ServiceError: the cluster cannot be reached, a task failed, or none was done in time.
    """
    if workers < 1:
        raise InvalidValue(f"{workers} workers adapt nothing: give at least 1", field="workers")
    rows = batch_rows(len(images), config)
    spans = [span for span in np.array_split(np.arange(len(rows)), workers) if len(span)]
    with _cluster(address, len(spans), images.nbytes + len(payload)) as ray:
        gpu = ray.cluster_resources().get("GPU", 0) >= 1
        threads = 1 if address else max(1, available_cores() // len(spans))
        task = ray.remote(_sum_up).options(
            num_cpus=1,
            num_gpus=1 if gpu else 0,
            max_retries=2,  # of a task whose node is lost: it does the same again
            runtime_env={"env_vars": ray_environment(threads)},
        )
        weights = ray.put(payload)
        pending = []
        for span in spans:
            batches = rows[span[0] : span[-1] + 1]
            shard = images[np.concatenate(batches)]
            sizes = [len(batch) for batch in batches]
            pending.append(task.remote(header, weights, shard, sizes, config, int(span[0]), len(rows)))
        return merge(_results(ray, pending, timeout_s, on_batches))


def _sum_up(
    header: SnapshotHeader,
    payload: bytes,
    images: NDArray[np.uint8],
    sizes: list[int],
    config: BNAConfig,
    first: int,
    total: int,
) -> BatchStatistics:
    """What a task does: the batches `first`, `first` + 1, … of `total`, of `sizes` images each, one after the other."""
    device = "cuda" if torch.cuda.is_available() else "cpu"  # Ray shows a task the GPU that it has reserved
    model = load_snapshot(header, payload, device)
    normalisation = Normalisation(mean=header.mean, std=header.std)
    stops = np.cumsum(sizes)
    inputs = (
        # copied: Ray's arrays are read-only
        input_tensor(torch.from_numpy(images[stop - size : stop].copy()).to(device), normalisation)
        for size, stop in zip(sizes, stops, strict=True)
    )
    return statistics(model, inputs, config, total=total, first=first)


def _results(
    ray: Any, pending: list[Any], timeout_s: float, on_batches: Callable[[int], None]
) -> Iterator[BatchStatistics]:
    """Every task's result, as they are done; those that are not are cancelled at the end."""
    try:
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=timeout_s)
            if not done:
                raise ServiceError(
                    f"none of {len(pending)} Ray tasks was done within {timeout_s:.0f} s: see with `ray status` "
                    "whether the cluster has a free CPU or GPU, or take more workers or fewer images"
                )
            part: BatchStatistics = _result(ray, done[0], timeout_s)
            on_batches(part.stop - part.start)
            yield part
    finally:
        for task in pending:
            ray.cancel(task, force=True)


def _result(ray: Any, task: Any, timeout_s: float) -> Any:
    try:
        return ray.get(task, timeout=timeout_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NonesuchError):
            raise error.cause from None
        raise ServiceError(f"a Ray task failed: {error.cause!r}") from error
    except ray.exceptions.RayError as error:
        raise ServiceError(f"a Ray task was lost: {str(error).strip().splitlines()[-1]}") from error


@contextmanager
def _cluster(address: str | None, cpus: int, bytes_: int) -> Iterator[Any]:
    """Yields Ray, connected to the cluster at `address` or to a private one; parts from it at the end."""
    if address is not None and address.startswith("ray://"):
        raise InvalidValue(
            f"{address} is Ray's client, which is slow for images: give the address of its head, host:6379"
        )
    try:
        import ray
    except ModuleNotFoundError:
        raise InvalidValue(
            "spreading takes Ray, which is not installed: pip install 'nonesuch[worker]', or adapt in one process "
            "(without --workers)"
        ) from None
    if ray.is_initialized():
        raise InvalidValue("this process is connected to a Ray cluster already: call ray.shutdown() first")
    options: dict[str, Any] = {"address": address or "local"}
    if address:
        _check_reachable(address)
    else:
        store = max(_STORE_BYTES, int(_STORE_SLACK * bytes_))
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": store}
        options |= private_ray()
    try:
        try:
            ray.init(namespace="nonesuch", log_to_driver=True, logging_level=logging.WARNING, **options)
        except ConnectionError as error:
            raise ServiceError(
                f"the Ray cluster at {address} cannot be joined ({error}): it must be one, of the same version of Ray, "
                "and RAY_AUTH_MODE and its token must be here as they are there"
            ) from error
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at a cluster's head: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise InvalidValue(f"{address!r} is no address of a Ray cluster: give host:6379, or auto", field="address")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise ServiceError(f"no Ray cluster answers at {address} ({error}): start one, or mend the address") from error
