"""Every error that Nonesuch raises on purpose.

    NonesuchError
    ├── InvalidValue (ValueError)    something the caller gave cannot work; names the value and the remedy
    │   ├── InvalidOrder             an order that no worker could fill
    │   ├── NotAcceptable            a format that the service does not write
    │   └── InvalidSnapshot          a snapshot with a missing, extra, misshapen or non-finite tensor
    ├── NotFound (LookupError)       something named does not exist
    │   ├── DataNotFound             a folder of real images
    │   ├── GeneratorNotFound        a generator that no worker hosts, or a folder that holds none
    │   ├── OrderNotFound            an order that ended and was taken, was cancelled, expired, or never was
    │   ├── RecipeNotFound           an id that is no recipe
    │   ├── RecipeGone               a recipe whose generator or classifier is no longer there
    │   └── SnapshotNotFound         a snapshot version that was never published, or is no longer kept
    ├── Conflict                     what was asked for contradicts what is there
    │   └── PreconditionFailed       it is no longer as the caller wants it to be
    ├── Denied                       the caller may not do that
    │   ├── Unauthorised             nobody knows who the caller is: no token, or one that is not accepted
    │   └── Forbidden                the caller's token does not allow it
    ├── ServiceError                 the service could not do what was asked; trying again may help
    │   ├── Unreachable              Redis or the gateway does not answer, or refuses what it did before: it may pass
    │   │   └── Occupied             Redis is there and busy with itself: it passes by itself
    │   ├── Refused                  Redis will not do it before somebody has mended its setup, or ours
    │   ├── Busy                     a limit of the service is reached
    │   │   └── RateLimited          a limit of the caller's token is reached
    │   ├── Unavailable              this gateway is stopping or full; another one may answer
    │   ├── RingClosed               the ring is gone: closed, expired, or lost with a restarted Redis
    │   ├── TakeTimeout              no batch came in time
    │   ├── OrderFailed              an order ended without all of its images
    │   └── NoWorkers                nobody is there to fill an order
    ├── NotWritable (OSError)        a file that cannot be written: no room, or no right to
    └── IntegrityError               bytes that do not match their sha256 or their schema

Messages are written for the person who reads them: what was given, what is wrong with it, what to do.

Over HTTP an error is a problem (RFC 9457) whose `type` is `PROBLEM` and the `problem_name` of its class, so a client
raises the same class again.
"""

import re

PROBLEM = "urn:nonesuch:problem:"


class NonesuchError(Exception):
    """The root of the tree: `except NonesuchError` catches whatever this project raises on purpose."""


class InvalidValue(NonesuchError, ValueError):
    """A value given by the caller cannot work. `field` names where it came in, if known (dotted path)."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidOrder(InvalidValue):
    """An order that no worker could fill."""


class NotAcceptable(InvalidValue):
    """An answer that was asked for in a format that the service does not write."""


class InvalidSnapshot(InvalidValue):
    """A snapshot that does not fit its architecture, or holds values that are not finite."""


class NotFound(NonesuchError, LookupError):
    """Something that was named does not exist."""


class DataNotFound(NotFound):
    """Real images that are not where they were looked for."""


class GeneratorNotFound(NotFound):
    """A generator that no worker hosts, or a folder that holds none."""


class OrderNotFound(NotFound):
    """An order that is not there: it never was, its results were taken, it was cancelled, or it expired."""


class RecipeNotFound(NotFound):
    """An id that is no recipe, or a recipe that could never be minted."""


class RecipeGone(NotFound):
    """A recipe whose generator or classifier is no longer there, or has other weights now."""


class SnapshotNotFound(NotFound):
    """A snapshot version that was never published, or is no longer kept."""


class Conflict(NonesuchError):
    """What was asked for contradicts what is there: it is taken already, or was changed by somebody else."""


class PreconditionFailed(Conflict):
    """What is there is not as the caller said that it must be: look again, and decide anew."""


class Denied(NonesuchError):
    """The caller may not do what was asked."""


class Unauthorised(Denied):
    """The caller gave no token, or one that is unknown, revoked or expired."""


class Forbidden(Denied):
    """The caller's token does not allow this. `scope` names what it lacks, if known."""

    def __init__(self, message: str, *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class ServiceError(NonesuchError):
    """The service could not do what was asked of it now; trying again may help."""


class Unreachable(ServiceError):
    """Redis does not answer or takes no writes now, or the gateway does not answer, or it stopped in mid-answer."""


class Occupied(Unreachable):
    """Redis is there and busy with itself: it loads its data, or runs a script. It answers again without help."""


class Refused(ServiceError):
    """Redis answers, and will not do what was asked before a person has mended its setup or ours."""


class Busy(ServiceError):
    """A limit is reached: too many open orders, no memory left for another ring, or on a worker for a single image."""


class RateLimited(Busy):
    """A limit of the caller's token is reached. `retry_after_s` is when there is room again, if known."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ServiceError):
    """One gateway takes no such request now: it is stopping, or full. Another one may."""


class RingClosed(ServiceError):
    """The ring is gone: closed by its owner, expired, or lost with a restarted Redis."""


class TakeTimeout(ServiceError, TimeoutError):
    """No batch came within the time given."""


class OrderFailed(ServiceError):
    """An order ended without all of its images: failed, cancelled or past its deadline."""


class NoWorkers(ServiceError):
    """No worker is there to fill an order."""


class NotWritable(NonesuchError, OSError):
    """A file or a folder that cannot be written: there is no room, or no right to."""


class IntegrityError(NonesuchError):
    """Bytes that do not match their sha256 or their schema."""


def problem_name(kind: type[NonesuchError]) -> str:
    """The name of an error class among problems: `InvalidOrder` is `invalid-order`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
