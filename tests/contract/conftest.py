import pytest

from nonesuch.catalog import announce
from nonesuch.link import Link
from tests.helpers.fakes import WORKER


@pytest.fixture
def service(link: Link) -> Link:
    """A Redis in which one (fake) worker has announced itself."""
    link.run(announce(link.keys, WORKER))
    return link
