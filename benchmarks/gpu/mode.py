"""One mode of the GPU benchmark in a process of its own; rows of results as lines of JSON.

The steps are those of the real trainer (``PackedTrainer.train``: packing, loss, clipping, AdamW,
schedule, log) over real rows, on a LLaMA-7B-shaped model with random weights; TRL's are its
SFTTrainer's own. A setting that runs out of memory or fails is a row too.

    python benchmarks/gpu/mode.py lora-bf16 --data .bench-gpu --out rows.jsonl [--small]
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llama import VOCABULARY, llama_config, random_llama
from modes import (
    BY_NAME,
    IN_FULL,
    SMALL_IN_FULL,
    SMALL_TRIED,
    TRIED,
    Mode,
    Setting,
    options_of,
)
from timing import Clock, best_seconds, peak_bytes, reset_peak, spread, wait
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from meadowlark.train import log
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.devices import find_device
from meadowlark.train.encode import Example
from meadowlark.train.encoded import Encoded
from meadowlark.train.kernels import compile_layers
from meadowlark.train.loss import summed_loss
from meadowlark.train.model import decoder_layers, parameters, prepare
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import Step, lay_out, plan_steps
from meadowlark.train.plan import predict
from meadowlark.train.tokenizer import load_tokenizer
from meadowlark.train.trainer import PackedTrainer

Row = dict[str, Any]
SMALL_ROWS, SMALL_LONGEST = 200, 384


@dataclasses.dataclass(frozen=True)
class Setup:
    """What every mode here works with."""

    device: torch.device
    small: bool
    rows: Sequence[Example]
    lengths: list[int]
    epoch_tokens: float
    tokenizer: Any
    matrix_flops: float | None
    artefacts: Path
    ends: float = float("inf")
    """When this process will be ended, on the clock of ``time.monotonic``."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)

    def steps(self, *, tried: bool) -> tuple[int, int]:
        """Steps of warming up, and timed steps."""
        if self.small:
            return SMALL_TRIED if tried else SMALL_IN_FULL
        return TRIED if tried else IN_FULL


# --------------------------------------------------------------------------- data


def made_up_rows(count: int, seed: int = 0) -> list[Example]:
    """Random ids with lengths like wikidoc's: log-normal around 187 tokens, 62 % supervised."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(5.1, 0.5, count), 16, SMALL_LONGEST).astype(int)
    return [
        Example(
            id=str(number),
            input_ids=rng.integers(3, VOCABULARY, length).astype(np.int32),
            spans=((int(length * 0.38), int(length)),),
            response_bytes=2 * int(length),
        )
        for number, length in enumerate(lengths)
    ]


def made_up_tokenizer() -> Any:
    """As many words as LLaMA-2's tokenizer has, where no data was prepared."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),
        unk_token="w0",
        bos_token="w1",
        eos_token="w2",
        pad_token="w0",
    )


def setup(
    data: Path, small: bool, matrix_flops: float | None, artefacts: Path, ends: float
) -> Setup:
    """The real rows that ``prepare.py`` encoded; in small made-up ones where there are none."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: Sequence[Example]
    if (data / "encoded").exists():
        rows = Encoded(data / "encoded")
        epoch = json.loads((data / "manifest.json").read_text())["data"]["epoch_tokens"]
        tokenizer = load_tokenizer(data / "tokenizer", "alpaca")
    elif small:
        rows, tokenizer = made_up_rows(SMALL_ROWS), made_up_tokenizer()
        epoch = float(sum(len(row.input_ids) for row in rows))
    else:
        raise SystemExit(f"{data} holds no encoded rows: `make bench-gpu` where the data is")
    if small:
        rows = [row for row in rows if len(row.input_ids) <= SMALL_LONGEST][:SMALL_ROWS]
    lengths = [len(row.input_ids) for row in rows]
    return Setup(device, small, rows, lengths, epoch, tokenizer, matrix_flops, artefacts, ends)


# --------------------------------------------------------------------------- what work it is


def step_flops(
    lengths: Sequence[int], computed: int, supervised: int, lora: bool, config: Any
) -> float:
    """Model FLOPs of a step: 4N (LoRA) or 6N a token and causal attention's, nothing recomputed.

    N is the layers' matrices for every computed token and the head's for the supervised ones,
    since only those meet it. Attention is counted once forward and twice backward.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    in_layers = layers * (4 * width**2 + 3 * width * config.intermediate_size)
    head = width * config.vocab_size
    times = 4 if lora else 6
    attention = 3 * layers * 2 * width * sum(float(length) ** 2 for length in lengths)
    return times * (computed * in_layers + supervised * head) + attention


def step_sizes(trainer: PackedTrainer, steps: Sequence[Step]) -> list[tuple[int, int, int]]:
    """Of each step: tokens of its rows, tokens its passes compute, supervised tokens."""
    options = trainer.options
    fill = options.tokens_per_forward if options.run.compile else None
    found = []
    for step in steps:
        computed = sum(
            lay_out(
                [trainer.examples[row] for row in rows],
                fill=fill,
                longest=options.data.max_length,
                share=not trainer.unshared,
            ).input_ids.numel()
            for rows, _ in trainer.passes(step.rows)
        )
        tokens = sum(trainer.lengths[row] for row in step.rows)
        supervised = sum(trainer.examples[row].supervised for row in step.rows)
        found.append((tokens, computed, supervised))
    return found


# --------------------------------------------------------------------------- our modes


def run_mode(mode: Mode, at: Setup) -> Iterator[Row]:
    """The rows of a training mode: every setting tried, then the best ones in full.

    What is tried may take half of the process's time.
    """
    half = (time.monotonic() + at.ends) / 2
    possible = [setting for setting in mode.settings if not lacking(setting.needs, at)]
    for setting in mode.settings:
        if setting not in possible:
            missing = ", ".join(lacking(setting.needs, at))
            yield {"setting": setting.name, "status": "not run", "reason": f"{missing} is missing"}
    tried: list[tuple[Setting, Row]] = []
    if len(possible) > 1:
        for setting in possible:
            if time.monotonic() > half:
                yield {"setting": setting.name, "status": "not run", "reason": "no time to try it"}
                continue
            row = attempt(partial(train, mode, setting, at, *at.steps(tried=True)))
            yield {"setting": setting.name, "tried": True, **row}
            tried.append((setting, row))
    for setting in chosen(tried, mode.memory_aim_bytes) if len(possible) > 1 else possible:
        profile = at.artefacts / f"profile-{mode.name}.txt" if mode.profile else None
        row = attempt(partial(train, mode, setting, at, *at.steps(tried=False), profile))
        yield {"setting": setting.name, **row}


def chosen(tried: Sequence[tuple[Setting, Row]], aim_bytes: float | None) -> list[Setting]:
    """The fastest setting, and the fastest within the memory aim where that is another."""
    ran = [(setting, row) for setting, row in tried if row["status"] == "ok"]
    within = [
        (setting, row)
        for setting, row in ran
        if aim_bytes and (row["peak_bytes"]["allocated"] or 0) <= aim_bytes
    ]
    found: list[Setting] = []
    for some in (ran, within):
        if some:
            best, _ = max(some, key=lambda pair: pair[1]["tokens_per_s"])
            found += [best] if best not in found else []
    return found


def lacking(packages: Sequence[str], at: Setup) -> list[str]:
    """Which packages a setting needs and this Python lacks; a small run takes torch's kernels."""
    needed = [name for name in packages if not (at.small and name == "liger_kernel")]
    return [name for name in needed if importlib.util.find_spec(name) is None]


def attempt(action: Callable[[], Row]) -> Row:
    """An action's row, or one that says how it failed; memory is freed either way."""
    try:
        return {"status": "ok", **action()}
    except torch.OutOfMemoryError as error:
        return {"status": "out of memory", "reason": str(error).splitlines()[0]}
    except Exception as error:  # one setting's fault must not lose the others
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def train(
    mode: Mode,
    setting: Setting,
    at: Setup,
    warm_up: int,
    timed: int,
    profile: Path | None = None,
) -> Row:
    """Steps of the real trainer in one setting, timed."""
    options = TrainOptions.model_validate(options_of(mode, setting, at.longest, at.small))
    config = llama_config(at.small)
    dtype = getattr(torch, options.model.dtype)
    began = time.perf_counter()
    model = random_llama(config, at.device, dtype, options.model.quantise)
    model = prepare(model, options, at.tokenizer)
    if options.run.compile:
        compile_layers(decoder_layers(model))
    total, trained = parameters(model)
    wait(at.device)
    built_s = time.perf_counter() - began
    steps = plan_steps(
        at.lengths,
        seed=options.run.seed,
        epochs=-(-(warm_up + timed + 2) * options.optimiser.batch_tokens // sum(at.lengths)),
        batch_rows=options.optimiser.batch_rows,
        batch_tokens=options.optimiser.batch_tokens,
    )
    clock = Clock(at.device, warm_up, timed, profile)
    assert len(steps) > clock.steps, "the last step of a plan would write a checkpoint"
    with tempfile.TemporaryDirectory() as folder:
        trainer = PackedTrainer(model, options, at.rows, steps, Path(folder))
        trainer.add_callback(clock)
        reset_peak(at.device)
        trainer.train()
        losses = [line["loss"] for line in log.read_log(Path(folder) / log.NAME)]
    assert (len(clock.seconds), len(losses)) == (timed, clock.steps), "steps went missing"
    sizes = step_sizes(trainer, steps[warm_up : warm_up + timed])
    lora = options.lora is not None
    flops = [
        step_flops([at.lengths[row] for row in step.rows], computed, supervised, lora, config)
        for step, (_, computed, supervised) in zip(steps[warm_up:], sizes, strict=False)
    ]
    measured = {
        "parameters": total,
        "trainable_parameters": trained,
        "losses": [losses[0], losses[-1]],
        "built_s": round(built_s, 2),
        **rates(sizes, clock.seconds, flops, at),
        "peak_bytes": peak_bytes(at.device),
    }
    told = {"options": options.model_dump(mode="json", exclude_defaults=True), **measured}
    if timed == at.steps(tried=False)[1]:  # a plan takes seconds of the call
        told["predicted"] = predicted(options, config, at, measured)
    return told


def rates(
    sizes: Sequence[tuple[int, int, int]],
    seconds: Sequence[float],
    flops: Sequence[float],
    at: Setup,
) -> Row:
    """Seconds a step, tokens/s, the epoch extrapolated from them, and the utilisation."""
    tokens_per_s = float(np.median([s[0] / t for s, t in zip(sizes, seconds, strict=True)]))
    used = float(np.median([f / t for f, t in zip(flops, seconds, strict=True)]))
    return {
        "timed_steps": len(seconds),
        "seconds_per_step": spread(seconds),
        "tokens_per_s": round(tokens_per_s, 1),
        "supervised_tokens_per_s": round(tokens_per_s * _share(sizes, 2), 1),
        "computed_tokens_of_a_row_token": round(_share(sizes, 1), 3),
        "epoch_s": round(at.epoch_tokens / tokens_per_s, 1),
        "epoch_is_extrapolated": True,
        "model_flops_per_token": sum(flops) / sum(size[0] for size in sizes),
        "model_flops_per_s": used,
        "mfu": round(used / at.matrix_flops, 4) if at.matrix_flops else None,
    }


def _share(sizes: Sequence[tuple[int, int, int]], part: int) -> float:
    return sum(size[part] for size in sizes) / sum(size[0] for size in sizes)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Tokens of each row and how many of them are learned, as ``plan`` takes them."""

    lengths: Any
    supervised: Any


def predicted(options: TrainOptions, config: Any, at: Setup, measured: Row) -> Row:
    """What ``plan`` says of this setting, and its figures over those measured."""
    sizes = Sizes(np.array(at.lengths), np.array([row.supervised for row in at.rows]))
    try:
        made = predict(options, config, sizes, find_device(), changes=False, examples=at.rows)
    except Exception as error:  # a wrong prediction is a result; a measurement must not be lost
        return {"failed": f"{type(error).__name__}: {error}"}
    peak, tokens_per_s = made.memory.peak, made.speed.tokens_per_s
    found = {
        "memory_bytes": {**made.memory.parts, "workspace": made.memory.workspace},
        "peak_bytes": peak,
        "needed_bytes": made.memory.needed,
        "flops_per_token": made.flops_per_token,
        "tokens_per_s": round(tokens_per_s, 1),
        "mfu": round(made.speed.mfu, 4),
        "epoch_s": round(at.epoch_tokens / tokens_per_s, 1),
    }
    allocated = measured["peak_bytes"]["allocated"]
    over = {
        "peak_bytes": round(peak / allocated, 4) if allocated else None,
        "tokens_per_s": round(tokens_per_s / measured["tokens_per_s"], 4),
        "flops_per_token": round(made.flops_per_token / measured["model_flops_per_token"], 4),
    }
    return {**found, "over_measured": over}


# --------------------------------------------------------------------------- device and kernels


def run_device(mode: Mode, at: Setup) -> Iterator[Row]:
    """The card's two ceilings, and whether packed attention is right on it."""
    yield {"setting": "ceilings", **attempt(partial(ceilings, at))}
    for kernels in ("torch", "liger"):
        if kernels == "liger" and (at.small or lacking(("liger_kernel",), at)):
            continue
        row = attempt(partial(packed_equals_alone, at, kernels))
        yield {"setting": f"packed equals alone, {kernels}", **row}


def ceilings(at: Setup) -> Row:
    """FLOP/s of a large bf16 matrix product of random data, bytes/s of a large copy."""
    size, length = (1024, 1 << 24) if at.small else (8192, 1 << 30)
    a, b = (torch.randn(size, size, device=at.device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    product_s = best_seconds(lambda: torch.mm(a, b, out=out), at.device, 3 if at.small else 30)
    source = torch.randint(0, 255, (length,), dtype=torch.uint8, device=at.device)
    target = torch.empty_like(source)
    copy_s = best_seconds(lambda: target.copy_(source), at.device, 3 if at.small else 30)
    return {
        "matrix": size,
        "matrix_flops_per_s": 2 * size**3 / product_s,
        "copy_bytes_per_s": 2 * length / copy_s,
    }


def packed_equals_alone(at: Setup, kernels: str) -> Row:
    """Loss and gradients of packed 16-bit passes here, beside float32 row by row on the CPU.

    Fresh rows each time, by ‖g − ref‖ / ‖ref‖ over all gradients. 16-bit operands leave some 1e-2.
    """
    seed = int(time.time())
    chosen = np.random.default_rng(seed).choice(len(at.rows), 12, replace=False)
    rows = [at.rows[int(row)] for row in chosen if len(at.rows[int(row)].input_ids) <= 1024]
    config = llama_config(small=True)
    reference = random_llama(config, torch.device("cpu"), torch.float32, seed=seed % 1000)
    use_packed_attention(reference, 1024)
    alone = 0.0
    for row in rows:
        loss = summed_loss(reference, lay_out([row]))
        loss.backward()
        alone += float(loss)
    expected = [parameter.grad.clone() for parameter in reference.parameters()]
    reference.zero_grad()
    options = TrainOptions.model_validate(
        {
            "model": {"base": "random"},
            "data": {"path": "small", "max_length": 1024},
            "optimiser": {"learning_rate": 1e-5},
            "run": {"kernels": kernels, "tokens_per_forward": 16_384},
        }
    )
    packed = prepare(reference, options, at.tokenizer).to(at.device)
    with torch.autocast(at.device.type, torch.bfloat16):
        together = summed_loss(packed, lay_out(rows, at.device, share=True))
    together.backward()
    wait(at.device)
    got = [parameter.grad.float().cpu() for parameter in packed.parameters()]
    apart = sum(float((g - e).square().sum()) for g, e in zip(got, expected, strict=True)) ** 0.5
    size = sum(float(e.square().sum()) for e in expected) ** 0.5
    loss_off, gradients_off = abs(float(together) - alone) / alone, apart / size
    found = {
        "rows": len(rows),
        "loss_alone_float32": alone,
        "loss_relative_difference": loss_off,
        "gradients_relative_difference": gradients_off,
    }
    if not (loss_off < 1e-2 and gradients_off < 5e-2):  # so that NaN fails too
        return {**found, "status": "wrong", "reason": "packed is not what rows alone give"}
    return found


# --------------------------------------------------------------------------- the whole process


def run_trl(mode: Mode, at: Setup) -> Iterator[Row]:
    """TRL's SFTTrainer on the same rows."""
    missing = lacking(mode.needs, at)
    if missing:
        yield {"status": "not run", "reason": f"{', '.join(missing)} is missing"}
        return
    import peer

    yield from peer.run(at)


SPECIAL: dict[str, Callable[[Mode, Setup], Iterator[Row]]] = {
    "device": run_device,
    "trl-lora-bf16": run_trl,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=list(BY_NAME))
    parser.add_argument("--data", type=Path, default=Path(".bench-gpu"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--artefacts", type=Path, required=True)
    parser.add_argument("--matrix-flops", type=float, help="FLOP/s measured by the mode `device`")
    parser.add_argument("--limit-s", type=float, default=600, help="when it will be ended")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    ends = time.monotonic() + options.limit_s
    warnings.simplefilter("ignore")  # trainers and kernels remark on loading and versions
    transformers_logging.set_verbosity_error()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    mode = BY_NAME[options.mode]
    at = setup(options.data, options.small, options.matrix_flops, options.artefacts, ends)
    missing = lacking(mode.needs, at)
    rows: Iterator[Row]
    if missing and mode.name not in SPECIAL:
        rows = iter([{"status": "not run", "reason": f"{', '.join(missing)} is missing"}])
    else:
        rows = SPECIAL.get(mode.name, run_mode)(mode, at)
    for row in rows:
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"mode": mode.name, **row}) + "\n")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # torch's compiler has workers, for which a process that is done may wait
