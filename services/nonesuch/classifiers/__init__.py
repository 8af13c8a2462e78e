"""Classifiers by name, and what they want for input. Imports torch; `nonesuch` itself does not import this package."""

from nonesuch.classifiers.normalisation import Normalisation, OnGenerated, input_tensor
from nonesuch.classifiers.registry import ClassifierSpec, architectures, build

__all__ = ["ClassifierSpec", "Normalisation", "OnGenerated", "architectures", "build", "input_tensor"]
