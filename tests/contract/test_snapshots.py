"""Snapshots: payload first, marker last; monotone, immutable, a bounded number of them."""

from hashlib import sha256

import pytest
from fakes import order, ring

from nonesuch.errors import IntegrityError, InvalidOrder, InvalidSnapshot, SnapshotNotFound
from nonesuch.link import Call, Link
from nonesuch.orders import cancel, place
from nonesuch.rings import close_ring, open_ring
from nonesuch.snapshots import SnapshotHeader, drop_channel, fetch, latest_version, publish, read_header


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


def put(link: Link, version: int, payload: bytes = b"weights", keep: int = 3) -> None:
    link.run(publish(link.keys, header(version, payload), payload, keep=keep))


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
    put(link, 5)
    put(link, 5)
    with pytest.raises(InvalidSnapshot, match="not above the latest, 5"):
        put(link, 5, b"other weights")
    with pytest.raises(InvalidSnapshot, match="version 4"):
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


def test_a_publisher_that_died_half_way_leaves_nothing_for_long(link: Link) -> None:
    operation = publish(link.keys, header(1, b"weights"), b"weights")
    assert next(operation).script == "publish"
    call = operation.send([b"incomplete", b""])
    while call.script is None:  # every step but the marker
        call = operation.send(command(link, *call.args))
    assert link.run(latest_version(link.keys, "run")) is None
    assert 0 < command(link, "PTTL", link.keys.chunk("run", 1, 0)) <= 600_000
