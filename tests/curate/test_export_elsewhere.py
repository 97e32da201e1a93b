"""Exports as other tools take them: datasets and TRL load them, and the stanzas that LLaMA-Factory
and Axolotl document name what is in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meadowlark.cli import run as command
from meadowlark.curate.export import FORMATS, export, stanzas
from meadowlark.records import Record, Turn, to_json
from meadowlark.templates import TEMPLATES, messages

SYSTEM = Turn("system", "Be brief.")
EARLIER = (Turn("user", "I cough."), Turn("assistant", "Since when?"))
ROWS = [
    Record("Explain", "fever", "Heat.", source="s", licence="MIT"),
    Record("And then?", "", "Rest.", EARLIER, source="s", licence="MIT"),
    Record("Go on", 'A "µg" — ≥ 5', "Yes.", (SYSTEM, *EARLIER), source="s", licence="MIT"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(to_json(row)) + "\n" for row in ROWS))
    return file


@pytest.fixture
def loaded(data: Path, tmp_path: Path) -> Any:
    datasets = pytest.importorskip("datasets")

    def load(format: str, suffix: str = ".jsonl") -> list[dict[str, Any]]:
        out = tmp_path / f"{format}{suffix}"
        export(data, out, format)
        cache = str(tmp_path / "cache")
        found = datasets.load_dataset("json", data_files=str(out), cache_dir=cache, split="train")
        return list(found)

    return load


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_alpaca_loads_with_the_same_columns_in_every_row_oracle_datasets(
    loaded: Any, suffix: str
) -> None:
    rows = loaded("alpaca", suffix)
    assert [row["output"] for row in rows] == ["Heat.", "Rest.", "Yes."]
    assert [row["history"] for row in rows] == [[], *[[["I cough.", "Since when?"]]] * 2]
    assert [row["system"] for row in rows] == ["", "", "Be brief."]


def test_trl_renders_our_prompt_from_messages_oracle_trl(loaded: Any) -> None:
    """By the functions with which SFTTrainer prepares its rows. Of ShareGPT it takes the form but
    keeps the names human and gpt, which no template knows: messages is the layout for TRL."""
    data_utils = pytest.importorskip("trl.data_utils")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, "x")),
        bos_token="<s>",
        eos_token="</s>",
    )
    template = TEMPLATES["alpaca"]
    tokenizer.chat_template = template.chat_template()
    for record, chat, shared in zip(ROWS, loaded("messages"), loaded("sharegpt"), strict=True):
        assert data_utils.is_conversational({"messages": chat["messages"]})
        converted = data_utils.maybe_convert_to_chatml({"conversations": shared["conversations"]})
        names = {"system": "system", "human": "user", "gpt": "assistant"}
        renamed = [{**turn, "role": names[turn["role"]]} for turn in converted["messages"]]
        assert renamed == chat["messages"]
        assert [Turn(**turn) for turn in chat["messages"]] == messages(record, with_output=True)
        text = data_utils.apply_chat_template({"messages": chat["messages"]}, tokenizer)["text"]
        assert text.endswith(f"{record.output}</s>")
        assert text.startswith(
            "<s>" + ("Be brief." if record.history[:1] == (SYSTEM,) else "Below")
        )
        assert record.instruction in text
        assert record.input in text


@pytest.mark.parametrize("format", FORMATS)
def test_the_stanza_of_llama_factory_names_what_each_row_has(
    format: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.json"
    export(data, out, format)
    (entry,) = json.loads(stanzas(out, format)["LLaMA-Factory (dataset_info.json)"]).values()
    assert entry["file_name"] == "rows.json"
    for row, record in zip(json.loads(out.read_text(encoding="utf-8")), ROWS, strict=True):
        columns = entry["columns"]
        if format == "alpaca":
            assert row[columns["response"]] == record.output
            assert row[columns["prompt"]] == record.instruction
            assert {"system", "history"} <= columns.keys()
            continue
        tags, turns = entry["tags"], row[columns["messages"]]
        named = {tags[f"{role}_tag"]: role for role in ("user", "assistant", "system")}
        roles = [named[turn[tags["role_tag"]]] for turn in turns]
        assert roles == [turn.role for turn in record.history] + ["user", "assistant"]
        assert turns[-1][tags["content_tag"]] == record.output
        assert entry["formatting"] == "sharegpt"


@pytest.mark.parametrize("format", FORMATS)
def test_the_stanza_of_axolotl_names_what_each_row_has(
    format: str, data: Path, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    out = tmp_path / "rows.jsonl"
    export(data, out, format)
    (entry,) = yaml.safe_load(stanzas(out, format)["Axolotl"])["datasets"]
    assert (entry["path"], entry["ds_type"]) == (str(out), "json")
    if format == "alpaca":
        assert entry["type"] == "alpaca"
        return
    assert entry["type"] == "chat_template"
    mapping = entry["message_property_mappings"]
    named = {name: role for role, names in entry["roles"].items() for name in names}
    for line, record in zip(out.read_text(encoding="utf-8").splitlines(), ROWS, strict=True):
        turns = json.loads(line)[entry["field_messages"]]
        assert [named[turn[mapping["role"]]] for turn in turns][-2:] == ["user", "assistant"]
        assert turns[-1][mapping["content"]] == record.output


def test_the_verb_prints_the_stanzas_when_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(data), "--format", "messages", "--out", str(tmp_path / "a.jsonl")]
    assert command([*words, "--stanzas"]) == 0
    out = capsys.readouterr().out
    assert '"formatting": "sharegpt"' in out
    assert "type: chat_template" in out
    alpaca = ["export", str(data), "--format", "alpaca", "--out", str(tmp_path / "b.jsonl")]
    assert command([*alpaca, "--stanzas"]) == 0
    assert "reads no history" in capsys.readouterr().out
    assert command([*words, "--force"]) == 0
    assert "chat_template" not in capsys.readouterr().out
