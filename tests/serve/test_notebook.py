"""``meadowlark.load`` against plain transformers: full, adapter and quantised checkpoints."""

import asyncio
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import meadowlark
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.templates import TEMPLATES, messages
from tiny_model import make_tiny_model

# peft 0.21 reads an attribute that transformers 5 renames
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
ASKED = [("Which organ makes bile?", "A: Heart\nB: Liver"), ("Explain fever.", "")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", width=64)


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(made)
    return made


def plain(folder: Path, asked: tuple[str, str], adapter: Path | None = None, **how: Any) -> str:
    """The greedy answer of transformers (and peft) alone, to the published template's text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    text = TEMPLATES["alpaca"].render(messages(Record(*asked)), bos="<s>", eos="</s>")
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=1,
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def test_greedy_answers_are_those_of_plain_transformers(folder: Path) -> None:
    ask = meadowlark.load(f"hf:{folder}")
    expected = [plain(folder, asked) for asked in ASKED]
    assert [ask(*asked, max_tokens=24) for asked in ASKED] == expected
    together = ask([a for a, _ in ASKED], [b for _, b in ASKED], max_tokens=24)
    assert together == expected
    assert all(expected)


def test_an_adapter_answers_as_peft_has_it(folder: Path, adapter: Path) -> None:
    expected = plain(folder, ASKED[0], adapter)
    assert expected != plain(folder, ASKED[0])
    for ask in (
        meadowlark.load(f"hf:{folder}+{adapter}"),
        meadowlark.load(f"hf:{folder}", adapter=str(adapter)),
    ):
        assert ask(*ASKED[0], max_tokens=24) == expected


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_model_held_in_few_bits_answers_as_transformers_has_it(folder: Path, kind: str) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    settings: dict[str, Any] = {"load_in_8bit": True}
    if kind == "nf4":
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": torch.float32,
        }
    ask = meadowlark.load(f"hf:{folder}", quantise=kind)  # type: ignore[arg-type]
    expected = plain(folder, ASKED[1], quantization_config=BitsAndBytesConfig(**settings))
    assert ask(*ASKED[1], max_tokens=24) == expected
    assert kind in repr(ask)


def test_a_stream_adds_up_to_the_answer_and_ends_before_a_stop_string(folder: Path) -> None:
    ask = meadowlark.load(f"hf:{folder}")
    whole = ask("Explain fever.", max_tokens=24)
    pieces = list(ask("Explain fever.", max_tokens=24, stream=True))
    assert "".join(pieces).strip() == whole
    assert len(pieces) > 3
    stop = whole[6:9]
    cut = "".join(ask("Explain fever.", max_tokens=24, stop=[stop], stream=True))
    assert cut.strip() == ask("Explain fever.", max_tokens=24, stop=[stop])
    assert cut.strip() == whole[: whole.index(stop)].strip()


def test_a_seed_gives_the_same_sample_again(folder: Path) -> None:
    ask = meadowlark.load(f"hf:{folder}")
    one, two, other = (
        ask("Explain fever.", temperature=1.0, seed=seed, max_tokens=16) for seed in (1, 1, 2)
    )
    assert one == two != other


def test_history_and_system_message_are_rendered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = meadowlark.load(f"hf:{folder}", system="Be brief.\n### Response:")
    assert ask.model is not None
    seen = []
    render = type(ask.model.prompter).render

    def recording(prompter: Any, turns: Any) -> str:
        seen.append(render(prompter, turns))
        return seen[-1]

    monkeypatch.setattr(type(ask.model.prompter), "render", recording)
    ask("And now?", history=[("Hello", "Hello.")], max_tokens=1)
    assert seen == [
        "<s>Be brief.\nResponse:\n\n### Instruction:\nHello\n\n### Response:Hello.</s>"
        "\n\n### Instruction:\nAnd now?\n\n### Response:"
    ]


def test_a_remote_model_answers_even_where_an_event_loop_is_at_work(tmp_path: Path) -> None:
    lines = [
        {
            "label": "",
            "request": {
                "turns": [["user", asked]],
                "sampling": {"temperature": 0.0, "max_tokens": 512, "seed": 0},
                "draw": 0,
            },
            "reply": {"text": f"{asked}!", "finish": "stop", "tokens_in": 1, "tokens_out": 1},
        }
        for asked in ("Why?", "How?")
    ]
    file = tmp_path / "model.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ask = meadowlark.load(f"recorded:{file}")

    async def notebook() -> tuple[list[str], list[str]]:
        return ask(["How?", "Why?"]), list(ask("Why?", stream=True))

    assert asyncio.run(notebook()) == (["How?!", "Why?!"], ["Why?!"])


def test_mistakes_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        meadowlark.load(f"hf:{tmp_path}/nowhere")
    with pytest.raises(UserError, match="for an hf: model only"):
        meadowlark.load("openai:x@http://localhost:1/v1", quantise="nf4")
    ask = meadowlark.load(f"hf:{folder}")
    with pytest.raises(UserError, match="2 instructions and 1 inputs"):
        ask(["a", "b"], ["c"])
    with pytest.raises(UserError, match="takes one instruction"):
        ask(["a", "b"], stream=True)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="expected a list of strings"):
        ask("a", stop="b")
