"""Run the demo: start the service, train the arms one after another, ask for a grid over HTTP, write the summary.

Every classifier that learned from minted images is judged twice: as it is, and with its batch norm adapted to real
images without labels (BNA).
"""

import json
import time
import urllib.request
from collections.abc import Callable

import pyarrow as pa
import torch

from nonesuch.errors import ServiceError
from nonesuch.host.files import write_json
from nonesuch.host.loopback import direct
from nonesuch.link import Link
from nonesuch.local.service import LocalService, free_port
from nonesuch.realdata.fashion_mnist import load_fashion_mnist
from nonesuch.schema import images_of, labels_of
from nonesuch_trainer.demo.arms import ARMS, MINTED, TITLES, DemoPlan, config_of
from nonesuch_trainer.loop import Result, train
from nonesuch_trainer.reporting.curves import save_curves
from nonesuch_trainer.reporting.grid import save_grid

GRID_COLUMNS = 12
GRID_SEED = 2019


def run_demo(plan: DemoPlan, say: Callable[[str], None]) -> dict[str, object]:
    """Run every arm; returns the summary, which is also in `summary.json` beside the pictures. Blocks for minutes.

    Raises whatever keeps an arm from being trained, `DataNotFound` before anything is started.
    """
    started = time.monotonic()
    real = load_fashion_mnist(plan.split, plan.data)
    results: dict[str, Result] = {}
    with (
        LocalService(logs=plan.out / "logs", port=free_port(), generators=(plan.generator,), on_step=say) as service,
        Link(service.redis) as link,
    ):
        for arm in ARMS:
            service.check()
            results[arm] = train(config_of(arm, plan), link, resume=False)
        minted = _ask_over_http(str(service.url), plan.generator, count=GRID_COLUMNS * len(real.class_names))
    images, labels = torch.tensor(images_of(minted)), torch.tensor(labels_of(minted))
    save_grid(plan.out / "minted.png", images, labels, columns=GRID_COLUMNS)
    save_curves(plan.out / "curves.png", {TITLES[arm]: result.history for arm, result in results.items()})
    summary = _summary(plan, results) | {"seconds": round(time.monotonic() - started, 1), "test_images": len(real)}
    write_json(plan.out / "summary.json", summary)
    return summary


def _summary(plan: DemoPlan, results: dict[str, Result]) -> dict[str, object]:
    """The summary of a demo: accuracies in per cent, and what they took."""
    adapted = {arm: result.adapted for arm, result in results.items() if result.adapted}
    rows = [
        {"dataset": arm, "bna": bna, "accuracy": round(100 * accuracy, 2)}
        for arm in MINTED
        for bna, accuracy in ((False, results[arm].evaluation.accuracy), (True, adapted[arm].evaluation.accuracy))
    ]
    ledgers = {arm: result.ledger for arm, result in results.items()}
    ledgers |= {f"{arm} with BNA": found.ledger for arm, found in adapted.items()}
    return {
        "rows": rows,
        "real": round(100 * results["real"].evaluation.accuracy, 2),
        "split": plan.split,
        "images_seen": {arm: _distinct(plan, result) for arm, result in results.items()},
        "steps": {arm: result.history[-1].step for arm, result in results.items()},
        "real_information": {name: ledger.statement for name, ledger in ledgers.items()},
        "plan": plan.model_dump(mode="json"),
    }


def _distinct(plan: DemoPlan, result: Result) -> int:
    """How many different images an arm has learned from."""
    return plan.size + sum(record.replaced for record in result.history)


def _ask_over_http(url: str, generator: str, count: int) -> pa.RecordBatch:
    """Minted images in equal shares of the classes, as any HTTP client would ask for them."""
    body = json.dumps({"count": count, "generator": generator, "seed": GRID_SEED}).encode()
    request = urllib.request.Request(f"{url}/v1/batches", body, {"Content-Type": "application/json"})
    try:
        with direct().open(request, timeout=120) as reply:
            table = pa.ipc.open_stream(reply.read()).read_all()
    except OSError as error:
        raise ServiceError(f"the gateway did not answer: {error}") from error
    return table.combine_chunks().to_batches()[0]
