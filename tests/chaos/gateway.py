"""`nonesuch gateway`, whose clock of the day is as many seconds ahead as the file of NONESUCH_CHAOS_CLOCK says. Other
clocks are not moved: neither would the kernel move them.

    python -m tests.chaos.gateway OPTION...
"""

import os
import sys
import time
from pathlib import Path

from nonesuch.cli.main import main

_CLOCK = Path(os.environ["NONESUCH_CHAOS_CLOCK"])
_real = time.time


def _moved() -> float:
    return _real() + float(_CLOCK.read_text() or 0)


if __name__ == "__main__":
    time.time = _moved
    sys.argv = ["nonesuch", "gateway", *sys.argv[1:]]
    main()
