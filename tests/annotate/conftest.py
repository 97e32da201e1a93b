"""What tests of annotation share."""

from collections.abc import Iterator

import pytest
from server_process import stop_all


@pytest.fixture(autouse=True)
def _no_server_stays() -> Iterator[None]:
    yield
    stop_all()
