"""Both drivers run the same operation alike: what comes of its effects, what fails, what interrupts it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nonesuch.effects import Effect, Op, T, adrive, drive
from nonesuch.errors import Busy, Unreachable


class Say(Effect):
    """An effect that says a word; an error instead of a word is raised."""

    def __init__(self, word: str | BaseException) -> None:
        self.word = word


def on_a_thread(op: Op[T], said: list[str]) -> T:
    def do(effect: Effect) -> int:
        assert isinstance(effect, Say)
        if isinstance(effect.word, BaseException):
            raise effect.word
        said.append(effect.word)
        return len(said)

    return drive(op, do)


def in_a_loop(op: Op[T], said: list[str]) -> T:
    async def do(effect: Effect) -> int:
        await asyncio.sleep(0)
        assert isinstance(effect, Say)
        if isinstance(effect.word, BaseException):
            raise effect.word
        said.append(effect.word)
        return len(said)

    return asyncio.run(adrive(op, do))


Run = Callable[[Op[Any], list[str]], Any]
both = pytest.mark.parametrize("run", [on_a_thread, in_a_loop])


@both
def test_an_operation_receives_what_comes_of_its_effects(run: Run) -> None:
    def op() -> Op[list[int]]:
        first: int = yield Say("a")
        second: int = yield Say("b")
        return [first, second]

    said: list[str] = []
    assert run(op(), said) == [1, 2] and said == ["a", "b"]


@both
@pytest.mark.parametrize("trouble", [Busy("full"), Unreachable("gone"), ValueError("what")])
def test_trouble_is_an_error_inside_of_the_operation_which_may_clean_up(run: Run, trouble: Exception) -> None:
    def op() -> Op[None]:
        try:
            yield Say(trouble)
        except Exception:
            yield Say("cleaned up")
            raise

    said: list[str] = []
    with pytest.raises(type(trouble)) as raised:
        run(op(), said)
    assert raised.value is trouble and said == ["cleaned up"]


@both
def test_an_operation_may_go_on_after_trouble(run: Run) -> None:
    def op() -> Op[str]:
        try:
            yield Say(Busy("full"))
        except Busy:
            yield Say("again")
        return "done"

    said: list[str] = []
    assert run(op(), said) == "done" and said == ["again"]


@both
def test_what_is_interrupted_is_closed(run: Run) -> None:
    said: list[str] = []

    def op() -> Op[None]:
        try:
            yield Say(KeyboardInterrupt())
        finally:
            said.append("closed")

    with pytest.raises(KeyboardInterrupt):
        run(op(), said)
    assert said == ["closed"]
