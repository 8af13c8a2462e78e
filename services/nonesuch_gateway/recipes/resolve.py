"""A request made a recipe: every name is looked up, every default is filled in, `latest` becomes a version."""

import secrets

from nonesuch.effects import Op
from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced, Labels, Quota, resolve_classes
from nonesuch.link import Keys
from nonesuch.offers import Catalog, GeneratorInfo
from nonesuch.orders import SnapshotRef, default_ticket_size
from nonesuch.snapshots import SnapshotHeader, read_header
from nonesuch_gateway.recipes.recipe import Content, Recipe
from nonesuch_gateway.recipes.requests import MintRequest

RANDOM_SEED_BITS = 53
"""How many bits a random seed has: JSON numbers of JavaScript are exact up to there."""


def resolve(
    keys: Keys, request: MintRequest, catalog: Catalog, *, default_generator: str, max_count: int
) -> Op[Recipe]:
    """The recipe of a request. Does not block, and writes nothing. Whether workers can fill it is not checked here.

    Raises:
        InvalidOrder: names the field of the request and what would be possible.
        GeneratorNotFound, SnapshotNotFound: something named is not there.
        NoWorkers: nobody is there to say what there is.
    """
    generators = _generator_ids(request, catalog, default_generator)
    info = catalog.generator(generators[0])
    labels, count = _labels(request, info, max_count)
    snapshot = yield from _fixed(keys, _snapshot(request))
    teacher = yield from _fixed(keys, request.teacher)
    content = Content(
        generators=generators,
        strategy=request.strategy,
        params=request.params,
        labels=labels,
        count=count,
        seed=secrets.randbits(RANDOM_SEED_BITS) if request.seed is None else request.seed,
        snapshot=_ref(snapshot),
        teacher=_ref(teacher),
        ticket_size=default_ticket_size(info.image_shape),
    )
    weights = [catalog.generator(g).sha256 for g in generators] + [c.sha256 for c in (snapshot, teacher) if c]
    return Recipe(content=content, weights=tuple(weights))


def _generator_ids(request: MintRequest, catalog: Catalog, default: str) -> tuple[str, ...]:
    """The ids of the generators that are named, of the only one hosted, or of the default."""
    if isinstance(request.generator, str):
        return (request.generator,)
    if request.generator is not None:
        return tuple(request.generator)
    return (catalog.choose(None, default).id,)


def _labels(request: MintRequest, info: GeneratorInfo, max_count: int) -> tuple[Labels, int]:
    labels: Labels
    if request.quota is None:
        if request.count is None:
            raise InvalidOrder("neither count nor quota is given: say how many images", field="count")
        labels = Balanced(classes=resolve_classes(request.classes, info.class_names))
        count = request.count
    else:
        if request.classes is not None:
            raise InvalidOrder("classes and quota are both given: quota names the classes too", field="classes")
        labels = Quota(counts=_quota(request.quota, info))
        count = labels.total
        if request.count not in (None, count):
            raise InvalidOrder(
                f"count is {request.count} and quota adds up to {count}: make them equal, or leave count out",
                field="count",
            )
        if count == 0:
            raise InvalidOrder("quota adds up to 0: ask for at least one image", field="quota")
    if count > max_count:
        raise InvalidOrder(
            f"{count} images are more than the {max_count} that one request may ask for: split it into several, each "
            "with a seed of its own",
            field="count" if request.quota is None else "quota",
        )
    return labels, count


def _quota(quota: dict[str, int], info: GeneratorInfo) -> dict[int, int]:
    try:
        indices = resolve_classes(list(quota), info.class_names)
    except InvalidOrder as error:
        error.field = "quota"
        raise
    counts: dict[int, int] = {}
    for index, n in zip(indices, quota.values(), strict=True):
        if index in counts:
            raise InvalidOrder(f"quota names class {info.class_names[index]!r} twice: keep one", field="quota")
        counts[index] = n
    return counts


def _snapshot(request: MintRequest) -> SnapshotRef | None:
    return None if request.snapshot is None else SnapshotRef(channel=request.channel, version=request.snapshot)


def _fixed(keys: Keys, ref: SnapshotRef | None) -> Op[SnapshotHeader | None]:
    """The header of a classifier: of a fixed version even for `latest`, so that what is minted can be minted again."""
    return None if ref is None else (yield from read_header(keys, ref.channel, ref.version))


def _ref(header: SnapshotHeader | None) -> SnapshotRef | None:
    return None if header is None else SnapshotRef(channel=header.channel, version=header.version)
