"""The release of Nonesuch that is installed."""

from importlib.metadata import version

VERSION = version("nonesuch")
