"""What a campaign is told: `make test-chaos CHAOS="--seed 7 --faults 20"`."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="what a campaign's faults follow from")
    parser.addoption("--faults", type=int, default=200, help="how many there are, with either kind of Redis")
    parser.addoption("--report", default="", help="the file for the report; none if left out")
