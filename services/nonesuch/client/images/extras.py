"""Optional packages: some of the client takes them, and not everybody has them."""

from importlib import import_module
from typing import Any


def needed(module: str, extra: str, what: str) -> Any:
    """A module of an optional package. Raises `ImportError` that says what wants it and how to install it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(
            f"{what} takes {package}, which is not installed: pip install 'nonesuch[{extra}]'", name=package
        ) from None
