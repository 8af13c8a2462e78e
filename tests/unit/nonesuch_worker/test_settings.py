"""The worker's settings, from its environment."""

import pytest

from nonesuch.errors import InvalidValue
from nonesuch_worker.settings import WorkerSettings


def test_an_empty_environment_leaves_every_choice_to_the_worker() -> None:
    for env in ({}, {"NONESUCH_GENERATORS": "", "NONESUCH_THREADS": "", "NONESUCH_MICRO_BATCH": ""}):
        settings = WorkerSettings.from_env(env)
        assert (settings.generators, settings.threads, settings.micro_batch) == ((), None, None)


def test_the_environment_is_read_and_survives_its_way_to_an_actor() -> None:
    env = {"NONESUCH_GENERATORS": "fashion-mnist, biggan:/a", "NONESUCH_THREADS": "3", "NONESUCH_MICRO_BATCH": "16"}
    settings = WorkerSettings.from_env(env)
    assert settings.generators == ("fashion-mnist", "biggan:/a")
    assert (settings.threads, settings.micro_batch) == (3, 16)
    assert WorkerSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_a_micro_batch_that_cannot_work_is_refused(given: str) -> None:
    with pytest.raises(InvalidValue, match=r"the environment of the worker[\s\S]*micro_batch"):
        WorkerSettings.from_env({"NONESUCH_MICRO_BATCH": given})
