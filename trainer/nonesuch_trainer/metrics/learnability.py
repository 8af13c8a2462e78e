"""The classification accuracy score: train on one set of images, be judged on real ones (Ravuri & Vinyals 2019).

It is what the service exists for, so it is what ranks generators. Beside it stands its twin: the same classifier, steps
and seed on as many real images. Real images that are passed off as generated get the twin's score exactly.
"""

import threading
from collections.abc import Callable

import numpy as np

from nonesuch.host.stopping import check
from nonesuch.seeds import reproducible
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch_trainer.learning.epoch import learn, make_classifier
from nonesuch_trainer.learning.judging import Evaluation, Judge
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.settings.learning import Learning

OnEpoch = Callable[[int], None]
"""A function that is told how many epochs are done."""


def learn_and_judge(
    images: LabelledImages,
    how: Learning,
    judge: Judge,
    *,
    classes: int,
    stop: threading.Event | None = None,
    on_epoch: OnEpoch = lambda done: None,
) -> Evaluation:
    """Train a classifier on a fixed set of images and judge it after the last epoch. Blocks.

    Gives what `nonesuch train` gives for a fixed dataset of these images, in this order; it writes nothing.

    Args:
        images: to learn from.
        how: classifier, optimiser, epochs, augmentation and seed.
        judge: real images, on the device to learn on.
        classes: outputs of the classifier.
        stop: ends it when it is set.
        on_epoch: called after every epoch.

    Raises:
        Stopped: asked to stop.
        InvalidValue: a loss that is not finite.
    """
    stop = stop or threading.Event()
    device = judge.images.device
    height, width, channels = images.images.shape[1:]
    with reproducible():
        model = make_classifier(how, (height, width, channels), classes, device)
        optimiser = make_optimiser(model, how.optimiser)
        resident = ResidentDataset.of(images, device)
        for epoch in range(how.epochs):
            learn(model, optimiser, resident, how, epoch, lambda step, steps: check(stop))
            on_epoch(epoch + 1)
        return judge.evaluate(model, how.normalisation, lambda: check(stop))


def right_answers(evaluation: Evaluation) -> tuple[int, int]:
    """How many of the judging images a classifier got right, and of how many."""
    return int(np.trace(evaluation.confusion)), int(evaluation.confusion.sum())
