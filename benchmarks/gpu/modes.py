"""What ``make bench-gpu`` measures: each mode with the settings it is tried in, and its aims.

A mode is one process. Where it has several settings each is tried for a few steps; the fastest of
those that fit the card, and the fastest within the memory aim, are then measured in full. Modes
are run in the order of :data:`MODES`, so that the last are left out where time runs short.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STEP_TOKENS = 16_000
"""Rows of about so many tokens make a step (the published 128 rows have 24,300): a little under
whole passes of 4,096, 8,192 and 16,384 tokens, so that filled ones (compile) waste 2 %."""
SMALL_STEP_TOKENS, SMALL_FORWARD = 1024, 512
IN_FULL, TRIED = (5, 20), (2, 4)
SMALL_IN_FULL, SMALL_TRIED = (1, 2), (1, 1)
"""Steps of warming up, and timed steps."""
EPOCH_S, MFU, INT8_TIMES, NF4_TIMES, PLAN_ERROR = 60.0, 0.55, 1.4, 1.15, 0.1
"""The issue's aims: LoRA bf16's epoch and utilisation, the quantised ones' times of it, and how far
a plan's memory may be off."""


@dataclass(frozen=True)
class Setting:
    """``run`` overrides the mode's [run] table; ``needs`` names packages beyond the image's."""

    name: str
    run: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mode:
    """``expected_s`` is the time a fresh process needs, for deciding whether to start it."""

    name: str
    expected_s: int
    memory_aim_bytes: float | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    needs: tuple[str, ...] = ()
    profile: bool = False


LIGER = ("liger_kernel",)
TORCH_4K = Setting("4k", {"tokens_per_forward": 4096})
LIGER_4K = Setting("4k liger", {"tokens_per_forward": 4096, "kernels": "liger"}, LIGER)
LIGER_8K = Setting("8k liger", {"tokens_per_forward": 8192, "kernels": "liger"}, LIGER)
LIGER_16K = Setting("16k liger", {"tokens_per_forward": 16_384, "kernels": "liger"}, LIGER)
COMPILED_8K = Setting("8k compiled", {"tokens_per_forward": 8192, "compile": True})
SPARING = {"tokens_per_forward": 4096, "kernels": "liger"}
ALL_AGAIN = Setting("4k liger recompute", {**SPARING, "gradient_checkpointing": True}, LIGER)
MOST_AGAIN = Setting("4k liger recompute 24", {**SPARING, "gradient_checkpointing": 24}, LIGER)
LONG_AGAIN = Setting("8k liger recompute", {**LIGER_8K.run, "gradient_checkpointing": True}, LIGER)

QV = {"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj"]}
ALL_LINEAR = {
    **QV,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
BITSANDBYTES = ("bitsandbytes",)
COMPILED = "lora-bf16-compiled"
"""A mode of its own, as torch's compiler may take a minute and leave memory in use."""

MODES = (
    Mode("device", expected_s=30),
    Mode(
        "lora-bf16",
        expected_s=110,
        memory_aim_bytes=18.8e9,
        options={"model": {"dtype": "bfloat16"}, "lora": QV},
        # torch's kernels first: Liger changes the rotary embedding of a whole process.
        settings=(TORCH_4K, LIGER_8K, MOST_AGAIN, LIGER_4K, LIGER_16K),
        profile=True,
    ),
    Mode("trl-lora-bf16", expected_s=75, needs=("trl", "datasets")),
    Mode(
        "lora-int8",
        expected_s=60,
        memory_aim_bytes=8.9e9,
        options={"model": {"dtype": "bfloat16", "quantise": "int8"}, "lora": QV},
        settings=(LIGER_8K, ALL_AGAIN),
        needs=BITSANDBYTES,
    ),
    Mode(
        "lora-nf4",
        expected_s=55,
        memory_aim_bytes=6e9,
        options={"model": {"dtype": "bfloat16", "quantise": "nf4"}, "lora": QV},
        settings=(LIGER_8K, ALL_AGAIN),
        needs=BITSANDBYTES,
    ),
    Mode(
        "full-bf16",
        expected_s=65,
        memory_aim_bytes=79.5e9,
        options={"model": {"dtype": "bfloat16"}},
        settings=(LIGER_4K, LONG_AGAIN),
    ),
    Mode(
        "full-fp32",
        expected_s=75,
        memory_aim_bytes=125e9,
        options={"model": {"dtype": "float32"}},
        settings=(ALL_AGAIN,),
    ),
    Mode(
        COMPILED,
        expected_s=90,
        options={"model": {"dtype": "bfloat16"}, "lora": QV},
        settings=(COMPILED_8K,),
    ),
    Mode(
        "lora-bf16-all-linear",
        expected_s=45,
        options={"model": {"dtype": "bfloat16"}, "lora": ALL_LINEAR},
        settings=(LIGER_8K,),
    ),
)
BY_NAME = {mode.name: mode for mode in MODES}


def options_of(mode: Mode, setting: Setting, max_length: int, small: bool) -> dict[str, Any]:
    """A mode's options as its TOML file would hold them, validated by whoever trains."""
    run: dict[str, Any] = {"precision": "bfloat16", "seed": 42, **setting.run}
    if small:
        run |= {"kernels": "torch", "compile": False, "tokens_per_forward": SMALL_FORWARD}
        if run.get("gradient_checkpointing", False) is not False:
            run["gradient_checkpointing"] = 1
    return {
        "model": {"base": "random", **mode.options["model"]},
        "data": {"path": "small", "max_length": max_length},
        "optimiser": {
            "learning_rate": 2e-5,
            "batch_tokens": SMALL_STEP_TOKENS if small else STEP_TOKENS,
            "epochs": 1,
        },
        "run": run,
        **({"lora": mode.options["lora"]} if "lora" in mode.options else {}),
    }
