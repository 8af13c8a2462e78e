"""Labels are a function of the order alone."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch.errors import InvalidOrder, InvalidValue
from nonesuch.labels import Balanced, Explicit, Quota, classes_in, distinct_names, resolve_classes
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import class_names_of
from nonesuch.snapshots import SnapshotHeader


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True), st.integers(0, 500), st.integers(1, 200))
def test_any_slice_of_balanced_labels_is_balanced_to_within_one(classes: list[int], start: int, n: int) -> None:
    labels = Balanced(classes=tuple(classes)).of(np.arange(start, start + n))
    counts = [(labels == c).sum() for c in classes]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == n


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 40), min_size=1, max_size=6))
def test_a_quota_is_met_exactly_and_in_proportion(counts: dict[int, int]) -> None:
    quota = Quota(counts=counts)
    labels = quota.of(np.arange(quota.total))
    assert {c: int((labels == c).sum()) for c in counts} == counts
    half = labels[: quota.total // 2]
    for c, n in counts.items():
        assert abs(int((half == c).sum()) - n / 2) <= 1


def test_labels_do_not_depend_on_which_indices_are_asked_together() -> None:
    for labels in (Balanced(classes=(3, 1)), Quota(counts={0: 3, 5: 7}), Explicit(labels=tuple(range(10)))):
        whole = labels.of(np.arange(10))
        assert [int(labels.of(np.array([i]))[0]) for i in range(10)] == list(whole)


NAMES = ("T-shirt/top", "Trouser", "Sneaker")


@pytest.mark.parametrize(
    ("given_classes", "expected"),
    [(None, (0, 1, 2)), (["sneaker", 0], (2, 0)), (["1"], (1,)), (["TROUSER"], (1,))],
)
def test_classes_are_found_by_name_or_number(given_classes: list[str | int] | None, expected: tuple[int, ...]) -> None:
    assert resolve_classes(given_classes, NAMES) == expected


@pytest.mark.parametrize(
    ("given_classes", "message"),
    [
        (["sneakers"], "unknown class 'sneakers': did you mean Sneaker"),
        (["zebra"], "unknown class 'zebra': classes are T-shirt/top"),
        ([3], "unknown class 3"),
        ([-1], "unknown class -1"),
        ([], "empty"),
    ],
)
def test_an_unknown_class_is_named_with_the_nearest_known(given_classes: list[str | int], message: str) -> None:
    with pytest.raises(InvalidOrder, match=message):
        resolve_classes(given_classes, NAMES)


TEXT = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["0", "1", "2", "crane", "Crane", "a,b"])
COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_names_are_identifiers(written: list[str]) -> None:
    names = distinct_names(written)
    assert len(set(names)) == len(written)
    assert distinct_names(names) == names
    assert all(unicodedata.normalize("NFC", given) == name[: len(name)] or name.endswith(f" ({label})")
               for label, (given, name) in enumerate(zip(written, names, strict=True)))  # fmt: skip
    for label, name in enumerate(names):
        assert resolve_classes([name], names) == (label,)
        assert resolve_classes([unicodedata.normalize("NFD", name)], names) == (label,)
        if name == name.strip() and not {"\n", "\r", "\0"} & set(name):
            quoted = '"' + name.replace('"', '""') + '"'
            assert resolve_classes(classes_in([name], names), names) == (label,)
            if not {quoted, f"{quoted},{quoted}"} & set(names):
                assert resolve_classes(classes_in([f"{quoted},{quoted}"], names), names) == (label, label)


@given(st.lists(TEXT, min_size=1, max_size=6, unique=True), st.integers(-2, 8))
def test_a_number_is_a_label_only_where_no_class_has_it_for_a_name(names: list[str], number: int) -> None:
    names = list(distinct_names(names))
    try:
        found = resolve_classes([number], names)
    except InvalidOrder:
        assert str(number) not in names and not 0 <= number < len(names)
        return
    assert found == resolve_classes([str(number)], names)
    assert found == ((names.index(str(number)),) if str(number) in names else (number,))


@pytest.mark.parametrize(
    ("given_classes", "expected"),
    [(["polish"], 0), (["Polish"], 1), (["FRENCH"], 2), (["3"], 4), ([3], 4), (["4"], 3), ([0], 0), (["STRASSE"], 5)],
)
def test_what_is_written_exactly_goes_first(given_classes: list[str | int], expected: int) -> None:
    assert resolve_classes(given_classes, ("polish", "Polish", "French", "4", "3", "Straße")) == (expected,)


@pytest.mark.parametrize("given_class", ["POLISH", "pOLISH"])
def test_a_name_that_could_be_two_classes_is_refused(given_class: str) -> None:
    with pytest.raises(InvalidOrder, match=f"class '{given_class}' could be polish or Polish: write it exactly so"):
        resolve_classes([given_class], ("polish", "Polish"))


@pytest.mark.parametrize("given_class", ["01", "+1", "-0", "٣", "1.0", True, "9" * 5000])
def test_only_plain_numbers_are_labels(given_class: str | int) -> None:
    with pytest.raises(InvalidOrder, match="unknown class"):
        resolve_classes([given_class], ("a", "b", "c", "d"))


def test_names_that_classes_share_get_their_labels() -> None:
    names = distinct_names(["crane", "maillot", COMPOSED, "crane", "maillot", "tank suit", DECOMPOSED])
    assert names == (
        "crane (0)", "maillot (1)", f"{COMPOSED} (2)", "crane (3)", "maillot (4)", "tank suit", f"{COMPOSED} (6)",
    )  # fmt: skip
    with pytest.raises(InvalidOrder, match=r"unknown class 'crane': did you mean crane \(\d\), crane \(\d\)"):
        resolve_classes(["crane"], names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["crane", "crane", "crane (0)"], r"several classes are called 'crane' and one 'crane \(0\)'"),
        (["ant", "caf\udce9"], r"name of class 1, 'caf\\udce9', is not UTF-8"),
        (["x" * 256], "has 256 characters: 255 are possible"),
    ],
)
def test_names_that_cannot_be_told_apart_or_written_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        distinct_names(names)


def test_names_are_the_same_wherever_they_are_read() -> None:
    written = ["crane", DECOMPOSED, "crane"]
    names = ("crane (0)", COMPOSED, "crane (2)")
    facts = {"image_shape": (8, 8, 1), "sha256": "0" * 64, "class_names": written}
    assert GeneratorInfo(id="g", family="f", z_dim=1, **facts).class_names == names
    header = SnapshotHeader(
        channel="c", version=0, architecture="a", classes=3, mean=(0.5,), std=(0.5,), epoch=0, step=0, **facts
    )
    assert header.class_names == names
    assert class_names_of(pa.schema([], {"nonesuch.class_names": json.dumps(written)})) == names


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["goldfish,1"], (1, 1)),
        (["tench, Tinca tinca"], (0,)),
        (['"tench, Tinca tinca", goldfish'], (0, 1)),
        (["tench, Tinca tinca", "goldfish"], (0, 1)),
        (['GOLDFISH,"TENCH, TINCA TINCA"'], (1, 0)),
    ],
)
def test_names_with_commas_can_be_written_on_a_line(texts: list[str], expected: tuple[int, ...]) -> None:
    names = ("tench, Tinca tinca", "goldfish")
    assert resolve_classes(classes_in(texts, names), names) == expected


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(InvalidOrder, match=r"is no list of classes .*: separate them by commas, and write"):
        classes_in(['"tench, goldfish'], ("goldfish",))
