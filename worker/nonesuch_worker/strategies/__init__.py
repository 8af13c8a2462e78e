"""Which latents an index gets: one module for each strategy, `base` for what they are to the worker."""
