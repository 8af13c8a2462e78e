"""The numbers of the service are of one moment, however quickly rings come and go meanwhile."""

import threading

from nonesuch.link import Link
from nonesuch.local.status import as_table, one_line
from nonesuch.rings import close_ring, open_ring
from nonesuch.stats import read_stats
from tests.helpers.fakes import ring


def test_rings_that_come_and_go_are_seen_whole_or_not_at_all(service: Link) -> None:
    stop = threading.Event()

    def traffic(number: int) -> None:
        with Link(service.settings) as link:
            while not stop.is_set():
                spec = ring(f"reply-{number}")
                link.run(open_ring(link.keys, spec))
                link.run(close_ring(link.keys, spec.name))

    threads = [threading.Thread(target=traffic, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        seen = [service.run(read_stats(service.keys)) for _ in range(300)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {each.slots for stats in seen for each in stats.rings} == {4}
    assert len({len(stats.rings) for stats in seen}) > 1
    for stats in seen:
        assert one_line(stats, 0.0) and as_table(stats, 0.0, "here").row_count == 1
