"""What the trainer's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.blobs import one_thread, write_real


@pytest.fixture
def one_threaded() -> Iterator[None]:
    """Bits depend on the number of threads."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real images. Nobody writes to it."""
    return write_real(tmp_path_factory.mktemp("real"))
