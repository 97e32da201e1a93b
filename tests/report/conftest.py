"""The lineage that the tests of the report share."""

from pathlib import Path

import pytest
from report_runs import build


@pytest.fixture(scope="session")
def lineage_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with every run of :func:`report_runs.build`."""
    return build(tmp_path_factory.mktemp("runs"))
