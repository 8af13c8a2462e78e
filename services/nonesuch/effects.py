"""Operations are written once and run on a thread or in an event loop: `drive` and `adrive` are the only two drivers.

An operation is a generator that yields effects, which say what it wants done, and receives what came of them. It holds
all of the logic and does no I/O itself, so there are no twins to keep alike:

    Redis    `link.commands.Call`                          done by `link.connection.Link`, `AsyncLink`
    HTTP     `client.exchange.wire.Ask`, `Read`, ...        done by `client.Client`, `client.AsyncClient`

An effect that fails is an error *inside* of the operation, where it stood still: whatever the trouble, and whichever
driver, it may clean up, go on, or let the error pass. Interrupted (Ctrl-C, a task that is cancelled) it is closed
there.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Effect:
    """Something that an operation wants done."""

    __slots__ = ()


Op = Generator[Effect, Any, T]
"""An operation that ends in a T. Write `Op[None]`, `Op[Catalog]`, ..."""


def drive(op: Op[T], do: Callable[[Effect], Any]) -> T:
    """Run an operation to its end, and block the thread meanwhile: `do` does an effect and returns what came of it.

    Raises whatever the operation raises; an error of `do` is one of the operation's, unless that catches it.
    """
    try:
        effect = next(op)
        while True:
            try:
                came = do(effect)
            except Exception as error:
                effect = op.throw(error)
            else:
                effect = op.send(came)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        op.close()


async def adrive(op: Op[T], do: Callable[[Effect], Awaitable[Any]]) -> T:
    """`drive` for an event loop: blocks the task only. Raises the same."""
    try:
        effect = next(op)
        while True:
            try:
                came = await do(effect)
            except Exception as error:
                effect = op.throw(error)
            else:
                effect = op.send(came)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        op.close()
