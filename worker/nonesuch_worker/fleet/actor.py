"""The Ray actor: a host for one ticket loop on one accelerator. Everything it does is in `minting.loop`."""

import logging
import sys

import torch

from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.service import make_loop
from nonesuch_worker.settings import WorkerSettings


class WorkerActor:
    """Loads the generators when it is made, then works until told to stop.

    Its process is to be started with `nonesuch.host.process.ray_environment`: it takes its number of threads from
    there. Needs `max_concurrency=2`: `run` occupies one thread for good, `stop` uses the other.
    """

    def __init__(self, settings: str) -> None:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._loop: TicketLoop = make_loop(WorkerSettings.model_validate_json(settings), device)

    def run(self) -> None:
        """Work until `stop`. Blocks."""
        self._loop.run()

    def stop(self) -> None:
        """Ask `run` to return after the ticket in hand."""
        self._loop.stop()
