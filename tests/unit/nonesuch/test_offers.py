"""Which generator is meant where none is named: the same for the command line, HTTP and the SDK."""

import pytest

from nonesuch.errors import GeneratorNotFound, InvalidOrder, NoWorkers
from nonesuch.offers import Catalog, GeneratorInfo, WorkerInfo


def hosted(*ids: str) -> Catalog:
    infos = tuple(
        GeneratorInfo(id=i, family="analytic", sha256="0" * 64, image_shape=(8, 8, 1), class_names=("a", "b"), z_dim=2)
        for i in ids
    )
    worker = WorkerInfo(id="w", host="h", pid=1, device="cpu", started=0.0, generators=infos, strategies=())
    return Catalog(workers=(worker,) if ids else ())


def test_which_generator_is_meant() -> None:
    assert hosted("h").choose(None).id == "h"
    assert hosted("g", "fashion-mnist").choose(None).id == "fashion-mnist"
    assert hosted("g", "h").choose(None, default="g").id == "g"
    assert hosted("g", "h").choose("h").id == "h"
    with pytest.raises(InvalidOrder, match="name one of g, h"):
        hosted("g", "h").choose(None)
    with pytest.raises(GeneratorNotFound, match="hosted now: g"):
        hosted("g").choose("h")
    with pytest.raises(NoWorkers):
        hosted().choose(None)
