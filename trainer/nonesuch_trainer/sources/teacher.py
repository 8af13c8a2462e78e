"""The run's teacher: somebody's classifier, taken as it is at the start and kept as the run's own snapshot."""

from nonesuch.classifiers.file import read_classifier
from nonesuch.effects import Op
from nonesuch.link.keys import Keys
from nonesuch.orders import SnapshotRef
from nonesuch.snapshots import SnapshotHeader, fetch, read_header
from nonesuch_trainer.settings.config import Teacher


def read_teacher(keys: Keys, teacher: Teacher, ref: SnapshotRef) -> Op[tuple[SnapshotHeader, bytes]]:
    """The teacher's header and payload, to be published under `ref`. Does not block.

    Raises `NotFound` and `IntegrityError` of its file, `SnapshotNotFound` of its channel.
    """
    if teacher.classifier is not None:
        header, payload = read_classifier(teacher.classifier)
    else:
        assert teacher.channel is not None
        named = yield from read_header(keys, teacher.channel, teacher.version)
        header, payload = yield from fetch(keys, teacher.channel, named.version)
    return header.model_copy(update={"channel": ref.channel, "version": ref.version}), payload
