import pytest
from tests.helpers.fakes import WORKER

from nonesuch.catalog import announce
from nonesuch.link.link import Link


@pytest.fixture
def service(link: Link) -> Link:
    """A Redis in which one (fake) worker has announced itself."""
    link.run(announce(link.keys, WORKER))
    return link
