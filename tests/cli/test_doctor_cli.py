import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from meadowlark.cli import doctor, run

KEY = "sk-not-to-be-shown"


def test_it_says_what_is_there_and_never_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert KEY not in out
    assert "OPENAI_API_KEY          set\n" in out
    assert "HF_TOKEN                not set\n" in out
    for word in ("python", "cores", "memory", "disk", "gpu", "extra train", "pyarrow"):
        assert word in out


def test_a_missing_extra_comes_with_its_command_and_a_missing_core_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version
    gone = {"peft"}

    def version(name: str) -> str:
        if name in gone:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert run(["doctor"]) == 0
    assert f"{sys.executable} -m pip install 'peft>=" in capsys.readouterr().out
    gone.add("pyarrow")
    assert run(["doctor"]) == 1


def test_the_requirements_are_those_of_the_package() -> None:
    needed = doctor.requirements()
    assert "pyarrow" in needed[""]
    assert "torch" in needed["train"]
    assert needed["train"]["torch"].startswith("torch>=")
    import tomllib

    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(needed) == {"", *extras} - {"all", "bench", "dev"}


def test_without_torch_it_still_works() -> None:
    """A fresh process in which torch cannot be found must neither import it nor fail."""
    program = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from meadowlark.cli import run; code = run(['doctor'])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch is not installed" in done.stdout


def test_a_package_is_named_though_its_module_is_spelt_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from meadowlark import cli

    extras = {"": {"numpy": "numpy>=1"}, "privacy": {"presidio-analyzer": "presidio-analyzer>=2.2"}}
    monkeypatch.setattr(doctor, "requirements", lambda: extras)
    assert "presidio-analyzer>=2.2" in cli._missing("presidio_analyzer.nlp_engine")
    assert cli._missing("numpy") == ""
