"""The run's teacher: somebody's classifier, taken as it is at the start and kept as the run's own snapshot."""

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.published import Snapshot
from nonesuch.effects import Op
from nonesuch.link import Keys
from nonesuch.orders import SnapshotRef
from nonesuch.snapshots import fetch, read_header
from nonesuch_trainer.settings.datasets import TeacherSource


def read_teacher(keys: Keys, teacher: TeacherSource, ref: SnapshotRef) -> Op[Snapshot]:
    """The teacher, to be published under `ref`. Does not block.

    Raises `NotFound` and `IntegrityError` of its file, `SnapshotNotFound` of its channel.
    """
    if teacher.classifier is not None:
        header, payload = read_classifier(teacher.classifier)
    else:
        assert teacher.channel is not None
        named = yield from read_header(keys, teacher.channel, teacher.version)
        header, payload = yield from fetch(keys, teacher.channel, named.version)
    return Snapshot(header.model_copy(update={"channel": ref.channel, "version": ref.version}), payload)
