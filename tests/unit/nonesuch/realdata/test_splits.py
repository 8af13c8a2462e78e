"""Splits by name: the spellings that are about, in folders and in shards, and what is refused."""

import io
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nonesuch.errors import InvalidValue
from nonesuch.realdata.fashion_mnist import Split
from nonesuch.realdata.labelled import read_labelled
from nonesuch.realdata.splits import split_of
from nonesuch.realdata.unlabelled import read_images

WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
FORMS = (
    "{}", "{}_set", "{}-data", "{}set", "{}_images", "{} set", "01_{}", "{}2017", "{}.images", "{}Images", "{}_split",
)  # fmt: skip
CASES = (str.lower, str.upper, str.capitalize)
GREY = {"cat": 40, "dog": 90}
"""The grey of a class's pictures; one more in each further split."""


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, *greys: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, grey in enumerate(greys):
        (folder / f"{i}.png").write_bytes(png(grey))


def write_split(root: Path, more: int) -> None:
    for name, grey in GREY.items():
        write(root / name, grey + more, grey + more)


def write_shard(path: Path, more: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"image": [png(grey + more) for grey in GREY.values()] * 2, "label": [*GREY] * 2}
    pq.write_table(pa.table(table), path)


def greys(source: Path, split: Split) -> set[int]:
    return set(np.unique(read_labelled(str(source), split).images).tolist())


spellings = st.sampled_from(get_args(Split)).flatmap(
    lambda split: st.tuples(
        st.just(split),
        st.builds(
            lambda word, form, case: form.format(case(word)),
            st.sampled_from(WORDS[split]), st.sampled_from(FORMS), st.sampled_from(CASES),
        ),
    )
)  # fmt: skip


@given(spellings)
def test_a_split_is_known_in_every_spelling(spelled: tuple[Split, str]) -> None:
    split, name = spelled
    assert split_of(name) == split


@pytest.mark.parametrize(
    "name",
    ["cat", "trainer", "steam_train", "contest", "invalid", "developer", "test tube", "values", "0"],
)
def test_a_class_is_no_split(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("name", ["train_test", "trainval", "train-val", "TrainValidation", "train_test_split"])
def test_a_name_of_two_splits_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match=f"{name} names more than one split"):
        split_of(name)


PAIRS = [
    ("Training", "Testing"),
    ("train_set", "test_set"),
    ("TRAIN", "TEST"),
    ("trainset", "testset"),
    ("train-images", "eval"),
    ("Train Data", "Evaluation Data"),
    ("1_train", "2_test"),
    ("seg_train", "seg_test"),
    ("AslAlphabetTrain", "AslAlphabetTest"),
]


@pytest.mark.parametrize(("train", "test"), PAIRS)
def test_folders_and_shards_of_splits_are_kept_apart(train: str, test: str, tmp_path: Path) -> None:
    folders, shards, files = (tmp_path / name for name in ("folders", "shards", "files"))
    for more, name in enumerate((train, test)):
        write_split(folders / name, more)
        write_shard(shards / name / "0000.parquet", more)
        write_shard(files / f"{name}-00000-of-00001.parquet", more)
    (folders / "notes").mkdir()
    (folders / "notes" / "read.txt").touch()
    for source in (folders, shards, files):
        for more, split in enumerate(("train", "test")):
            assert read_labelled(str(source), split).class_names == ("cat", "dog")  # type: ignore[arg-type]
            assert greys(source, split) == {grey + more for grey in GREY.values()}  # type: ignore[arg-type]
    assert read_labelled(str(folders), "test").name == f"folders/test ({test})"
    assert read_labelled(str(folders), "validation").name.startswith("folders/validation")


def test_the_name_says_which_split_was_taken(tmp_path: Path) -> None:
    write_split(tmp_path / "data" / "train", 0)
    write_split(tmp_path / "data" / "dev", 1)
    names = [read_labelled(str(tmp_path / "data"), split).name for split in ("train", "validation")]  # type: ignore[arg-type]
    assert names == ["data/train", "data/validation (dev)"]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("cat", "dog", "test"), "test looks like the test split, but .*cat beside it like a class"),
        (("cat", "dog", "Validation/cat"), "looks like the validation split"),
        (("cat", "dog", "train/cat"), "looks like the train split"),
        (("cat", "val/cat", "test/cat"), "looks like the test split|looks like the validation split"),
        (("train/cat", "Training/cat", "test/cat"), "Training and train, which both mean train"),
        (("val/cat", "dev/cat", "train/cat"), "dev and val, which both mean validation"),
        (("trainval/cat", "test/cat"), "trainval names more than one split"),
        (("train/cat", "test/cat", "cat"), "has the folder cat, and so has test in it"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "cat has the splits test, train, and lies where a class"),
        (("data/train/cat", "data/test/cat"), "data has the splits test, train, .* or name .*data itself"),
        (("train/train/cat", "test/test/cat"), "(test|train) has the splits (test|train), and lies where a class"),
        (("trainA", "trainB", "testA", "testB"), "both mean"),
    ],
)
def test_what_could_be_a_split_or_a_class_is_refused(places: tuple[str, ...], message: str, tmp_path: Path) -> None:
    for place in places:
        write(tmp_path / place, 1, 2)
    with pytest.raises(InvalidValue, match=message):
        read_labelled(str(tmp_path))


@pytest.mark.parametrize(
    "classes", [("car", "train", "tram"), ("invalid", "valid"), ("contest", "test tube"), ("steam_train", "tram")]
)
def test_classes_may_have_such_words_in_their_names(classes: tuple[str, ...], tmp_path: Path) -> None:
    for name in classes:
        write(tmp_path / name, 1, 2)
    assert read_labelled(str(tmp_path)).class_names == classes


def test_images_without_labels_are_of_one_split(tmp_path: Path) -> None:
    for more, name in enumerate(("Training", "Testing")):
        write_split(tmp_path / name, more)
    with pytest.raises(InvalidValue, match=r"holds images of test, train: name one of them, as in .*Testing"):
        read_images(tmp_path, (4, 4, 1), limit=9, seed=0)
    for name, more in (("test", 1), ("Testing", 1), ("train", 0)):
        found = read_images(tmp_path / name, (4, 4, 1), limit=9, seed=0)
        assert set(np.unique(found.images).tolist()) == {grey + more for grey in GREY.values()}
