"""Classifiers by name, as files and as snapshots, and what they want for input. `spec`, `published` take no torch."""
