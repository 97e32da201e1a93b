"""What tests share: the folder of real data, where there is one."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests that share a machine do not starve each other


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by MEADOWLARK_DATA; a test that needs it is skipped without it."""
    folder = os.environ.get("MEADOWLARK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MEADOWLARK_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Encoded rows of tests go to a folder of their own, also in the processes they start."""
    os.environ["MEADOWLARK_CACHE"] = str(tmp_path_factory.mktemp("cache"))
