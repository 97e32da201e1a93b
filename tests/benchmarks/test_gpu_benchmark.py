"""The GPU benchmark's code runs here in small, so that it does not break before a GPU comes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
OURS = (
    "lora-bf16",
    "lora-int8",
    "lora-nf4",
    "full-bf16",
    "full-fp32",
    "lora-bf16-compiled",
    "lora-bf16-all-linear",
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's folder on the import path."""
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    monkeypatch.syspath_prepend(str(FOLDER))


def run_small(tmp_path: Path, *modes: str) -> dict[str, Any]:
    out = tmp_path / "training_gpu.json"
    command = [sys.executable, str(FOLDER / "run.py"), "--small", "--out", str(out)]
    command += ["--data", str(tmp_path / "nothing prepared"), "--modes", ",".join(modes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr + done.stdout + (tmp_path / "log.txt").read_text()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_the_gpu_benchmark_runs_in_small_on_any_device(tmp_path: Path) -> None:
    found = run_small(tmp_path, "device", "lora-nf4")
    ceilings, packed, *rows = found["rows"]
    assert ceilings["matrix_flops_per_s"] > 0 < ceilings["copy_bytes_per_s"]
    assert packed["loss_relative_difference"] < 1e-2
    assert packed["gradients_relative_difference"] < 5e-2
    full = [row for row in rows if not row.get("tried")]
    assert [row["status"] for row in full] == ["ok"]
    assert full[0]["trainable_parameters"] < full[0]["parameters"]
    assert full[0]["options"]["model"]["quantise"] == "nf4"
    assert full[0]["timed_steps"] == 2
    assert full[0]["tokens_per_s"] > full[0]["supervised_tokens_per_s"] > 0 < full[0]["mfu"]
    plan = full[0]["predicted"]
    assert plan["memory_bytes"]["weights"] < plan["peak_bytes"] < plan["needed_bytes"] + 1
    assert plan["over_measured"]["flops_per_token"] == pytest.approx(1, abs=0.05)
    assert plan["tokens_per_s"] > 0
    assert found["aims"] == "not judged on a small model"
    assert found["ran"] is False


@pytest.mark.slow
def test_every_mode_of_the_gpu_benchmark_runs_in_small(tmp_path: Path) -> None:
    found = run_small(tmp_path, "trl-lora-bf16", *OURS)
    for mode in ("trl-lora-bf16", *OURS):
        rows = [row for row in found["rows"] if row["mode"] == mode]
        assert {row["status"] for row in rows} == {"ok"}, rows
        assert any(not row.get("tried") for row in rows), mode
    assert "Self CPU" in (tmp_path / "profile-lora-bf16.txt").read_text()


@pytest.mark.usefixtures("gpu")
def test_what_travels_to_the_gpu_is_the_real_small_set_without_its_text(
    real_data: Path, tmp_path: Path
) -> None:
    from prepare import data

    found = data(tmp_path)
    assert (found["rows"], found["tokens"], found["longest"]) == (5265, 1_000_794, 3780)
    assert (found["epoch_rows"], found["epoch_tokens"]) == (5348, 0.9 * 1_124_830)
    assert {path.name for path in (tmp_path / "encoded").iterdir()} == {"rows.arrow", "counts.json"}


@pytest.mark.usefixtures("gpu")
def test_bitsandbytes_is_reduced_to_the_libraries_that_are_loaded(tmp_path: Path) -> None:
    from prepare import reduce_bitsandbytes

    names = [f"bitsandbytes/libbitsandbytes_{kind}.so" for kind in ("cpu", "cuda118", "cuda130")]
    with zipfile.ZipFile(tmp_path / "whole.whl", "w") as wheel:
        for name in (*names, "bitsandbytes/__init__.py"):
            wheel.writestr(name, name)
    reduce_bitsandbytes(tmp_path / "whole.whl", tmp_path / "reduced.whl")
    with zipfile.ZipFile(tmp_path / "reduced.whl") as wheel:
        assert set(wheel.namelist()) == {names[0], names[2], "bitsandbytes/__init__.py"}
        assert wheel.read(names[2]).decode() == names[2]


@pytest.mark.usefixtures("gpu")
def test_a_setting_that_runs_out_of_memory_is_a_row() -> None:
    from mode import attempt

    def hungry() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GiB.\nMore.")

    reason = "CUDA out of memory. Tried to allocate 99 GiB."
    assert attempt(hungry) == {"status": "out of memory", "reason": reason}


@pytest.mark.usefixtures("gpu")
def test_a_mode_that_outlasts_its_limit_is_a_row(tmp_path: Path) -> None:
    import argparse

    from modes import BY_NAME
    from run import environment, run_mode

    options = argparse.Namespace(data=tmp_path, artefacts=tmp_path, small=True)
    (row,) = run_mode(BY_NAME["full-fp32"], options, environment(tmp_path), 0.2, None)
    assert (row["mode"], row["status"]) == ("full-fp32", "timed out")


@pytest.mark.usefixtures("gpu")
def test_trying_settings_leaves_half_of_the_time_for_measuring_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mode
    from modes import Mode, Setting

    clock = [0.0]

    def train(_: Any, setting: Any, at: Any, warm_up: int, timed: int, *__: Any) -> dict[str, Any]:
        clock[0] += 40
        return {"tokens_per_s": float(setting.name), "peak_bytes": {"allocated": 1.0}}

    monkeypatch.setattr(mode, "train", train)
    monkeypatch.setattr(mode.time, "monotonic", lambda: clock[0])
    at = mode.Setup(torch.device("cpu"), False, [], [], 0.0, None, None, Path(), 100.0)
    asked = Mode("lora-bf16", 1, settings=tuple(map(Setting, "5 9 7".split())))
    found = [(row["setting"], row["status"], "tried" in row) for row in mode.run_mode(asked, at)]
    assert found == [
        ("5", "ok", True),
        ("9", "ok", True),
        ("7", "not run", False),
        ("9", "ok", False),
    ]


@pytest.mark.usefixtures("gpu")
def test_a_setting_that_is_called_compiled_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    import mode
    from modes import BY_NAME, COMPILED

    compiled: list[int] = []

    def stop(layers: list[Any]) -> None:
        compiled.append(len(layers))
        raise KeyboardInterrupt

    monkeypatch.setattr(mode, "compile_layers", stop)
    small = mode.options_of
    monkeypatch.setattr(
        mode,
        "options_of",
        lambda *given: (made := small(*given)) | {"run": {**made["run"], "compile": True}},
    )
    rows = mode.made_up_rows(20)
    lengths = [len(row.input_ids) for row in rows]
    at = mode.Setup(
        torch.device("cpu"), True, rows, lengths, 1.0, mode.made_up_tokenizer(), None, Path()
    )
    asked = BY_NAME[COMPILED]
    with pytest.raises(KeyboardInterrupt):
        mode.train(asked, asked.settings[0], at, 1, 1)
    assert compiled == [2]


@pytest.mark.usefixtures("gpu")
def test_a_driver_without_expandable_segments_is_used_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import run

    monkeypatch.setattr(run, "REPORT", "import os; os.environ['PYTORCH_CUDA_ALLOC_CONF']; 1 / 0")
    with pytest.raises(SystemExit, match=r"(?s)torch does not work here:.*KeyError"):
        run.found_device({"PATH": ""})
    plain = "import os; print('{}'); os.environ.get('PYTORCH_CUDA_ALLOC_CONF') and 1 / 0"
    monkeypatch.setattr(run, "REPORT", plain)
    assert run.found_device({"PATH": ""}) == ({}, {"PATH": ""})


@pytest.mark.usefixtures("gpu")
def test_a_stamp_is_made_where_there_is_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    from _stamp import stamp

    monkeypatch.setenv("PATH", "")
    assert stamp(())["commit"] == "unknown"


@pytest.mark.usefixtures("gpu")
def test_the_fastest_setting_and_the_fastest_within_the_memory_aim_go_on() -> None:
    from mode import chosen
    from modes import Setting

    def row(tokens_per_s: float, allocated: float) -> dict[str, Any]:
        peak = {"allocated": allocated}
        return {"status": "ok", "tokens_per_s": tokens_per_s, "peak_bytes": peak}

    fast, middle, small, failed = (Setting(name) for name in ("fast", "middle", "small", "failed"))
    tried = [
        (failed, {"status": "out of memory"}),
        (small, row(50, 10e9)),
        (middle, row(70, 18e9)),
        (fast, row(90, 40e9)),
    ]
    assert chosen(tried, 18.8e9) == [fast, middle]
    assert chosen(tried, 60e9) == [fast]
    assert chosen(tried, None) == [fast]
    assert chosen([(failed, {"status": "failed"})], 60e9) == []


@pytest.mark.usefixtures("gpu")
def test_flops_of_llama_7b_are_four_or_six_a_weight_and_token() -> None:
    """LLaMA 7B: 6,738,415,616 parameters (its configuration's), 131,072,000 of them embeddings."""
    from llama import llama_config
    from mode import step_flops

    config = llama_config(small=False)
    met = 6_738_415_616 - 131_072_000 - 65 * 4096  # neither embeddings nor norms are multiplied
    attention = 3 * 32 * 2 * 4096 * 1000 * 1000**2
    lora = step_flops([1000] * 1000, 10**6, 10**6, True, config)
    full = step_flops([1000] * 1000, 10**6, 10**6, False, config)
    assert lora == 4 * 10**6 * met + attention
    assert full == 6 * 10**6 * met + attention


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_every_setting_is_planned_without_a_gpu_and_each_memory_aim_met_by_one() -> None:
    """On made-up rows of the small set's lengths, the longest among them."""
    from mode import Sizes
    from modes import MODES
    from planned import planned

    lengths = np.clip(np.random.default_rng(0).lognormal(5.1, 0.5, 5300), 16, 1024).astype(int)
    lengths[0] = 3780
    rows = planned(Sizes(lengths, (lengths * 0.62).astype(int)), float(lengths.sum()), "h200")
    assert len(rows) == sum(len(mode.settings) for mode in MODES)
    assert all(row["fits"] for row in rows)
    for mode in MODES:
        peaks = [row["peak_gb"] for row in rows if row["mode"] == mode.name]
        if mode.memory_aim_bytes:
            assert min(peaks) <= mode.memory_aim_bytes / 1e9, mode.name


@pytest.mark.usefixtures("gpu")
def test_aims_are_judged_by_the_best_row_in_full_and_open_where_nothing_ran() -> None:
    from run import aims

    def row(mode: str, epoch_s: float, allocated: float, **more: Any) -> dict[str, Any]:
        rates = {"tokens_per_s": 1e6 / epoch_s, "epoch_s": epoch_s, "mfu": 0.5}
        return {"mode": mode, "status": "ok", "peak_bytes": {"allocated": allocated}} | rates | more

    rows = [
        row("lora-bf16", 10, 90e9, tried=True),
        row("lora-bf16", 50, 40e9),
        row("lora-bf16", 80, 18e9),
        row("lora-nf4", 60, 7e9, predicted={"over_measured": {"peak_bytes": 0.87}}),
    ]
    found = {line["aim"]: (line["measured"], line["passed"]) for line in aims(rows)}
    assert found["LoRA bf16, seconds an epoch"] == (50, True)
    assert found["LoRA bf16, MFU"] == (0.5, False)
    assert found["lora-bf16, GB at most held"] == (18.0, True)
    assert found["lora-nf4, times LoRA bf16's epoch"] == (1.2, False)
    assert found["lora-nf4, GB at most held"] == (7.0, False)
    assert found["lora-int8, times LoRA bf16's epoch"] == (None, None)
    assert found["plan, largest error of memory"] == (0.13, False)
    quicker = row("lora-bf16-compiled", 40, 40e9)
    found = {line["aim"]: line["measured"] for line in aims([*rows, quicker])}
    assert found["LoRA bf16, seconds an epoch"] == 40
    assert found["lora-nf4, times LoRA bf16's epoch"] == 1.5
