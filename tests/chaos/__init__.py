"""Faults injected at random into a whole service under load, and what must hold whatever they were.

make test-chaos CHAOS="--seed 7 --faults 200 --report docs/results/chaos.json"

parts      the processes: Redis, workers, gateway, trainer; a supervisor starts again what has ended
wires      TCP between them, which can be cut or halted
faults     what is done to them, for how long
loads      clients that stream, order and export, and training runs, each compared with an undisturbed one
campaign   the order of events, what was found, the report
"""
