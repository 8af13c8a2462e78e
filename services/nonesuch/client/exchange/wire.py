"""The wire to a gateway: the effects of calls, which are operations (`nonesuch.effects`) over HTTP.

    Ask     send a request, and wait for the head of its answer ── `Head`
    Read    the next bytes of that answer; b"" after the last   ── `bytes`
    Pause   wait before trying again                            ── None
    Work    do what takes long without the network              ── what it returns

`Ask` and `Read` raise `Unreachable` when the connection fails, inside the call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature, signature
from typing import Any, Unpack, get_args, get_origin

from nonesuch.effects import Effect


@dataclass(frozen=True)
class Ask(Effect):
    """One request. An answer that is still open is dropped, whose connection is closed: the gateway sees that."""

    method: str
    path: str
    """The path below the URL of the gateway; begins with a slash."""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    patience_s: float = 0.0
    """How many seconds longer than usual the answer, or its next part, may take."""


@dataclass(frozen=True)
class Read(Effect):
    """The next bytes of the open answer."""


@dataclass(frozen=True)
class Pause(Effect):
    """Wait for `seconds` before trying again."""

    seconds: float


@dataclass(frozen=True)
class Work(Effect):
    """Call `do`, in a thread of its own where an event loop waits."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Head:
    """What comes of an answer before its bytes."""

    status: int
    headers: Mapping[str, str]
    """The headers of the answer; case does not matter in their names."""
    url: str
    """The URL that was asked, for messages."""


def signature_of(call: Callable[..., Any]) -> Signature:
    """The signature of what runs a call, for `help` and for completion: with every keyword that it takes, and what
    the call ends in, if that can be told.
    """
    shown = signature(call)
    parameters = [each for p in shown.parameters.values() for each in _keywords(p)]
    returned = get_args(shown.return_annotation)[2:] or (Signature.empty,)
    return shown.replace(parameters=parameters, return_annotation=returned[0])


def _keywords(parameter: Parameter) -> list[Parameter]:
    """A parameter; of one that stands for the keys of a `TypedDict`, each of them, and any other."""
    if get_origin(parameter.annotation) is not Unpack:
        return [parameter]
    (keys,) = get_args(parameter.annotation)
    named = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in keys.__annotations__.items()
    ]
    return [*named, Parameter("more_params", Parameter.VAR_KEYWORD)]
