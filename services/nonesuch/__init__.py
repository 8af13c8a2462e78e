"""Nonesuch: labelled training images that do not exist.

This package holds what crosses a process border. Importing it pulls neither torch nor ray nor fastapi.
"""

from importlib.metadata import version

__version__ = version("nonesuch")
