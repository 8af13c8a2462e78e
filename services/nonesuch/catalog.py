"""The catalogue: what the live workers offer (`offers`), as Redis knows it.

Every worker writes one JSON document under its own key and renews it as a heartbeat; the key's time to live removes
it with the worker. The catalogue is the union of the documents that are there, so it cannot go stale, and a
restarted Redis is filled again by the next heartbeat. Gateway and clients validate against it without importing a
single generator or strategy.
"""

from collections.abc import Iterable

from nonesuch.effects import Op
from nonesuch.link import Call, Keys
from nonesuch.offers import Catalog, WorkerInfo

HEARTBEAT_S = 2.0
HEARTBEAT_TTL_S = 10.0


def announce(keys: Keys, worker: WorkerInfo) -> Op[None]:
    """Write a worker's heartbeat; it is gone `HEARTBEAT_TTL_S` after the last one."""
    document = worker.model_dump_json(by_alias=True)
    yield Call("SET", keys.worker(worker.id), document, "PX", int(HEARTBEAT_TTL_S * 1000))
    yield Call("SADD", keys.workers, worker.id)


def withdraw(keys: Keys, worker_id: str) -> Op[None]:
    """Take a worker out of the catalogue at once (it stops in good order)."""
    yield Call("DEL", keys.worker(worker_id))
    yield Call("SREM", keys.workers, worker_id)


def read_catalog(keys: Keys) -> Op[Catalog]:
    """The catalogue of this moment; names of workers whose heartbeat has lapsed are cleaned up on the way."""
    ids: list[bytes] = sorted((yield Call("SMEMBERS", keys.workers)))
    if not ids:
        return Catalog()
    documents: Iterable[bytes | None] = yield Call("MGET", *(keys.worker(i.decode()) for i in ids))
    live = []
    for worker_id, document in zip(ids, documents, strict=True):
        if document is None:
            yield Call("SREM", keys.workers, worker_id)
        else:
            live.append(WorkerInfo.model_validate_json(document))
    return Catalog(workers=tuple(live))


def count_workers(keys: Keys) -> Op[int]:
    """How many workers are in the catalogue, without reading what they offer."""
    ids: list[bytes] = yield Call("SMEMBERS", keys.workers)
    if not ids:
        return 0
    live: int = yield Call("EXISTS", *(keys.worker(i.decode()) for i in ids))
    return live
