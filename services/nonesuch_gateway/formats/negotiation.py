"""The choice of an answer's format: what its URL or its body names, or the best by the `Accept` header."""

from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import urlencode

from nonesuch.errors import NotAcceptable
from nonesuch.schema import ending_of
from nonesuch_gateway.formats import CODECS, FORMATS, ArrowStream, Format, Outline
from nonesuch_gateway.formats.accept import ANYTHING, Range, parse_accept


@dataclass(frozen=True)
class FormatChoice:
    """A format that was chosen, before the images that it is for are known."""

    name: str
    codec: str = "none"
    """What compresses Arrow's buffers: none, zstd or lz4."""

    @property
    def suffix(self) -> str:
        """The ending of a file of this kind, with its dot."""
        return ending_of(self.name)

    @property
    def query(self) -> str:
        """What makes the same choice in a URL, without its question mark."""
        return urlencode({"format": self.name} if self.codec == "none" else {"format": self.name, "codec": self.codec})

    def open(self, count: int, *, complete: bool) -> Format:
        """A format for `count` ordered rows; `complete` says that all of them will come.

        Raises `InvalidOrder` for more than it can hold.
        """
        return FORMATS[self.name](Outline(count, complete, None if self.codec == "none" else self.codec))


@dataclass(frozen=True)
class Preferences:
    """What a request's URL and headers say of the format that it wants."""

    accept: str = ""
    """The Accept header; empty stands for anything."""
    format: str | None = None
    codec: str | None = None

    def choose(self, named: str | None = None) -> FormatChoice:
        """The format in the URL, or else the one `named` in the body, or else the best by Accept.

        Raises `NotAcceptable`, whose message lists what there is.
        """
        name = named if self.format is None else self.format
        choice = _by_accept(self.accept) if name is None else _by_name(name)
        return choice if self.codec is None else _with_codec(choice, self.codec)


_CHOICES = tuple(
    FormatChoice(name, codec)
    for name, form in FORMATS.items()
    for codec in (("none", *CODECS) if form is ArrowStream else ("none",))
)


def _by_name(name: str) -> FormatChoice:
    if name not in FORMATS:
        close = get_close_matches(name[:64].lower(), FORMATS, 1)
        raise _refusal(f"there is no format {name[:64]!r}" + (f" (did you mean {close[0]}?)" if close else ""))
    return FormatChoice(name)


def _with_codec(choice: FormatChoice, codec: str) -> FormatChoice:
    wanted = FormatChoice(choice.name, codec)
    if wanted not in _CHOICES:
        known = ", ".join(c.codec for c in _CHOICES if c.name == choice.name)
        raise _refusal(f"format {choice.name} has no codec {codec[:64]!r}, only {known}")
    return wanted


def _by_accept(header: str) -> FormatChoice:
    """The choice of the highest quality; among equals the one that is named most exactly; then the first."""
    try:
        ranges = parse_accept(header) or [ANYTHING]
    except ValueError as error:
        raise _refusal(str(error)) from None
    ranks = {choice: _rank(choice, ranges) for choice in _CHOICES}
    best = max(ranks, key=lambda choice: ranks[choice])
    if ranks[best][0] == 0:
        raise _refusal(f"Accept {header[:200]!r} allows none of the formats that there are")
    return best


def _rank(choice: FormatChoice, ranges: list[Range]) -> tuple[float, int]:
    """Quality and exactness of the entry that means a choice most exactly."""
    media_type = FORMATS[choice.name].media_type
    exactness, quality = max((r.exactness(media_type, choice.codec), r.quality) for r in ranges)
    return (quality, exactness) if exactness else (0.0, 0)


def _refusal(reason: str) -> NotAcceptable:
    known = ", ".join(f"{name} ({form.media_type})" for name, form in FORMATS.items())
    return NotAcceptable(f"{reason}: choose one of {known}, with Accept or ?format=")
