"""Everything on one machine: a Redis of its own, workers and a gateway as child processes."""
