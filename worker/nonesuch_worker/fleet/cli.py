"""`nonesuch worker`: a fleet on a Ray cluster, or on this machine alone."""

import logging
import threading
from typing import Annotated

import typer

log = logging.getLogger(__name__)

LOADING_S = 600.0
"""How many seconds a Redis that loads its data is waited for when a fleet starts."""


def worker(
    workers: Annotated[int, typer.Option(min=1, help="Workers on each node that has no GPU.")] = 1,
    generator: Annotated[
        list[str] | None,
        typer.Option(help="A generator to host: a name (`nonesuch generators list`), a folder, or family:argument."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster to use; a private one if left out.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of one worker; its share of its node's cores if left out.")
    ] = None,
    elastic: Annotated[
        bool,
        typer.Option(
            "--elastic", envvar="NONESUCH_ELASTIC", help="Have Ray's autoscaler add nodes under load and end idle ones."
        ),
    ] = False,
    elastic_least: Annotated[
        int,
        typer.Option(
            min=1, envvar="NONESUCH_ELASTIC_LEAST", help="Nodes that always serve: the autoscaler's lower bound."
        ),
    ] = 1,
    elastic_busy_s: Annotated[
        float, typer.Option(envvar="NONESUCH_ELASTIC_BUSY_S", help="Seconds of more work than workers: ask for nodes.")
    ] = 15.0,
    elastic_idle_s: Annotated[
        float,
        typer.Option(envvar="NONESUCH_ELASTIC_IDLE_S", help="Seconds in which fewer nodes were enough: give some up."),
    ] = 300.0,
    elastic_rest_s: Annotated[
        float,
        typer.Option(
            envvar="NONESUCH_ELASTIC_REST_S",
            help="Seconds for the autoscaler to end a node that was given up, more than its idle timeout.",
        ),
    ] = 180.0,
) -> None:
    """Keep one worker for each GPU of the cluster (or --workers on a CPU node) and restart what dies, until Ctrl-C."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    import torch

    from nonesuch.errors import InvalidValue
    from nonesuch.host.process import on_signal
    from nonesuch.link import Link
    from nonesuch.link.patience import Patience
    from nonesuch_worker.fleet.elastic import Elastic, Times
    from nonesuch_worker.fleet.fleet import Fleet
    from nonesuch_worker.fleet.nodes import ElasticNodes, RedisLoad
    from nonesuch_worker.fleet.ray_host import RayHost
    from nonesuch_worker.generators.load import load_generator
    from nonesuch_worker.settings import WorkerSettings

    if elastic and not address:
        raise InvalidValue("--elastic needs a Ray cluster with an autoscaler: give its head with --address")
    times = Times(busy_s=elastic_busy_s, idle_s=elastic_idle_s, rest_s=elastic_rest_s)
    given = {"generators": tuple(generator or ()), "threads": threads}
    settings = WorkerSettings.from_env().model_copy(update={k: v for k, v in given.items() if v})
    with Link(settings.redis) as link:
        Patience(link, outage_s=LOADING_S, stop=threading.Event(), say=log.warning).begin()
    for source in settings.generators:
        load_generator(source, torch.device("cpu"))  # a mistake shows here, not in an actor that restarts for ever
    host = RayHost(settings, address)
    try:
        nodes = (
            ElasticNodes(host, RedisLoad(settings.redis), workers, Elastic(times, elastic_least)) if elastic else None
        )
        fleet = Fleet(host, workers=workers, threads=settings.threads, elastic=nodes)
        with on_signal(fleet.stop):
            fleet.run()
    finally:
        host.close()
