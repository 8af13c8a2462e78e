"""The wire to Redis: what goes over it, under which names (`keys`, `lua/`), and how long its absence is waited out."""
