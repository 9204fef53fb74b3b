"""What the tests of the search share."""

from collections.abc import Iterator

import pytest

from tests.search.support import close_all


@pytest.fixture(autouse=True)
def _closed_studies() -> Iterator[None]:
    yield
    close_all()
