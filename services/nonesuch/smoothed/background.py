"""Minting while the user trains.

    user      waits for: the images of one epoch (`take`) ── unblocked by: the minting thread, Ctrl-C
    minting   waits for: what its source waits for ───────── unblocked by: that, its patience, `close`

There is one minting thread at a time, and only while images are asked for. Ctrl-C ends the user's wait and not the
minting: the images can be taken later.
"""

import os
import threading
from collections.abc import Callable

from nonesuch.classifiers.published import Snapshot
from nonesuch.errors import InvalidValue
from nonesuch.smoothed.orders import Wanted
from nonesuch.smoothed.source import Came, FreshSource

POLL_S = 0.1
"""Seconds between two looks at how far the minting is."""
CLOSE_S = 10.0
"""How many seconds `close` waits for the minting to end. Its thread does not keep the process alive."""


class BackgroundMinting:
    """A source, and what is being minted from it. Only the process that made it can use it."""

    def __init__(self, open_source: Callable[[threading.Event], FreshSource]) -> None:
        self._open_source = open_source
        self._owner = os.getpid()
        self._stop = threading.Event()
        self._job: _Job | None = None
        self._used = False
        self.source = open_source(self._stop)

    @property
    def pending(self) -> bool:
        """Whether images were asked for that nobody has taken."""
        return self._job is not None

    def start(self, wanted: Wanted, snapshot: Snapshot | None) -> None:
        """Ask for the images of an epoch. Does not wait."""
        self.check_usable("minting")
        assert self._job is None, "take comes first"
        self._used = True
        self._job = _Job(self.source, wanted, snapshot)

    def take(self, on_images: Callable[[int], None]) -> Came:
        """The images that were asked for. Blocks until they are there; `on_images` is told how many more have come.

        Raises what `FreshSource.mint` raises. After an error the images can be asked for again.
        """
        self.check_usable("minting")
        assert self._job is not None, "start comes first"
        self._job.wait(on_images)
        job, self._job = self._job, None
        if job.error is not None:
            raise job.error
        assert job.came is not None
        return job.came

    def start_over(self) -> None:
        """Forget what was asked for and what was published. Raises what opening a source raises."""
        self.check_usable("minting")
        if self._used:
            self.close()
            self._job, self._used, self._stop = None, False, threading.Event()
            self.source = self._open_source(self._stop)

    def close(self) -> None:
        """End the minting, and withdraw what was asked for. Blocks for `CLOSE_S` at most, but for the service."""
        if self._stop.is_set() or os.getpid() != self._owner:  # a DataLoader's worker has a copy that is not its own
            return
        self._stop.set()
        if self._job is not None:
            self._job.thread.join(CLOSE_S)
        self.source.close()

    def check_usable(self, what: str) -> None:
        """Raises `InvalidValue` in another process, and after `close`."""
        if os.getpid() != self._owner:
            raise InvalidValue(
                f"{what} in a process that has a copy of the dataset, such as a DataLoader's worker: do it where the "
                "dataset was made"
            )
        if self._stop.is_set():
            raise InvalidValue(f"{what} after the dataset was closed: make a new one, with state=ds.state_dict()")


class Elsewhere:
    """What stands in the place of the minting in a process that was given a copy of the dataset."""

    pending = False

    def check_usable(self, what: str) -> None:
        raise InvalidValue(f"{what} in a process that has a copy of the dataset: do it where the dataset was made")

    def close(self) -> None:
        pass


class _Job:
    """One call of `FreshSource.mint`, in a thread."""

    def __init__(self, source: FreshSource, wanted: Wanted, snapshot: Snapshot | None) -> None:
        self.came: Came | None = None
        self.error: BaseException | None = None
        self._counted = self._told = 0
        # A daemon: at the end of the program the dataset is closed, which ends it, and nobody waits for it before.
        self.thread = threading.Thread(
            target=self._run, args=(source, wanted, snapshot), name="nonesuch-minting", daemon=True
        )
        self.thread.start()

    def wait(self, on_images: Callable[[int], None]) -> None:
        """Block until the minting is done. Ctrl-C ends the wait, and leaves the minting as it is."""
        while self.thread.is_alive():
            self.thread.join(POLL_S)
            counted = self._counted
            on_images(counted - self._told)
            self._told = counted

    def _run(self, source: FreshSource, wanted: Wanted, snapshot: Snapshot | None) -> None:
        try:
            self.came = source.mint(wanted, snapshot, self._count)
        except BaseException as error:  # whatever it is, it is the user's
            self.error = error

    def _count(self, came: int, wanted: int) -> None:
        self._counted = came
