"""TOML files as editors save them, read for every command."""

import tomllib
from pathlib import Path
from typing import Any

from nonesuch.errors import InvalidValue


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file, with a byte order mark or without. `what` names it in errors: "training config".

    Raises `InvalidValue`: it cannot be read, is not UTF-8, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidValue(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path} is not UTF-8, as TOML is: save it in that encoding") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"{path} is not TOML: {error}") from error
