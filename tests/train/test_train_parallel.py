"""Several processes train what one does: whole copies (DDP) and shards (FSDP2), over gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from meadowlark.dataset import read_manifest
from meadowlark.train import log
from meadowlark.train.pack import passes_of, shares

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 4))
def test_shares_hold_every_row_once_and_about_as_many_tokens(
    lengths: list[int], parts: int
) -> None:
    divided = shares(range(len(lengths)), lengths, parts)
    assert sorted(row for share in divided for row in share) == list(range(len(lengths)))
    loads = [sum(lengths[row] for row in share) for share in divided]
    assert max(loads) - min(loads) <= max(lengths)


@given(LENGTHS, st.integers(1, 4), st.booleans())
def test_every_process_has_as_many_passes_and_each_row_counts_once(
    lengths: list[int], parts: int, packing: bool
) -> None:
    rows = range(len(lengths))
    made = [
        passes_of(rows, lengths, 60, packing=packing, part=p, parts=parts) for p in range(parts)
    ]
    assert len({len(passes) for passes in made}) == 1
    counted = [row for passes in made for chosen, counts in passes if counts for row in chosen]
    assert sorted(counted) == list(rows)
    assert all(sum(lengths[row] for row in chosen) <= 60 for p in made for chosen, _ in p)


CONFIG = """
[model.from_scratch]
width = 32
layers = 2
heads = 2
vocabulary = 420
context = 512
[data]
path = "none"
template = "alpaca"
[optimiser]
learning_rate = 3e-3
batch_rows = 4
epochs = 3
weight_decay = 0.1
[run]
save_every_steps = 4
evaluate_every_steps = 5
tokens_per_forward = 512
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG)
    return path


def start(config: Path, data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "meadowlark", "train", str(config), "--data", str(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--out", str(out), *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, errors = process.communicate(timeout=240)
    assert process.returncode == code, errors
    return said + errors


def close(one: Path, other: Path, name: str = "model.safetensors") -> None:
    a, b = load_file(one / name), load_file(other / name)
    assert a.keys() == b.keys()
    for key, weights in a.items():
        torch.testing.assert_close(weights, b[key], rtol=0, atol=2e-6)


def losses(out: Path) -> list[tuple[int, float]]:
    return [
        (line["step"], line.get("loss", line.get("eval_loss")))
        for line in log.read_log(out / log.NAME)
    ]


def test_two_gloo_processes_equal_one_in_shards_and_in_copies(
    config: Path, mixed: Path, tmp_path: Path
) -> None:
    """Every logged loss, every evaluation and all weights, from one random start."""
    one = tmp_path / "one"
    finish(start(config, mixed, one))
    for parallel in ("fsdp", "ddp"):
        two = tmp_path / parallel
        more = ["--launch", "2", "--set", f"run.parallel={parallel}", "--set", "optimiser.epochs=3"]
        said = finish(start(config, mixed, two, *more))
        assert said.count("results in") == 1  # the main process alone reports
        close(one, two)
        ours, theirs = losses(one), losses(two)
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=1e-6)
        manifest = read_manifest(two)
        assert manifest.results["processes"] == 2
        assert manifest.rows == read_manifest(one).rows
        assert manifest.results["parameters"] == read_manifest(one).results["parameters"]
        assert json.loads((two / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_two_processes_told_to_stop_go_on_where_they_were(
    config: Path, mixed: Path, tmp_path: Path, parallel: str
) -> None:
    """SIGTERM in mid-epoch: a checkpoint of that very step, then the weights of an unbroken run."""
    more = ["--launch", "2", "--set", f"run.parallel={parallel}", "--set", "optimiser.epochs=12"]
    more += ["--set", "run.save_every_steps=1000"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finish(start(config, mixed, whole, *more))
    process = start(config, mixed, stopped, *more)
    wait_for_step(process, stopped, 7)
    process.send_signal(signal.SIGTERM)
    assert "the same command goes on" in finish(process, 128 + signal.SIGTERM)
    (checkpoint,) = (stopped / "checkpoints").glob("checkpoint-*")
    assert checkpoint.name not in ("checkpoint-1000", "checkpoint-60")
    finish(start(config, mixed, stopped, *more))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert read_manifest(stopped).resumed == 1


def wait_for_step(process: Any, out: Path, wanted: int) -> None:
    """Until the log says that so many steps are done."""
    while process.poll() is None:
        lines = log.read_log(out / log.NAME)
        if lines and lines[-1]["step"] >= wanted:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


def test_a_mistake_among_several_processes_is_told_once(
    config: Path, mixed: Path, tmp_path: Path
) -> None:
    more = ["--launch", "2", "--set", "data.max_length=12"]
    said = finish(start(config, mixed, tmp_path / "out", *more), 2)
    assert said.count("can be trained on") == 1
    assert "Traceback" not in said


STUB = """#!/bin/sh
# Slurm's {name} as far as the recipe needs it, two machines being two processes of this one.
{body}
"""


@pytest.mark.slow
def test_the_slurm_recipe_trains_on_two_machines_what_one_process_does(
    config: Path, mixed: Path, tmp_path: Path
) -> None:
    """The real script and the real torchrun, once a machine; only Slurm itself is a stand-in."""
    import socket

    recipe = Path(__file__).parents[2] / "recipes" / "train-slurm.sh"
    stubs = tmp_path / "bin"
    stubs.mkdir()
    bodies = {
        "scontrol": "printf 'localhost\\nelsewhere\\n'",
        "srun": '"$@" & first=$!; "$@"; second=$?; wait $first && exit $second',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run --local-addr localhost "$@"',
    }
    for name, body in bodies.items():
        (stubs / name).write_text(STUB.format(name=name, body=body))
        (stubs / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_NODELIST": "nodes[1-2]",
        "SLURM_JOB_ID": "7",
        "PORT": str(port),
    }
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(config, mixed, one))
    command = [str(recipe), str(config), "--data", str(mixed), "--out", str(two)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    close(one, two)
    assert read_manifest(two).results["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["fsdp", "ddp"])
def test_two_processes_train_the_adapter_of_one(
    config: Path, mixed: Path, tmp_path: Path, parallel: str
) -> None:
    """With recomputed activations, samples and the best weights kept; the frozen base in bf16."""
    base, adapter = tmp_path / "base", tmp_path / "lora.toml"
    finish(start(config, mixed, base))
    adapter.write_text(
        f"[model]\nbase = '{base}'\ndtype = 'bfloat16'\n[data]\npath = 'none'\n"
        "[lora]\nrank = 4\ntargets = ['q_proj', 'down_proj']\n"
        "[optimiser]\nlearning_rate = 3e-3\nbatch_rows = 4\nepochs = 3\n"
        "[run]\nsave_every_steps = 4\nevaluate_every_steps = 5\ngradient_checkpointing = true\n"
        "keep_best = true\nsample_every_steps = 10\nsamples = 1\nsample_tokens = 3\n"
    )
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(adapter, mixed, one))
    finish(start(adapter, mixed, two, "--launch", "2", "--set", f"run.parallel={parallel}"))
    a, b = (load_file(out / "adapter_model.safetensors") for out in (one, two))
    assert a.keys() == b.keys()
    for key, weights in a.items():
        torch.testing.assert_close(
            weights, b[key], rtol=0, atol=1e-3
        )  # 15 steps of up to 3e-3, in bf16
        assert weights.dtype == b[key].dtype == torch.float32
    assert [loss for _, loss in losses(one)] == pytest.approx(
        [loss for _, loss in losses(two)], rel=1e-4
    )
    assert len(log.read_log(two / "samples.jsonl")) == 2
