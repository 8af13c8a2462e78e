"""Which release of Nonesuch this is."""

from importlib.metadata import version

VERSION = version("nonesuch")
