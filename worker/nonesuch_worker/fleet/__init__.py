"""The fleet of workers: one for each accelerator of a Ray cluster, and as many nodes as the load asks for."""
