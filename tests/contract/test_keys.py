"""keys.py and prelude.lua name the same keys."""

from importlib.resources import files
from typing import get_args

import pytest

from nonesuch.errors import InvalidValue
from nonesuch.link import Call, Keys, Link
from nonesuch.orders import Priority

PAIRS = {
    "K_NOTHING": lambda k: k.nothing,
    "k_order('o')": lambda k: k.order("o"),
    "k_done('o')": lambda k: k.done("o"),
    "k_returned('o')": lambda k: k.returned("o"),
    "k_attempts('o')": lambda k: k.attempts("o"),
    "k_minted('o', 4)": lambda k: k.minted("o", 4),
    "k_tally('o')": lambda k: k.tally("o"),
    "k_open('bulk')": lambda k: k.open("bulk"),
    "K_LEASES": lambda k: k.leases,
    "K_DEADLINES": lambda k: k.deadlines,
    "K_BELL": lambda k: k.bell,
    "K_RINGS": lambda k: k.rings,
    "k_ring('r')": lambda k: k.ring("r"),
    "k_ready('r')": lambda k: k.ready("r"),
    "k_in_hand('r')": lambda k: k.in_hand("r"),
    "k_free('r')": lambda k: k.free("r"),
    "k_orders('r')": lambda k: k.orders("r"),
    "k_reader('r')": lambda k: k.reader("r"),
    "k_slot('r', 3)": lambda k: k.slot("r", 3),
    "k_snapshots('c')": lambda k: k.snapshots("c"),
    "k_pins('c')": lambda k: k.pins("c"),
    "k_snapshot('c', 7)": lambda k: k.snapshot("c", 7),
    "k_chunk('c', 7, 2)": lambda k: k.chunk("c", 7, 2),
    "k_staged('c', 7, 'ab', 2)": lambda k: k.staged("c", 7, "ab", 2),
    "K_CHANNELS": lambda k: k.channels,
    "k_spent('t', 'images')": lambda k: k.spent("t", "images"),
    "K_WORKERS": lambda k: k.workers,
    "k_worker('w')": lambda k: k.worker("w"),
}


def test_the_scripts_and_the_clients_name_the_same_keys(link: Link) -> None:
    prelude = (files("nonesuch.link") / "lua" / "prelude.lua").read_text()
    keys = Keys("space")

    def names():
        return (yield Call("EVAL", f"{prelude} return {{{', '.join(PAIRS)}}}", 1, keys.namespace))

    assert [name.decode() for name in link.run(names())] == [of(keys) for of in PAIRS.values()]


def test_the_scripts_know_the_same_priorities() -> None:
    prelude = (files("nonesuch.link") / "lua" / "prelude.lua").read_text()
    assert f"local PRIORITIES = {{{', '.join(repr(p) for p in get_args(Priority))}}}" in prelude


def test_everything_of_the_prelude_that_names_a_key_is_compared() -> None:
    prelude = (files("nonesuch.link") / "lua" / "prelude.lua").read_text()
    named = {line.split("(")[0].split()[-1] for line in prelude.splitlines() if line.startswith("local function k_")}
    constants = {line.split()[1] for line in prelude.splitlines() if line.startswith("local K_")}
    assert constants == {pair for pair in PAIRS if pair.startswith("K_")}
    assert named == {pair.split("(")[0] for pair in PAIRS if pair.startswith("k_")}


@pytest.mark.parametrize("namespace", ["", "a:b", "a b", "ü/"])
def test_a_namespace_that_is_no_key_prefix_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidValue, match="becomes a key prefix"):
        Keys(namespace)
