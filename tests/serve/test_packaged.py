"""What ``package`` made, and quantised bases: ``serve``, ``load`` and ``chat`` give the greedy
tokens of plain transformers (and peft), loaded from the same folders by their own means."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from running import local_voice, serving
from test_server import call
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

import meadowlark
from meadowlark.cli import run
from meadowlark.errors import UserError
from meadowlark.llm.chat import Sampling
from meadowlark.records import Record
from meadowlark.templates import TEMPLATES, messages
from meadowlark.train.package import package
from tiny_model import make_tiny_model

# peft 0.21 reads an attribute that transformers 5 renames
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ASKED = Record("Which organ makes bile?", "A: Heart\nB: Liver")
MOST = 24
SETTINGS: dict[str, dict[str, Any]] = {
    "int8": {"load_in_8bit": True},
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.float32,
    },
}
CASES = ("full", "merged", "adapter", "int8", "nf4", "int8+adapter", "nf4+adapter")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an adapter, what ``package`` makes of them, and the base quantised."""
    folder = tmp_path_factory.mktemp("home")
    base = make_tiny_model(folder / "base", width=64)
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    tuned = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    tuned.save_pretrained(folder / "tuned")
    package(base, folder / "full", dtype="float32", template="alpaca")
    package(folder / "tuned", folder / "merged", merge=True, dtype="float32", template="alpaca")
    package(folder / "tuned", folder / "adapter", template="alpaca")
    return folder


def quantised(home: Path, kind: str) -> Path:
    """The packaged base as transformers saves it with its linear layers in few bits."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    place = home / kind
    if not place.exists():
        model = AutoModelForCausalLM.from_pretrained(
            home / "full",
            quantization_config=BitsAndBytesConfig(**SETTINGS[kind]),
            dtype=torch.float32,
        )
        model.save_pretrained(place)
        AutoTokenizer.from_pretrained(home / "full").save_pretrained(place)
    return place


def opened(home: Path, case: str) -> tuple[str, Callable[[], Any]]:
    """What to say to Meadowlark, and how transformers loads the same."""
    base, _, adapter = case.partition("+")
    if base in SETTINGS:
        place = quantised(home, base)
    elif base == "adapter":
        place, adapter = home / "full", "adapter"
    else:
        place = home / base

    def plain() -> Any:
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        return peft.PeftModel.from_pretrained(model, home / adapter) if adapter else model

    return f"hf:{place}+{home / adapter}" if adapter else f"hf:{place}", plain


def plain_answer(home: Path, model: Any) -> str:
    """The greedy answer by ``generate`` with the folder's own defaults, to the published prompt."""
    tokenizer = AutoTokenizer.from_pretrained(home / "full")
    text = TEMPLATES["alpaca"].render(messages(ASKED), bos="<s>", eos="</s>")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, pad_token_id=1
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("case", CASES)
def test_served_loaded_and_chatted_with_the_tokens_are_those_of_plain_transformers(
    home: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, plain = opened(home, case)
    expected = plain_answer(home, plain())
    assert len(expected) > MOST / 2
    if case != "full":
        assert expected != plain_answer(home, AutoModelForCausalLM.from_pretrained(home / "full"))

    ask = meadowlark.load(spec)
    assert ask(ASKED.instruction, ASKED.input, max_tokens=MOST) == expected.strip()
    streamed = ask(ASKED.instruction, ASKED.input, max_tokens=MOST, stream=True)
    assert "".join(streamed) == expected

    body = {
        "model": "it",
        "messages": [turn._asdict() for turn in messages(ASKED)],
        "max_tokens": MOST,
    }
    voice = local_voice(spec.removeprefix("hf:"), "it")
    if case in ("full", "merged", "adapter"):
        assert "alpaca (as recorded in" in voice.proof.sentence()
    with serving([voice]) as url:
        _, said, _ = call(f"{url}/v1/chat/completions", body, key="")
        assert said["choices"][0]["message"]["content"] == expected

    file = home / "talk.json"
    lines = f"/input {ASKED.input}\n{ASKED.instruction}\n/save {file}\n"
    one_line = ASKED.input.replace("\n", " ")
    monkeypatch.setattr("sys.stdin", io.StringIO(lines.replace(ASKED.input, one_line)))
    assert run(["chat", spec, "--max-tokens", str(MOST)]) == 0
    (saved,) = json.loads(file.read_text())
    by_load = ask(ASKED.instruction, one_line, max_tokens=MOST)
    assert saved["messages"][-1]["content"] == by_load
    assert "traceback" not in capsys.readouterr().err.lower()


@pytest.mark.parametrize("form", ["full", "merged"])
@pytest.mark.parametrize("kind", list(SETTINGS))
def test_a_package_held_in_few_bits_answers_as_transformers_has_it(
    home: Path, form: str, kind: Any
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    settings = BitsAndBytesConfig(**SETTINGS[kind])
    model = AutoModelForCausalLM.from_pretrained(
        home / form, quantization_config=settings, dtype=torch.float32
    )
    ask = meadowlark.load(f"hf:{home / form}", quantise=kind)
    found = ask(ASKED.instruction, ASKED.input, max_tokens=MOST)
    assert found == plain_answer(home, model).strip()


def test_an_answer_ends_at_every_token_that_the_package_says(home: Path, tmp_path: Path) -> None:
    """Another end token in the generation settings, as LLaMA 3 has two: both ends are one."""
    full = plain_answer(home, AutoModelForCausalLM.from_pretrained(home / "full"))
    tokenizer = AutoTokenizer.from_pretrained(home / "full")
    ids = tokenizer(full, add_special_tokens=False)["input_ids"]
    base = make_tiny_model(tmp_path / "base", width=64)
    settings = GenerationConfig.from_pretrained(base)
    settings.eos_token_id = [1, ids[5]]
    settings.save_pretrained(base)
    package(base, tmp_path / "packaged", dtype="float32")
    expected = plain_answer(home, AutoModelForCausalLM.from_pretrained(tmp_path / "packaged"))
    assert 0 < len(expected) < len(full)
    voice = local_voice(tmp_path / "packaged", "it")
    (reply,) = voice.model.generate([messages(ASKED)], Sampling(max_tokens=MOST))
    assert (reply.text, reply.finish) == (expected, "stop")
    asyncio.run(voice.close())


def test_a_packaged_adapter_without_its_base_says_what_to_give(home: Path) -> None:
    """No file of a package names a place on this machine, so it cannot find a base there."""
    with pytest.raises(UserError, match="names no base model; give hf:BASE"):
        meadowlark.load(f"hf:{home / 'adapter'}")
