"""Snapshots: payload first, marker last; monotone, immutable, a bounded number of them."""

from hashlib import sha256

import pytest

from nonesuch.effects import Op
from nonesuch.errors import (
    Conflict,
    IntegrityError,
    InvalidOrder,
    InvalidSnapshot,
    InvalidValue,
    PreconditionFailed,
    SnapshotNotFound,
)
from nonesuch.link import Call, Link
from nonesuch.orders import cancel, place
from nonesuch.rings import close_ring, open_ring
from nonesuch.snapshots import (
    ANY,
    MAX_VERSION,
    SnapshotHeader,
    check_version,
    drop_channel,
    fetch,
    latest_version,
    publish,
    read_header,
)
from tests.helpers.fakes import order, ring


def header(version: int, payload: bytes, channel: str = "run") -> SnapshotHeader:
    return SnapshotHeader(
        channel=channel,
        version=version,
        architecture="resnet18",
        image_shape=(4, 4, 1),
        classes=3,
        mean=(0.5,),
        std=(0.5,),
        epoch=version,
        step=version,
        sha256=sha256(payload).hexdigest(),
    )


def put(link: Link, version: int, payload: bytes = b"weights", keep: int = 3) -> bool:
    return link.run(publish(link.keys, header(version, payload), payload, keep=keep))


def command(link: Link, *args: object) -> object:
    def run():
        return (yield Call(*args))

    return link.run(run())


def test_what_is_published_is_what_is_fetched(link: Link) -> None:
    payload = bytes(range(256)) * 40_000  # 10 MB: three chunks
    assert link.run(latest_version(link.keys, "run")) is None
    put(link, 1, payload)
    assert link.run(latest_version(link.keys, "run")) == 1
    assert link.run(fetch(link.keys, "run", 1)) == (header(1, payload), payload)


def test_versions_only_go_up_and_the_same_again_does_no_harm(link: Link) -> None:
    assert put(link, 5) is True
    assert put(link, 5) is False
    with pytest.raises(Conflict, match="not above the latest, 5"):
        put(link, 5, b"other weights")
    with pytest.raises(Conflict, match="version 4"):
        put(link, 4)
    assert link.run(fetch(link.keys, "run", 5))[1] == b"weights"


def test_only_the_last_are_kept_and_those_that_an_open_order_names(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    put(service, 1)
    service.run(place(service.keys, order("o", strategy="mined", snapshot={"channel": "run", "version": 1})))
    for version in range(2, 7):
        put(service, version)
    assert service.run(fetch(service.keys, "run", 1))[1] == b"weights"
    with pytest.raises(SnapshotNotFound, match="kept are 1, 4, 5, 6"):
        service.run(fetch(service.keys, "run", 3))
    service.run(cancel(service.keys, "o"))
    with pytest.raises(SnapshotNotFound, match="kept are 4, 5, 6"):
        service.run(fetch(service.keys, "run", 1))


def test_a_teacher_is_kept_as_long_as_an_open_order_names_it(service: Link) -> None:
    service.run(open_ring(service.keys, ring()))
    put(service, 1)
    service.run(place(service.keys, order("o", teacher={"channel": "run", "version": 1})))
    for version in range(2, 7):
        put(service, version)
    assert service.run(fetch(service.keys, "run", 1))[1] == b"weights"
    service.run(cancel(service.keys, "o"))
    with pytest.raises(SnapshotNotFound, match="kept are 4, 5, 6"):
        service.run(fetch(service.keys, "run", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (8, 8, 1)}, r"takes images of \(8, 8, 1\) and generator 'fake' makes \(4, 4, 1\)"),
        ({"classes": 4}, "has other classes .4: 4 without names"),
        ({"class_names": ("one", "two", "three")}, "has other classes .3: one, two, three, …. than generator 'fake'"),
    ],
)
@pytest.mark.parametrize("field", ["snapshot", "teacher"])
def test_a_classifier_of_other_images_is_refused(service: Link, field: str, change: dict, message: str) -> None:
    service.run(open_ring(service.keys, ring()))
    foreign = header(1, b"weights").model_copy(update=change)
    service.run(publish(service.keys, foreign, b"weights"))
    with pytest.raises(InvalidOrder, match=message) as refused:
        service.run(place(service.keys, order("o", **{field: {"channel": "run"}})))
    assert refused.value.field == field


def test_a_header_is_read_without_its_payload(link: Link) -> None:
    for version in (1, 2):
        put(link, version)
    assert link.run(read_header(link.keys, "run", 1)).version == 1
    assert link.run(read_header(link.keys, "run", "latest")) == header(2, b"weights")
    assert header(2, b"weights").ledger.direct == "labelled"  # nobody said, so it is taken for granted


def test_a_payload_that_is_not_what_its_header_says_is_refused(link: Link) -> None:
    with pytest.raises(InvalidSnapshot, match="sha256"):
        link.run(publish(link.keys, header(1, b"weights"), b"others"))
    assert link.run(latest_version(link.keys, "run")) is None


def test_damage_is_noticed(link: Link) -> None:
    put(link, 1)
    command(link, "SET", link.keys.chunk("run", 1, 0), b"wexghts")
    with pytest.raises(IntegrityError, match="damaged"):
        link.run(fetch(link.keys, "run", 1))


def test_its_channels_go_with_a_ring(link: Link) -> None:
    link.run(open_ring(link.keys, ring(channels=("run", "run-teacher"))))
    put(link, 1)
    link.run(publish(link.keys, header(0, b"teacher", "run-teacher"), b"teacher"))
    link.run(close_ring(link.keys, "ring"))
    assert command(link, "KEYS", link.keys.pattern) in ([], [link.keys.bell.encode()])


def test_a_channel_can_be_forgotten(link: Link) -> None:
    for version in (1, 2):
        put(link, version)
    assert link.run(drop_channel(link.keys, "run")) == 2
    put(link, 1)  # starts anew


def stage(link: Link, operation: Op[bool]) -> Call:
    """Run a publication up to its marker, which is returned."""
    assert next(operation).script == "publish"
    call = operation.send([b"incomplete", b""])
    while call.script is None:
        call = operation.send(command(link, *call.args))
    return call


def finish(link: Link, operation: Op[bool], call: Call) -> bool:
    """Run the rest of it."""

    def perform(call: Call) -> Op[object]:
        return (yield call)

    try:
        while True:
            call = operation.send(link.run(perform(call)))
    except StopIteration as end:
        return bool(end.value)


def test_a_publisher_that_died_half_way_leaves_nothing_for_long(link: Link) -> None:
    stage(link, publish(link.keys, header(1, b"weights"), b"weights"))
    assert link.run(latest_version(link.keys, "run")) is None
    (key,) = command(link, "KEYS", link.keys.pattern)
    assert 0 < command(link, "PTTL", key) <= 600_000


@pytest.mark.parametrize("other", [b"other weights", b"weights"])
def test_two_that_publish_the_same_version_at_the_same_time(link: Link, other: bytes) -> None:
    first = publish(link.keys, header(1, b"weights"), b"weights")
    second = publish(link.keys, header(1, other), other)
    first_marker, second_marker = stage(link, first), stage(link, second)
    assert finish(link, first, first_marker) is True
    if other == b"weights":
        assert finish(link, second, second_marker) is False
    else:
        with pytest.raises(Conflict, match="not above the latest, 1"):
            finish(link, second, second_marker)
    assert link.run(fetch(link.keys, "run", 1))[1] == b"weights"
    link.run(drop_channel(link.keys, "run"))
    assert command(link, "KEYS", link.keys.pattern) == []


def test_a_version_that_is_as_high_as_it_may_be(link: Link) -> None:
    put(link, 10**15)
    put(link, MAX_VERSION - 1, b"old")
    put(link, MAX_VERSION, b"new")
    assert link.run(latest_version(link.keys, "run")) == MAX_VERSION
    assert link.run(fetch(link.keys, "run", MAX_VERSION))[1] == b"new"
    with pytest.raises(ValueError, match="less than or equal to 9007199254740991"):
        header(MAX_VERSION + 1, b"weights")


def test_a_publisher_may_want_the_latest_to_be_what_it_has_seen(link: Link) -> None:
    def publish_if(version: int, if_latest: tuple[str, ...]) -> bool:
        payload = f"weights {version}".encode()
        link.run(check_version(link.keys, "run", version, if_latest=if_latest))
        return link.run(publish(link.keys, header(version, payload), payload, if_latest=if_latest))

    for condition in (ANY, ("0" * 64,), ()):
        with pytest.raises(PreconditionFailed, match="there is none"):
            publish_if(1, condition)
    put(link, 1)
    assert publish_if(2, ANY)
    seen = sha256(b"weights 2").hexdigest()
    assert publish_if(3, ("0" * 64, seen))
    with pytest.raises(PreconditionFailed, match="it is version 3"):
        publish_if(4, (seen,))
    late = publish(link.keys, header(4, b"weights 4"), b"weights 4", if_latest=(seen,))
    with pytest.raises(PreconditionFailed, match="it is version 3"):  # nor if it changed after the check
        link.run(late)
    assert publish_if(3, (seen,)) is False  # the same again does no harm


@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_no_payload_could_have_is_refused_without_one(link: Link, version: int) -> None:
    link.run(check_version(link.keys, "run", version))
    for published in (2, 4, 5, 6):
        put(link, published)
    link.run(check_version(link.keys, "run", 7))
    link.run(check_version(link.keys, "run", 5))  # it may be the same payload
    with pytest.raises(Conflict, match=f"version {version} of channel 'run' is not above the latest, 6"):
        link.run(check_version(link.keys, "run", version))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("one", "two")}, "2 names for 3 classes"),
        ({"mean": (0.5, 0.5)}, "2 values for 1 channels"),
        ({"mean": ()}, "at least 1 item"),
        ({"std": (0.0,)}, "must be positive"),
        ({"image_shape": (4, 4, 3), "std": (0.5,) * 3}, "3 values and 1 of mean"),
        ({"image_shape": (4, 0, 1)}, "greater than or equal to 1"),
    ],
)
def test_a_header_that_no_classifier_could_have_is_refused(change: dict, words: str) -> None:
    given = header(1, b"weights").model_dump()
    with pytest.raises(ValueError, match=words):
        SnapshotHeader.model_validate(given | change)


def test_a_channel_that_would_keep_nothing_is_refused(link: Link) -> None:
    with pytest.raises(InvalidValue, match="keep 0 would leave nothing"):
        put(link, 1, keep=0)
    assert put(link, 1)  # nothing was begun
