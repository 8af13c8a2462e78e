"""The trainer: it learns from minted images, and is judged on real ones."""
