"""The `Accept` header (RFC 9110, 12.5.1), with the `codecs` that Arrow over HTTP adds to it."""

import re
from typing import NamedTuple
from urllib.request import parse_http_list

MAX_CHARACTERS = 2048

_TOKEN = r"[\w!#$%&'*+.^`|~-]+"
_MEDIA_TYPE = re.compile(f"({_TOKEN})/({_TOKEN})", re.ASCII)
_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


class Range(NamedTuple):
    """One entry of the header: what a client takes, and how gladly."""

    kind: str
    subtype: str
    quality: float
    """How gladly it is taken, in [0, 1]; 0 refuses."""
    codecs: frozenset[str]
    """The codecs of which any will do; empty stands for none."""

    def exactness(self, media_type: str, codec: str) -> int:
        """How exactly it means a media type, whose codec may be "none": 3 by name, 2 by kind, 1 as anything, or 0."""
        kind, subtype = media_type.split("/")
        if self.subtype == "*":
            return {kind: 2, "*": 1}.get(self.kind, 0) if codec == "none" else 0
        return 3 if (self.kind, self.subtype) == (kind, subtype) and codec in (self.codecs or {"none"}) else 0


ANYTHING = Range("*", "*", 1.0, frozenset())


def parse_accept(header: str) -> list[Range]:
    """The entries of the header; none when it is empty. Parameters but `q` and `codecs` are ignored.

    Raises `ValueError`, which quotes what it cannot read.
    """
    if len(header) > MAX_CHARACTERS:
        raise ValueError(f"Accept has {len(header)} characters and {MAX_CHARACTERS} are allowed")
    return [_range(entry) for entry in parse_http_list(header) if entry]


def _range(entry: str) -> Range:
    name, *rest = entry.lower().split(";")
    media_type = _MEDIA_TYPE.fullmatch(name.strip())
    if media_type is None:
        raise ValueError(f"Accept has {entry[:64]!r}, which is no media type")
    pairs = (parameter.partition("=") for parameter in rest)
    given = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
    quality = given.get("q", "1")
    if not _QUALITY.fullmatch(quality):
        raise ValueError(f"Accept has {entry[:64]!r}, whose q is no number from 0 to 1 with three decimals at most")
    codecs = frozenset(codec.strip() for codec in given.get("codecs", "").split(",")) - {""}
    return Range(media_type[1], media_type[2], float(quality), codecs)
