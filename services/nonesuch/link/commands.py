"""What goes over the wire to Redis: commands, and our scripts (`lua/`), each of which is one atomic step."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from nonesuch.effects import Effect
from nonesuch.link.keys import Keys


class Call(Effect):
    """One Redis command, or one of our scripts. What comes of it is Redis' reply, undecoded."""

    __slots__ = ("args", "script")

    def __init__(self, *args: Any, script: str | None = None) -> None:
        self.args = args
        self.script = script


def script(name: str, keys: Keys, *args: Any) -> Call:
    """A call of `lua/<name>.lua`. Its one KEYS entry is the namespace; the script builds the keys below it."""
    return Call(keys.namespace, *args, script=name)


def command(call: Call, *, by_hash: bool) -> tuple[Any, ...]:
    """The words of a call. `by_hash` names a script by its sha1, which is enough if Redis has seen it before."""
    if call.script is None:
        return call.args
    source = _source(call.script)
    return ("EVALSHA", source.sha, 1, *call.args) if by_hash else ("EVAL", source.text, 1, *call.args)


@dataclass(frozen=True)
class _Script:
    text: str
    sha: str


@cache
def _source(name: str) -> _Script:
    folder = files("nonesuch.link") / "lua"
    text = (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()
    return _Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
