"""What training does on a GPU: packed attention right, then tokens a second, memory and MFU.

First the claim that must hold: one packed pass through the variable-length kernel gives the loss
of each row by itself in float32 on the CPU. Then full fine-tuning and LoRA of a LLaMA with random
weights, timed with device events after a warm-up (../.library/device/METHOD.md). ``--small`` runs
the same code in a few seconds on a CPU, where a test runs it. Writes results/gpu_training.json.

    make bench-gpu
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Example
from meadowlark.train.loss import summed_loss
from meadowlark.train.model import add_lora
from meadowlark.train.options import LoraOptions
from meadowlark.train.pack import best_fit, lay_out

sys.path.insert(0, str(Path(__file__).parents[1]))
from _stamp import RESULTS, stamp

PEAK_FLOPS = {"NVIDIA H200": 790e12}
"""Measured bf16 matrix rate where one is known (KINDS.md), for the MFU."""


def rows(count: int, vocabulary: int, longest: int, seed: int = 0) -> list[Example]:
    """Random rows with lengths like wikidoc's: log-normal around 187 tokens, half supervised."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(5.1, 0.5, count), 16, longest).astype(int)
    return [
        Example(
            id=str(number),
            input_ids=rng.integers(3, vocabulary, length).astype(np.int32),
            spans=((int(length) // 2, int(length)),),
            response_bytes=2 * int(length),
        )
        for number, length in enumerate(lengths)
    ]


def llama(small: bool) -> LlamaForCausalLM:
    """Llama-3.2-1B's shape with random weights, or a toy of the same architecture."""
    torch.manual_seed(0)
    if small:
        config = LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    else:
        config = LlamaConfig(
            vocab_size=32_000,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
        )
    return LlamaForCausalLM(config)


def packed_equals_alone(small: bool, device: torch.device) -> dict[str, float]:
    """Relative difference between packed 16-bit and row-by-row float32 losses."""
    examples = rows(12, 512, 256)
    reference = llama(True)
    use_packed_attention(reference, 256)
    alone = sum(float(summed_loss(reference, lay_out([example]))) for example in examples)
    packed = reference.to(device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        together = float(summed_loss(packed, lay_out(examples, device)))
    return {"alone_float32_nats": alone, "relative_difference": abs(together - alone) / alone}


def speed(small: bool, device: torch.device, lora: bool, repeats: int) -> dict[str, Any]:
    """Median tokens a second of one optimiser step, and the memory it peaks at."""
    model: Any = llama(small)
    length, capacity = (64, 256) if small else (1024, 16_384)
    use_packed_attention(model, length)
    if lora:
        model = add_lora(model.to(torch.bfloat16), LoraOptions(), seed=0)
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, fused=device.type == "cuda")
    examples = rows(64 if small else 512, model.config.vocab_size, length)
    bins = best_fit(range(len(examples)), [len(e.input_ids) for e in examples], capacity)
    passes = [lay_out([examples[row] for row in rows_], device) for rows_ in bins]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rates = []
    for number in range(repeats + 3):
        batch = passes[number % len(passes)]
        _wait(device)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            loss = summed_loss(model, batch) / len(batch.targets)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        _wait(device)
        if number >= 3:
            rates.append(batch.input_ids.numel() / (time.perf_counter() - began))
    tokens_per_s = statistics.median(rates)
    weights = sum(p.numel() for p in model.parameters())
    flops = (4 if lora else 6) * weights * tokens_per_s  # without attention's share
    peak = PEAK_FLOPS.get(torch.cuda.get_device_name() if device.type == "cuda" else "")
    return {
        "parameters": weights,
        "trainable": sum(p.numel() for p in trained),
        "tokens_per_s": round(tokens_per_s),
        "spread": [round(min(rates)), round(max(rates))],
        "mfu": round(flops / peak, 3) if peak else None,
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)
        if device.type == "cuda"
        else None,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a toy, on any device, not recorded")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_training.json")
    options = parser.parse_args()
    if not options.small and not torch.cuda.is_available():
        sys.exit("no GPU here; `--small` runs the same code on a CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    repeats = 3 if options.small else 20
    result = {
        **stamp(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "packed_equals_alone": packed_equals_alone(options.small, device),
        "full": speed(options.small, device, lora=False, repeats=repeats),
        "lora": speed(options.small, device, lora=True, repeats=repeats),
    }
    print(json.dumps(result, indent=2))
    if not options.small:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    if result["packed_equals_alone"]["relative_difference"] > 1e-2:
        sys.exit("packed attention is wrong on this device")


if __name__ == "__main__":
    main()
