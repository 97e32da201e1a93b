"""What tests share: the folder of real data, where there is one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture
def search_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], dict[str, Any]]:
    """The search for a planted key in all files of a folder, also the compressed ones."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from _planted_key import searched

    return lambda folder, key: searched(folder, {"planted": key})
