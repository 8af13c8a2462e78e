"""A worker without Ray: the real loop, minter and generators. Each ticket takes as many seconds longer as the file of
NONESUCH_CHAOS_SLOW says.

    python -m tests.chaos.worker SOURCE...
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path

import torch

from nonesuch.tickets import Ticket
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import MintedTicket
from nonesuch_worker.minting.service import MintingService, make_loop
from nonesuch_worker.settings import WorkerSettings


class Slowed(MintingService):
    """Takes longer."""

    slow = Path(os.environ["NONESUCH_CHAOS_SLOW"])

    def mint(self, ticket: Ticket) -> MintedTicket:
        time.sleep(float(self.slow.read_text()))
        return super().mint(ticket)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(threadName)s %(message)s")
    torch.set_num_threads(1)
    settings = WorkerSettings.from_env().model_copy(update={"generators": tuple(sys.argv[1:])})
    loop: TicketLoop = make_loop(settings, torch.device("cpu"))
    assert isinstance(loop._mints, MintingService)
    loop._mints.__class__ = Slowed
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    loop.run()


if __name__ == "__main__":
    main()
