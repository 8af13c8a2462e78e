"""Strategies choose the latents that an index gets: a module for each, `base` for what they are to the worker."""
