"""Faults at random: nothing is lost, nothing comes twice, nothing under another name, and nothing stays behind."""

from pathlib import Path

import pytest

from tests.chaos import campaign

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]


@pytest.mark.parametrize("appendonly", [True, False], ids=["a Redis that keeps a log", "a Redis that keeps nothing"])
def test_whatever_happens_a_service_goes_on(appendonly: bool, request: pytest.FixtureRequest) -> None:
    seed, faults = request.config.getoption("--seed"), request.config.getoption("--faults")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        report = campaign.run(seed + (not appendonly), faults // 2, appendonly=appendonly, say=print)
    if name := request.config.getoption("--report"):
        campaign.add(report, Path(name))
    assert report["found"] == []
