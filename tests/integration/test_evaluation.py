"""Evaluating a generator: a hand-written worker whose images are as good as real ones, and one thread."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import GeneratorNotFound, InvalidValue
from nonesuch.host.stopping import Stopped
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch_trainer.learning.judging import Judge
from nonesuch_trainer.loop import train
from nonesuch_trainer.metrics.evaluation import Findings, evaluate
from nonesuch_trainer.metrics.learnability import learn_and_judge
from nonesuch_trainer.metrics.plan import EvaluationPlan
from nonesuch_trainer.metrics.report import class_rows, document, measure_rows, write_report
from nonesuch_trainer.metrics.yardstick import TwinLearning, Yardstick
from nonesuch_trainer.settings.datasets import Real
from nonesuch_trainer.settings.learning import Augment
from nonesuch_trainer.sources.real import RealSource
from tests.helpers.blobs import keys, make_config, one_thread, working

pytestmark = pytest.mark.usefixtures("one_threaded")


@pytest.fixture(scope="module")
def features(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned to tell blobs apart."""
    folder = tmp_path_factory.mktemp("features")
    run = make_config(real, folder, 3).model_copy(update={"run": "features", "dataset": Real(folder=real, size=200)})
    with one_thread():
        train(run)
    return folder


@pytest.fixture(scope="module")
def plan(real: Path, features: Path) -> EvaluationPlan:
    return EvaluationPlan(generators=("blobs",), size=200, epochs=1, split="test", data=real, features=features)


@pytest.fixture(scope="module")
def findings(plan: EvaluationPlan, session_redis: PrivateRedis) -> Findings:
    with one_thread(), Link(RedisSettings(url=session_redis.url)) as link:
        link.run(_emptied())  # a test before this one may have left a worker's heartbeat
        with working(session_redis.url):
            found = evaluate(plan, link)
            assert keys(link) == []
    return found


def _emptied() -> Op[None]:
    yield Call("FLUSHALL")


def test_blobs_are_as_good_as_real_ones(findings: Findings) -> None:
    made, floor = findings.generated, findings.floor
    assert made.images == floor.images == 200
    assert 0 < made.fid < 3 * floor.fid
    assert made.coverage > 0.7 and floor.coverage > 0.7
    assert made.agreement == pytest.approx(floor.agreement, abs=0.15)
    assert set(made.ms_ssim) == set(range(10)) and set(made.discriminability) == set(floor.discriminability)
    (twins,) = findings.twins
    assert twins.gap == twins.real.accuracy - twins.minted.accuracy
    assert findings.judged_on == "300 images of fashion-mnist/test"


def test_real_images_passed_off_as_generated_get_their_twins_score(findings: Findings) -> None:
    plan = findings.plan
    passed_off = RealSource(plan.twin, seed=0).images
    relabelled = replace(passed_off, seeds=passed_off.seeds + 1)  # where they say they come from does not matter
    twins = TwinLearning(plan, findings.facts, threading.Event()).twins(relabelled, 0)
    assert np.array_equal(twins.minted.confusion, findings.twins[0].real.confusion)
    assert twins.gap == 0


def test_learning_is_what_a_run_does(real: Path, tmp_path: Path) -> None:
    config = make_config(real, tmp_path, 2).model_copy(
        update={"dataset": Real(folder=real, size=200), "augment": Augment(shift=1, hflip=True)}
    )
    run = train(config)
    source = RealSource(config.dataset, seed=config.seed)
    judge = Judge.load(config.evaluate, source.facts, run.dataset.images.device)
    alone = learn_and_judge(source.images, config.learning, judge, classes=10)
    assert np.array_equal(alone.confusion, run.evaluation.confusion)


def test_worse_images_are_found_worse(findings: Findings) -> None:
    """Half of every image is covered: further away, less diverse, and little can be learned from them."""
    images = findings.images.images.copy()
    images[:, :, 10:] = 0
    worse = Yardstick(findings.plan, findings.facts).measure(replace(findings.images, images=images))
    assert worse.fid > 5 * findings.generated.fid and worse.kid > findings.generated.kid
    assert worse.coverage < findings.generated.coverage


def test_report(findings: Findings, tmp_path: Path) -> None:
    files = write_report(findings, tmp_path)
    assert files[0].name == "evaluation.json" and len(files) == 13
    written = json.loads(files[0].read_text())
    assert written == json.loads(json.dumps(document(findings)))
    assert written["gap"]["mean"] == pytest.approx(100 * findings.twins[0].gap, abs=0.01)
    assert written["learned"]["minted"]["seeds"] == [written["learned"]["minted"]["mean"]]
    assert set(written["learned"]["real"]["per_class"]) == set(findings.facts.class_names)
    assert written["floor"]["fid"] == pytest.approx(findings.floor.fid, rel=1e-4)
    for picture in files[1:]:
        with Image.open(picture) as image:
            assert min(image.size) > 50
    assert [row[0] for row in measure_rows(findings)][:2] == ["FID", "KID × 1000"]
    assert [row[0] for row in class_rows(findings)] == list(findings.facts.class_names)


def test_without_learning(plan: EvaluationPlan, link: Link, redis_url: str, findings: Findings, tmp_path: Path) -> None:
    quick = plan.model_copy(update={"epochs": 0})
    with working(redis_url):
        found = evaluate(quick, link)
    assert found.twins == () and found.generated == findings.generated
    assert "gap" not in document(found)
    assert {path.name for path in write_report(found, tmp_path)} >= {"per-class.png", "resolution.png"}


def test_seeds_draw_anew(plan: EvaluationPlan, link: Link, redis_url: str) -> None:
    with working(redis_url) as worker:
        found = evaluate(plan.model_copy(update={"seeds": 3}), link)
    assert [twins.seed for twins in found.twins] == [0, 1, 2]
    assert len({order.seed for order in worker.orders.values()}) == 3
    assert document(found)["gap"]["interval_of_the_mean"] > 0  # two of so few images may have the same gap


def test_unknown_generator(plan: EvaluationPlan, link: Link, redis_url: str) -> None:
    with working(redis_url):
        with pytest.raises(GeneratorNotFound, match="nobody"):
            evaluate(plan.model_copy(update={"generators": ("nobody",)}), link)
        assert keys(link) == []


def test_other_images_than_the_feature_networks(plan: EvaluationPlan, findings: Findings) -> None:
    facts = replace(findings.facts, image_shape=(32, 32, 3))
    with pytest.raises(InvalidValue, match=r"sees \(28, 28, 1\).*has \(32, 32, 3\)"):
        Yardstick(plan, facts)


def test_asked_to_stop(plan: EvaluationPlan, findings: Findings, link: Link, redis_url: str) -> None:
    stop = threading.Event()
    with working(redis_url):
        with pytest.raises(Stopped):
            evaluate(plan, link, stop=stop, say=lambda line: stop.set() if "learning" in line else None)
        assert keys(link) == []
