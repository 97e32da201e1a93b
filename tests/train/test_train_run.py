"""The whole run: what it writes, that it learns, and that a kill changes no bit of its weights."""

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
from safetensors.torch import load_file
from training_proofs import (
    SCRATCH,
    eight_passes_of_a_row_equal_one_of_eight_rows,
    options,
    power_cut,
    trains_as_a_loop_written_by_hand,
)

from meadowlark.config import load
from meadowlark.dataset import read_manifest, write_table
from meadowlark.errors import FolderDiffers, MeadowlarkError, Stopped, UserError
from meadowlark.records import TEST_ONLY, Record, to_table
from meadowlark.train import log
from meadowlark.train.encode import Encoder
from meadowlark.train.loss import Evaluation, evaluate
from meadowlark.train.model import load_model, save_checkpoint
from meadowlark.train.options import TrainOptions
from meadowlark.train.run import train
from meadowlark.train.tokenizer import load_tokenizer


@pytest.fixture
def base(mixed: Path, tmp_path: Path) -> Path:
    """A finished small model with its own template, to be tuned further."""
    out = tmp_path / "base"
    train(options(mixed), out)
    return out


def test_a_run_learns_and_writes_what_a_server_needs(mixed: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    run = train(options(mixed, optimiser={"epochs": 6}), out)
    results = read_manifest(out).results
    assert results["validation_loss_after"] < results["validation_loss_before"] - 0.5
    assert results["validation_bits_per_byte_after"] < results["validation_bits_per_byte_before"]
    assert results["steps"] == 30
    assert results["epochs"] == 6.0
    assert results["train_loss_last"] < results["train_loss_first"]
    assert 0 < results["bigram_bits_per_byte"] < results["validation_bits_per_byte_before"]
    assert run.manifest.rows == {"in": 20, "kept": 20, "validation": 4, "rejected": {}}
    assert run.manifest.licences == {"test": 20}
    assert not (out / "checkpoints").exists()
    assert not list(out.rglob("*.bin"))
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert tokenizer.chat_template.startswith("{%- set marker")
    assert model.config._attn_implementation == "sdpa"
    turns = [{"role": "user", "content": "What does the skin do?"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    made = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert made.shape[1] > prompt["input_ids"].shape[1]
    names = set(run.manifest.outputs)
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert {"initial", "train_log.jsonl", "config.toml", "rejected.parquet"} <= names


def test_the_log_tells_each_step_once_with_its_numbers(base: Path) -> None:
    lines = log.read_log(base / log.NAME)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 16))
    assert [line["epoch"] for line in steps[4::5]] == [1.0, 2.0, 3.0]
    evaluations = [line["step"] for line in lines if "eval_loss" in line]
    assert evaluations == [0, 15]
    keys = {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s"}
    keys |= {"memory_bytes", "shared", "mfu"}
    assert all(line.keys() == keys for line in steps)
    assert steps[-1]["tokens"] == read_manifest(base).results["tokens_seen"]


def test_the_initial_model_is_the_evaluated_one(base: Path, records: list[Record]) -> None:
    tokenizer = load_tokenizer(base / "initial", None)
    examples, _ = Encoder(tokenizer, max_length=512).encode(records[20:])
    found = evaluate(load_model(base / "initial", "float32"), examples, tokens_per_forward=512)
    assert found.loss == pytest.approx(read_manifest(base).results["validation_loss_before"], 1e-6)


def test_the_trainer_equals_a_loop_written_by_hand(
    mixed: Path, tmp_path: Path, records: list[Record]
) -> None:
    trains_as_a_loop_written_by_hand(mixed, records, tmp_path / "out")


@pytest.mark.parametrize("change", [{"packing": False}, {"tokens_per_forward": 512}])
def test_the_weights_do_not_depend_on_how_steps_are_packed(
    base: Path, mixed: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    train(options(mixed, run=change), out)
    packed, other = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    for name, weights in packed.items():
        torch.testing.assert_close(weights, other[name], rtol=0, atol=5e-4)


def test_the_same_run_again_does_nothing_and_another_is_refused(base: Path, mixed: Path) -> None:
    weights = (base / "model.safetensors").stat().st_mtime_ns
    assert train(options(mixed), base).done_before
    assert train(options(mixed, run={"save_every_steps": 9}), base).done_before
    for change in ({"epochs": 4}, {"learning_rate": 1e-3}, {"max_steps": 99}):
        with pytest.raises(FolderDiffers, match=next(iter(change))):
            train(options(mixed, optimiser=change), base)
    with pytest.raises(FolderDiffers, match="limit: null there, 8 asked"):
        train(options(mixed), base, limit=8)
    assert (base / "model.safetensors").stat().st_mtime_ns == weights
    assert train(options(mixed), base, limit=8, force=True).manifest.rows["in"] == 8


def test_a_run_may_end_once_it_beats_the_bigram_and_resumes_to_the_same_weights(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy = Evaluation(loss=9.0, bits_per_byte=99.0, tokens=1)
    monkeypatch.setattr("meadowlark.train.run.bigram_baseline", lambda *_: (easy, {}))
    told = options(mixed, run={"evaluate_every_steps": 8, "stop_below_bigram": True})
    train(told, tmp_path / "whole")
    results = read_manifest(tmp_path / "whole").results
    assert (results["steps"], results["steps_planned"]) == (8, 15)
    assert results["validation_bits_per_byte_after"] < 99

    def stopped(*_: Any) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("meadowlark.train.run.save_checkpoint", _after_the_first(stopped))
        with pytest.raises(KeyboardInterrupt):
            train(told, tmp_path / "resumed")
    train(told, tmp_path / "resumed")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert read_manifest(tmp_path / "resumed").results["steps"] == 8


def _after_the_first(stopped: Any) -> Any:
    """save_checkpoint as it is for the initial model, ``stopped`` for the trained one."""
    calls: list[Any] = []

    def once(*arguments: Any) -> Any:
        calls.append(arguments)
        return save_checkpoint(*arguments) if len(calls) == 1 else stopped(*arguments)

    return once


def test_eight_passes_of_a_row_make_the_step_of_one_pass_of_eight_rows(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight_passes_of_a_row_equal_one_of_eight_rows(mixed, tmp_path, monkeypatch)


def test_samples_show_the_model_as_it_learns_and_change_no_weight(
    base: Path, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sampling = {"sample_every_steps": 6, "samples": 2, "sample_tokens": 5, "save_every_steps": 4}
    train(options(mixed, run=sampling), out)
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    lines = log.read_log(out / "samples.jsonl")
    assert [line["step"] for line in lines] == [6, 6, 12, 12, 15, 15]
    assert lines[0]["id"] != lines[1]["id"]
    assert lines[0]["prompt"].startswith("Below is an instruction")
    assert lines[0]["reference"].startswith("The doctor asks, looks at the stomach")
    assert any(line["text"] for line in lines)
    assert train(options(mixed), out).done_before  # what is shown is no part of the run


def test_the_best_weights_are_the_result_and_patience_ends_the_run(
    mixed: Path, tmp_path: Path, records: list[Record]
) -> None:
    """A learning rate so high that the loss turns: what is kept is the best evaluation's."""
    out = tmp_path / "out"
    told = options(
        mixed,
        optimiser={"learning_rate": 0.2, "schedule": "constant", "warmup": 0, "epochs": 8},
        run={"evaluate_every_steps": 2, "patience": 3, "keep_best": True},
    )
    results = train(told, out).manifest.results
    evaluations = [line for line in log.read_log(out / log.NAME) if "eval_loss" in line]
    best = min(evaluations, key=lambda line: line["bits_per_byte"])
    assert results["steps"] == best["step"] + 3 * 2 < results["steps_planned"]
    assert results["best_step"] == best["step"]
    assert results["validation_loss_after"] == best["eval_loss"]
    tokenizer = load_tokenizer(out, None)
    examples, _ = Encoder(tokenizer, max_length=512).encode(records[20:])
    found = evaluate(load_model(out, "float32"), examples, tokens_per_forward=2048)
    assert found.loss == pytest.approx(best["eval_loss"], rel=1e-6)


def test_a_run_that_keeps_its_best_goes_on_with_it_after_a_stop(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = options(
        mixed,
        optimiser={"learning_rate": 0.2, "schedule": "constant", "warmup": 0, "epochs": 8},
        run={"evaluate_every_steps": 2, "patience": 4, "keep_best": True, "save_every_steps": 3},
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(told, whole)
    for step in (4, 7):
        stop_after(step, monkeypatch, told, stopped, signal.SIGTERM)
    train(told, stopped)
    assert (stopped / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()
    found, expected = read_manifest(stopped).results, read_manifest(whole).results
    for of_the_process in ("peak_memory_bytes", "planned_peak_memory_bytes", "tokens_per_s", "mfu"):
        assert found.pop(of_the_process) > 0 < expected.pop(of_the_process)
    assert found == expected


def stop_after(
    step: int, monkeypatch: pytest.MonkeyPatch, told: TrainOptions, out: Path, number: int
) -> None:
    """Send this process a signal in the middle of a step; the run saves and stops after it."""
    from meadowlark.train.trainer import PackedTrainer

    own = PackedTrainer.training_step

    def signalled(self: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.state.global_step == step - 1:
            os.kill(os.getpid(), number)
        return own(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PackedTrainer, "training_step", signalled)
        with pytest.raises(Stopped, match=f"stopped after step {step} of") as stopped:
            train(told, out)
    assert stopped.value.exit_code == 128 + number
    assert [p.name for p in (out / "checkpoints").glob("checkpoint-*")] == [f"checkpoint-{step}"]
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(
    base: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Stopped in mid-epoch of the first, at the end of the second, and in the third."""
    out = tmp_path / "out"
    for step in (2, 10, 13):
        stop_after(step, monkeypatch, options(mixed), out, number)
    assert train(options(mixed), out).manifest.resumed == 3
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    ours, theirs = ([_timeless(x) for x in log.read_log(f / log.NAME)] for f in (out, base))
    assert ours == theirs


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in log.MEASURED}


def test_tensorboard_gets_the_numbers_of_the_log(mixed: Path, tmp_path: Path) -> None:
    """Read back by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    train(options(mixed, run={"report_to": ["tensorboard"]}), out)
    reader = EventAccumulator(str(out / "tensorboard"))
    reader.Reload()
    lines = log.read_log(out / log.NAME)
    told = [(event.step, event.value) for event in reader.Scalars("train/loss")]
    steps = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert told == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in steps]
    bits = [(e.step, e.value) for e in reader.Scalars("eval/bits_per_byte")]
    evaluated = [(line["step"], line["bits_per_byte"]) for line in lines if "eval_loss" in line]
    assert bits == [(step, pytest.approx(value, rel=1e-6)) for step, value in evaluated]


def start(config: Path, data: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "meadowlark", "train", config, "--data", data, "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """40 steps, a checkpoint every 3, an evaluation every 5."""
    path = tmp_path / "run.toml"
    scratch = "\n".join(f"{key} = {value}" for key, value in SCRATCH.items())
    path.write_text(
        f"[model.from_scratch]\n{scratch}\n[data]\npath = 'none'\ntemplate = 'alpaca'\n"
        "[optimiser]\nlearning_rate = 3e-3\nbatch_rows = 4\nepochs = 8\nweight_decay = 0.1\n"
        "[run]\nsave_every_steps = 3\nevaluate_every_steps = 5\nthreads = 1\n"
    )
    return path


@pytest.mark.slow
def test_kill_9_and_again_gives_the_same_bits(config: Path, mixed: Path, tmp_path: Path) -> None:
    """Killed before the first checkpoint and between two, with one half written besides.

    Each process has its own hash seed, so this also shows that the tokenizer does not depend on it.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(config, mixed, whole))
    for wanted in (1, 7):
        process = start(config, mixed, killed)
        while process.poll() is None:
            lines = log.read_log(killed / log.NAME)
            if lines and lines[-1]["step"] >= wanted:
                break
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1].decode()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if wanted == 7:  # what a kill in the middle of writing leaves
            torn = killed / "checkpoints" / "unfinished" / "checkpoint-39"
            torn.mkdir(parents=True, exist_ok=True)
            (torn / "model.safetensors").write_bytes(b"torn")
    finish(start(config, mixed, killed))
    manifest = read_manifest(killed)
    assert manifest.resumed == 2
    for name in ("model.safetensors", "tokenizer.json", "initial/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    timeless = [[_timeless(x) for x in log.read_log(f / log.NAME)] for f in (killed, whole)]
    assert timeless[0] == timeless[1]
    evaluated = [line["step"] for line in timeless[0] if "eval_loss" in line]
    assert evaluated == list(range(0, 41, 5))


def test_an_interrupted_adapter_run_with_dropout_goes_on_bit_for_bit(
    base: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by an error at step 10, after the checkpoint of step 8: weights, dropout, order."""

    lora = {"rank": 4, "dropout": 0.3, "targets": ["q_proj", "down_proj"]}
    asked = options(mixed, model={"base": str(base)}, lora=lora)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(asked, whole)
    power_cut(10, monkeypatch, asked, stopped)
    train(asked, stopped)
    name = "adapter_model.safetensors"
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert any(weights.any() for key, weights in load_file(whole / name).items() if "lora_B" in key)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # in peft itself
def test_an_adapter_learns_is_small_and_loads_on_its_base(
    base: Path, mixed: Path, tmp_path: Path, records: list[Record]
) -> None:
    from peft import PeftModel

    out = tmp_path / "adapter"
    asked = options(mixed, model={"base": str(base)}, lora={"rank": 4}, data={"template": None})
    before = (base / "model.safetensors").read_bytes()
    run = train(asked, out)
    results = run.manifest.results
    assert results["trainable_parameters"] == 2 * 2 * 2 * 4 * 32  # layers, targets, A and B
    assert results["validation_loss_after"] < results["validation_loss_before"]
    assert not (out / "model.safetensors").exists()
    assert (base / "model.safetensors").read_bytes() == before
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        base
    )
    tokenizer = load_tokenizer(out, None)
    examples, _ = Encoder(tokenizer, max_length=512).encode(records[20:])
    tuned = PeftModel.from_pretrained(load_model(base, "float32"), out)
    found = evaluate_plain(tuned, examples)
    assert found == pytest.approx(results["validation_loss_after"], rel=1e-5)


def evaluate_plain(model: Any, examples: list[Any]) -> float:
    """Nats a supervised token by transformers' own loss on its own attention."""
    model.eval()
    total = 0.0
    for example in examples:
        ids = torch.tensor(example.input_ids.tolist())[None]
        labels = ids.clone()
        labels[0, : example.first_supervised] = -100
        with torch.no_grad():
            total += model(input_ids=ids, labels=labels).loss.item() * example.supervised
    return total / sum(example.supervised for example in examples)


def test_full_tuning_starts_from_the_base_and_keeps_its_template(
    base: Path, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    asked = options(mixed, model={"base": str(base)}, data={"template": None, "loss_on": "all"})
    results = train(asked, out).manifest.results
    held = read_manifest(base).results["validation_loss_after"]
    assert results["validation_loss_before"] == pytest.approx(held, rel=1e-5)
    assert results["validation_loss_after"] < held
    assert (out / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()
    assert load(out / "config.toml", TrainOptions) == asked


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"from_scratch": SCRATCH, "dtype": "bfloat16"}},
        {"run": {"precision": "bfloat16"}},
        {"optimiser": {"batch_tokens": 400}},
        {"run": {"gradient_checkpointing": True}},
    ],
    ids=["pure bfloat16", "bfloat16 autocast", "token batches", "checkpointing"],
)
def test_other_ways_to_train_also_learn(
    mixed: Path, tmp_path: Path, sections: dict[str, Any]
) -> None:
    results = train(options(mixed, **sections), tmp_path / "out").manifest.results
    assert results["validation_loss_after"] < results["validation_loss_before"] - 0.1
    weights = load_file(tmp_path / "out" / "model.safetensors")
    pure = sections.get("model", {}).get("dtype") == "bfloat16"
    kinds = {tensor.dtype for tensor in weights.values()}
    assert kinds == {torch.bfloat16 if pure else torch.float32}


def test_adapters_on_a_half_precision_base_stay_in_float32(
    base: Path, mixed: Path, tmp_path: Path
) -> None:
    model = {"base": str(base), "dtype": "bfloat16"}
    lora = {"rank": 4, "rslora": True, "dora": True, "targets": ["q_proj", "o_proj", "down_proj"]}
    asked = options(mixed, model=model, lora=lora, optimiser={"epochs": 6})
    results = train(asked, tmp_path / "out").manifest.results
    assert results["validation_loss_after"] < results["validation_loss_before"]
    adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}


def test_mistakes_end_in_one_message(base: Path, mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"no linear layer 'q_prj'\. Did you mean 'q_proj'"):
        train(options(mixed, model={"base": str(base)}, lora={"targets": ["q_prj"]}), out)
    with pytest.raises(UserError, match="needs a GPU"):
        train(options(mixed, run={"precision": "float16"}), out, force=True)
    with pytest.raises(UserError, match=r"no row .* longer than max_length"):
        train(options(mixed, data={"max_length": 16}), out, force=True)
    (base / "chat_template.jinja").unlink()
    (base / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no chat template, and nothing is guessed"):
        train(options(mixed, model={"base": str(base)}, data={"template": None}), out, force=True)


@pytest.mark.parametrize("name", ["rows.parquet", "validation.parquet"])
def test_rows_for_examining_models_are_not_trained_on(
    name: str, mixed: Path, tmp_path: Path
) -> None:
    rows = [Record("Which?", "", "A.", source="usmle", tags=TEST_ONLY)]
    write_table(mixed / name, to_table(rows, Record))
    with pytest.raises(UserError, match=r"only \(1 of usmle, tagged use=test\)"):
        train(options(mixed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_checkpoints_are_safetensors_and_state_that_loads_without_pickle(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadowlark.train import run as stage

    monkeypatch.setattr(stage, "save_checkpoint", _no_export)
    out = tmp_path / "out"
    with pytest.raises(MeadowlarkError, match="disk full"):
        train(options(mixed, model={"from_scratch": {**SCRATCH, "keep_initial": False}}), out)
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-15"
    suffixes = {path.suffix for path in checkpoint.iterdir()}
    assert suffixes == {".safetensors", ".json", ".pt", ".pth"}
    for path in checkpoint.glob("*.pt"):
        torch.load(path, weights_only=True)
    assert not (out / "initial").exists()


def _no_export(model: Any, tokenizer: Any, folder: Path, *_: Any) -> list[str]:
    from meadowlark.train.model import save_checkpoint

    if "initial" in folder.name:
        return save_checkpoint(model, tokenizer, folder)
    raise MeadowlarkError("disk full")
