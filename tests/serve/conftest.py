from pathlib import Path

import pytest

from tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with the alpaca template and room for long answers."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    return make_tiny_model(folder, context=2048)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, with other weights."""
    return make_tiny_model(tmp_path_factory.mktemp("served") / "other", seed=5, context=2048)
