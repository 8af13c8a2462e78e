"""Which format an answer has, by its URL, its body and its Accept header."""

import pytest

from nonesuch.errors import NotAcceptable
from nonesuch_gateway.formats import FORMATS
from nonesuch_gateway.formats.negotiation import FormatChoice, Preferences

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def by_accept(header: str) -> tuple[str, str]:
    choice = Preferences(header).choose()
    return choice.name, choice.codec


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", "arrow"),
        ("*/*", "arrow"),
        (" , ,", "arrow"),
        ("image/*", "png"),
        ("IMAGE/PNG", "png"),
        ("application/*", "arrow"),
        ("application/json", "json"),
        ("application/json; charset=utf-8", "json"),
        ("application/json, text/plain, */*", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "arrow"),
        ("application/zip;q=0.5, application/x-tar;q=0.51", "webdataset"),
        ("application/zip;q=0.5, application/x-tar;q=0.5", "webdataset"),
        ("*/*;q=0.1, application/x-npz;q=0.2", "npz"),
        ("*/*, application/x-npz;q=0.2", "arrow"),
        (f"*/*, {ARROW};q=0", "parquet"),
        (f"{ARROW};q=0, {PARQUET};q=0, application/*;q=0.3", "npz"),
        (f"image/png;q=1.000 ,\t{PARQUET};q=0.999", "png"),
    ],
)
def test_the_best_format_by_accept(accept, name):
    assert by_accept(accept) == (name, "none")


@pytest.mark.parametrize(
    ("accept", "codec"),
    [
        (f"{ARROW};codecs=zstd", "zstd"),
        (f'{ARROW};codecs="brotli, lz4"', "lz4"),
        (f'{ARROW}; codecs="lz4,zstd"', "zstd"),
        (f'{ARROW};codecs="none,zstd"', "none"),
        (f"{ARROW};q=0.5, {ARROW};codecs=LZ4;q=0.6", "lz4"),
        (f"{ARROW};codecs=brotli, */*;q=0.1", "none"),
    ],
)
def test_codecs_of_arrow_by_accept(accept, codec):
    assert by_accept(accept) == ("arrow", codec)


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        ("text/html", "'text/html' allows none"),
        ("*/*;q=0", "allows none"),
        ("*/png", "allows none"),
        (f"{ARROW};codecs=brotli", "allows none"),
        ("json", "'json', which is no media type"),
        ("application/", "'application/', which is no media type"),
        ("application/json;q=2", "whose q is no number"),
        ("application/json;q=nan", "whose q is no number"),
        ("application/json;q=-1, */*", "whose q is no number"),
        ("application/json;q", "whose q is no number"),
        ('"application/json', "no media type"),
        ("ärger/json", "no media type"),
        ("*/*, " * 1000, "5000 characters and 2048 are allowed"),
    ],
)
def test_what_no_format_fits_or_cannot_be_read_lists_what_there_is(accept, words):
    with pytest.raises(NotAcceptable) as refused:
        Preferences(accept).choose()
    assert words in str(refused.value)
    assert all(f"{name} ({form.media_type})" in str(refused.value) for name, form in FORMATS.items())


def test_the_url_goes_before_the_body_and_the_body_before_accept():
    assert Preferences("image/png", "zip").choose("json").name == "zip"
    assert Preferences("image/png").choose("json").name == "json"
    assert Preferences("text/html").choose("json").name == "json"
    assert Preferences(f"{ARROW};codecs=lz4", codec="zstd").choose() == FormatChoice("arrow", "zstd")
    assert Preferences(f"{ARROW};codecs=lz4", codec="none").choose() == FormatChoice("arrow")


@pytest.mark.parametrize(
    ("preferences", "words"),
    [
        (Preferences(format="parket"), "did you mean parquet"),
        (Preferences(format="../x" * 100), "no format"),
        (Preferences(format=""), "no format ''"),
        (Preferences(format="zip", codec="zstd"), "format zip has no codec 'zstd', only none"),
        (Preferences(codec="brotli"), "format arrow has no codec 'brotli', only none, zstd, lz4"),
    ],
)
def test_names_that_there_are_not(preferences, words):
    with pytest.raises(NotAcceptable) as refused:
        preferences.choose()
    assert words in str(refused.value) and len(str(refused.value)) < 600


def test_a_choice_can_be_made_again_from_its_query():
    assert FormatChoice("arrow", "zstd").query == "format=arrow&codec=zstd"
    assert FormatChoice("zip").query == "format=zip" and FormatChoice("zip").suffix == ".zip"
