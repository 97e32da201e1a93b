"""What ``check`` finds in data and tokenizers that are wrong, and passes where nothing is."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from meadowlark.config import parse
from meadowlark.dataset import write_table
from meadowlark.errors import UserError
from meadowlark.records import TEST_ONLY, Record, Turn, to_table
from meadowlark.templates import INPUT_MARKER, TEMPLATES
from meadowlark.train import check as stage
from meadowlark.train import examine, rehearse, verify
from meadowlark.train.check import CONTAMINATED, PAD, REJECTED, TEST_ONLY_ROWS, check, wanted_bos
from meadowlark.train.checked import Checked
from meadowlark.train.encode import NO_OUTPUT, SPECIAL, TURNS, Encoder, Example
from meadowlark.train.marked import marked, segments
from meadowlark.train.options import TrainOptions
from meadowlark.train.tokenizer import save_tokenizer

HISTORY = (
    Turn("system", "Answer briefly."),
    Turn("user", "What does the heart do?"),
    Turn("assistant", "It pumps."),
)
CHAT = Record("And the liver?", "Seen from below.", "The liver makes bile.", HISTORY)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faulty encodings of one test are no other's."""
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path) -> Path:
    """A base as far as ``check`` looks: configuration and tokenizer, no weights."""
    return save_base(tokenizer, tmp_path / "base")


def save_base(tokenizer: Any, folder: Path) -> Path:
    from transformers import LlamaConfig

    save_tokenizer(tokenizer, folder)
    LlamaConfig(num_attention_heads=8, num_key_value_heads=2).save_pretrained(folder)
    return folder


@pytest.fixture
def checked(base: Path, records: list[Record], tmp_path: Path) -> Callable[..., Checked]:
    """Checks rows (the 24 by default, 4 of them for validation) on the base."""

    def run(
        rows: list[Record] | None = None,
        validation: list[Record] | None = None,
        *,
        at: Path = base,
        run: dict[str, Any] | None = None,
        against: list[str] | None = None,
        examples: int = 3,
        added: list[str] | None = None,
        **data: Any,
    ) -> Checked:
        folder = tmp_path / "mixed"
        folder.mkdir(exist_ok=True)
        rows = records[:20] if rows is None else rows
        write_table(folder / "rows.parquet", to_table(rows, Record))
        validation = records[20:] if validation is None else validation
        write_table(folder / "validation.parquet", to_table(validation, Record))
        values = {
            "model": {"base": str(at), "added_tokens": added or []},
            "data": {"path": str(folder), **data},
            "optimiser": {"learning_rate": 1e-3},
            "run": run or {},
        }
        options = parse(values, TrainOptions, "test")
        return check(options, against=against or (), examples=examples)

    return run


def names(found: Checked) -> list[str]:
    return [fault.name for fault in found.faults]


def warned(found: Checked) -> list[str]:
    return [warning.name for warning in found.warnings]


def long_answer(words: int) -> Record:
    return Record("What is fever?", "Seen today, at 37.5 °C. " * 9, "Warm skin é. " * words)


@pytest.mark.parametrize("loss_on", ["response", "answers", "all"])
@pytest.mark.parametrize("too_long", ["reject", "cut_input", "split"])
def test_good_rows_pass_however_they_are_learned(
    checked: Callable[..., Checked], records: list[Record], loss_on: str, too_long: str
) -> None:
    cut = Record("What should I do?", "### Input: the cough\nwill not pass. " * 40, "Rest.")
    rows = [*records[:20], CHAT, cut, CHAT, CHAT, long_answer(30), long_answer(60)]
    found = checked(rows, loss_on=loss_on, too_long=too_long, max_length=230)
    assert found.faults == []
    counts = found.summary["rows"]["training"]
    changed = {"reject": "rejected", "cut_input": "cut", "split": "split"}[too_long]
    assert counts[changed]
    assert counts["read"] == 26


def test_rows_for_examining_models_are_a_fault(
    checked: Callable[..., Checked], records: list[Record]
) -> None:
    exam = replace(records[0], source="usmle", tags=TEST_ONLY, id="")
    found = checked([*records[:5], exam], [*records[20:], exam])
    (train, validation) = (f for f in found.faults if f.name == TEST_ONLY_ROWS)
    assert "1 row of usmle in mixed" in train.text
    assert "1 row of usmle in validation.parquet" in validation.text


def test_a_model_from_scratch_is_checked_with_the_tokenizer_it_will_learn(
    mixed: Path,
) -> None:
    values = {
        "model": {"from_scratch": {"width": 32, "heads": 2, "vocabulary": 420, "context": 512}},
        "data": {"path": str(mixed), "template": "alpaca"},
        "optimiser": {"learning_rate": 1e-3},
    }
    found = check(parse(values, TrainOptions, "test"))
    assert found.findings == []
    assert found.summary["tokenizer"]["begin"] == "<|begin|>"
    assert [s.kind for s in found.shown] == ["shortest", "median", "longest", "with earlier turns"]


def test_rows_that_would_be_left_out_are_faults_with_their_ids(
    checked: Callable[..., Checked], records: list[Record]
) -> None:
    silent, token = Record("What is fever?"), Record("What is <|end|>?", "", "A token.")
    twisted = Record("Again?", "", "Yes.", (Turn("assistant", "First."),))
    too_long = long_answer(400)
    found = checked([*records[:9], silent, token, twisted, too_long], [records[10], silent])
    by_name = {fault.name: [row for row, _ in fault.rows] for fault in found.faults}
    assert by_name == {
        f"{REJECTED}: {NO_OUTPUT}": [silent.id, silent.id],
        f"{REJECTED}: {SPECIAL}": [token.id],
        f"{REJECTED}: {TURNS}": [twisted.id],
    }
    assert warned(found) == ["max_length strikes often"]


def test_rows_of_which_none_is_short_enough_are_a_fault(checked: Callable[..., Checked]) -> None:
    found = checked([long_answer(400), long_answer(500)])
    assert [fault.name for fault in found.faults] == ["nothing to train on"]
    assert "all 2 rows would be left out" in found.faults[0].text


def test_unreadable_lines_are_faults_that_say_where(
    checked: Callable[..., Checked], records: list[Record], base: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    row = {"instruction": "What is fever?", "output": "Warm skin."}
    file.write_text(json.dumps(row) + "\nnot JSON\n")
    values = {
        "model": {"base": str(base)},
        "data": {"path": str(file)},
        "optimiser": {"learning_rate": 1},
    }
    found = check(parse(values, TrainOptions, "test"))
    assert names(found) == [f"{REJECTED}: not a JSON object"]
    assert found.faults[0].rows == (("", "row 2: not JSON"),)
    assert "no validation rows" in warned(found)


# ----------------------------------------------------------------------- tokens and templates


def adding_bos(tokenizer: Any) -> Any:
    """The tokenizer as LLaMA's: by itself it puts the begin token before a text."""
    from tokenizers.processors import TemplateProcessing

    made = copy.deepcopy(tokenizer)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", made.bos_token_id)]
    )
    return made


def test_the_rule_for_begin_tokens(tokenizer: Any, base: Path) -> None:
    without = copy.deepcopy(tokenizer)
    without.chat_template = TEMPLATES["alpaca"].chat_template().replace("{{- bos_token -}}", "")
    no_bos = copy.deepcopy(without)
    no_bos.bos_token = None
    assert wanted_bos(tokenizer, None) == 1
    assert wanted_bos(without, None) == 0
    assert wanted_bos(adding_bos(without), None) == 1
    assert wanted_bos(adding_bos(tokenizer), None) == 1
    assert wanted_bos(no_bos, None) is None
    assert wanted_bos(tokenizer, "medalpaca/medalpaca-7b") == 0
    assert wanted_bos(without, "xz97/AlpaCare-llama2-7b") == 1


def test_a_missing_a_doubled_and_an_unwanted_begin_token(
    checked: Callable[..., Checked], tokenizer: Any, tmp_path: Path
) -> None:
    written = TEMPLATES["alpaca"].chat_template()
    without, twice = adding_bos(tokenizer), copy.deepcopy(tokenizer)
    without.chat_template = written.replace("{{- bos_token -}}", "")
    twice.chat_template = "{{- bos_token -}}" + written
    for number, (faulty, name) in enumerate([(without, verify.NO_BOS), (twice, verify.TWO_BOS)]):
        found = checked(at=save_base(faulty, tmp_path / str(number)))
        assert names(found) == [name]
        assert len(found.faults[0].rows) == 24
    known = tmp_path / "medalpaca-7b"
    unwanted = checked(at=save_base(tokenizer, known), template="alpaca")
    assert names(unwanted) == [verify.UNWANTED_BOS]
    assert names(checked(at=known, template="medalpaca")) == []


def test_a_known_checkpoint_brings_its_template_and_rule(
    checked: Callable[..., Checked], tokenizer: Any, tmp_path: Path
) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    found = checked(at=save_base(bare, tmp_path / "medalpaca-13b"), examples=1)
    assert names(found) == []
    assert found.summary["tokenizer"]["begin_tokens_wanted"] == 0
    text = found.tokenizer.decode(found.shown[0].example.input_ids.tolist())
    assert text.startswith(TEMPLATES["medalpaca"].primer)


def test_what_does_not_fit_the_model_is_a_mistake(
    checked: Callable[..., Checked], tokenizer: Any, tmp_path: Path
) -> None:
    base = save_base(tokenizer, tmp_path / "base")
    with pytest.raises(UserError, match="above the model's context of 2048"):
        checked(at=base, max_length=4096)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(UserError, match="tokens, the model embeds 100"):
        checked(at=base)


def test_a_tokenizer_without_a_begin_token_passes(
    checked: Callable[..., Checked], tokenizer: Any, tmp_path: Path
) -> None:
    """As Qwen's, with a template that opens and closes turns by tokens of its own."""
    made = copy.deepcopy(tokenizer)
    made.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    made.bos_token, made.eos_token = None, "<|im_end|>"
    made.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    base = save_base(made, tmp_path / "qwen")
    for loss_on in ("response", "answers", "all"):
        found = checked([CHAT, Record("What?", "", "That.")], at=base, loss_on=loss_on)
        assert names(found) == []
    open_ended = copy.deepcopy(made)
    open_ended.eos_token = "<|end|>"
    found = checked(at=save_base(open_ended, tmp_path / "other-end"))
    assert names(found) == [verify.ANSWER]
    assert "<|im_end|>\\n<|end|>' where" in found.faults[0].rows[0][1]


def test_a_pad_token_that_is_the_end_token_is_told_with_what_to_do(
    checked: Callable[..., Checked], tmp_path: Path
) -> None:
    from tiny_model import make_tokenizer

    made = make_tokenizer()
    made.pad_token = made.eos_token
    found = checked(at=save_base(made, tmp_path / "padded"))
    assert names(found) == [PAD]
    assert "model.added_tokens" in found.faults[0].text
    assert found.faults[0].rows == ()
    cured = checked(at=tmp_path / "padded", added=["<|pad|>"])
    assert names(cured) == []
    assert cured.summary["tokenizer"]["pad"] == "<|pad|>"
    made.add_tokens(["<spare>"], special_tokens=True)
    spared = checked(at=save_base(made, tmp_path / "spared"))
    assert names(spared) == []
    assert spared.summary["tokenizer"]["pad"] == "<spare>"


def test_unknown_tokens_are_told_with_their_rate(
    checked: Callable[..., Checked], tokenizer: Any, tmp_path: Path
) -> None:
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    values["model"]["unk_token"] = "<|pad|>"
    del values["model"]["vocab"]["#"]  # of its alphabet: only the merges keep the templates' ###
    values["model"]["merges"] = [m for m in values["model"]["merges"] if "#" not in "".join(m)]
    values["model"]["vocab"] = {
        token: number for token, number in values["model"]["vocab"].items() if "#" not in token
    }
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(values)),
        bos_token="<|begin|>",
        eos_token="<|end|>",
        unk_token="<|pad|>",
    )
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    rows = [Record("How many?", "", "#3 of 9."), Record("How many?", "", "3 of 9.")]
    found = checked(rows, rows[1:], at=save_base(made, tmp_path / "unknown"))
    unknown = next(fault for fault in found.faults if fault.name == verify.UNKNOWN)
    assert [row for row, _ in unknown.rows] == [rows[0].id]
    assert unknown.rows[0][1].startswith("1 of ")
    assert found.summary["unknown_tokens"] == 1
    assert 0 < found.summary["unknown_share"] < 0.1
    assert verify.ANSWER in names(found)  # and it does not read back


def test_a_template_that_trims_answers_is_no_fault_and_counted(
    checked: Callable[..., Checked], records: list[Record], tokenizer: Any, tmp_path: Path
) -> None:
    made = copy.deepcopy(tokenizer)
    made.chat_template = made.chat_template.replace(
        "message['content'] + eos_token", "message['content'] | trim + eos_token"
    )
    rows = [replace(records[0], output=" As well as can be. \n", id=""), *records[1:5]]
    found = checked(rows, at=save_base(made, tmp_path / "trimming"))
    assert names(found) == []
    assert found.summary["answers_trimmed"] == 1


def test_what_may_be_meant_so_is_a_warning(
    checked: Callable[..., Checked], records: list[Record], tokenizer: Any, tmp_path: Path
) -> None:
    dated = copy.deepcopy(tokenizer)
    dated.chat_template = "{# strftime_now #}" + dated.chat_template
    wordy = [replace(r, instruction="Please, " * 40 + r.instruction, id="") for r in records[:9]]
    short = [replace(r, output="Yes.", id="") for r in wordy]
    again = replace(records[3], output=records[3].output.upper(), id="")
    assert warned(checked()) == []
    assert warned(checked(short)) == ["few tokens are learned"]
    assert warned(checked(wordy, loss_on="all")) == ["the loss is mostly on prompts"]
    assert warned(checked(validation=[])) == ["no validation rows"]
    assert warned(checked(template="medalpaca")) == ["the base has a chat template of its own"]
    assert warned(checked(at=save_base(dated, tmp_path / "d"))) == [
        "the chat template writes the date"
    ]
    other = replace(records[4], output="No.", id="")
    found = checked(validation=[again, other, records[20]])
    assert warned(found) == [
        "validation rows that are training rows",
        "validation rows that ask what a training row asks",
    ]
    assert [w.rows for w in found.warnings] == [((again.id, ""),), ((other.id, ""),)]
    assert names(found) == []


# ----------------------------------------------------------------------- evaluation questions


def test_planted_questions_are_found_with_the_rows_and_passages(
    checked: Callable[..., Checked], records: list[Record], tmp_path: Path
) -> None:
    from meadowlark import tasks

    questions, _ = tasks.load(tasks.resolve("demo_exam", None))
    first, second = questions[3], questions[7]
    lines = [f"({n}) {choice}" for n, choice in enumerate(reversed(first.choices))]
    planted = [
        Record("Choose.", "\n".join([first.prompt, *lines]), "The second."),
        Record(second.prompt, "", f"That is {second.choices[ord(second.target) - 65]}."),
    ]
    own = tmp_path / "ward.jsonl"
    own.write_text(json.dumps({"question": "What does the heart do?", "answer": ""}) + "\n")
    found = checked([*records[:5], *planted], against=["demo_exam", str(own)])
    assert {(c.row, c.question) for c in found.contamination if c.task == "demo_exam"} == {
        (planted[0].id, first.id),
        (planted[1].id, second.id),
    }
    assert names(found) == [f"{CONTAMINATED}: ward", f"{CONTAMINATED}: demo_exam"]
    assert found.contamination[-1].passage.split()[0] in second.prompt.lower()
    assert [(e["task"], e["questions"], e["found"]) for e in found.summary["exams"]] == [
        ("demo_exam", 80, 2),
        ("ward", 1, 1),
    ]
    assert names(checked(against=["demo_exam"])) == []


# ----------------------------------------------------------------------- many rows


@pytest.mark.parametrize(
    "processes", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two processes"]
)
def test_batches_and_processes_change_nothing(
    checked: Callable[..., Checked],
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    """Equal rows side by side and split rows across the borders of batches included."""
    bad = Record("What?", "", "A <|pad|> token.")
    monkeypatch.setattr("meadowlark.train.encode.special_tokens", lambda _: None)
    split = [long_answer(30), long_answer(30), long_answer(60)]
    rows = [*records[:7], *split, bad, records[8], records[8], *split[:1], CHAT, bad, *records[9:]]
    settings = {"too_long": "split", "max_length": 230, "loss_on": "answers"}
    whole = checked(rows, **settings, against=["demo_exam"])
    assert [row for row, _ in whole.faults[0].rows] == [bad.id] * 2
    monkeypatch.setattr(examine, "BATCH", 3)
    monkeypatch.setattr(examine, "ALONE", 0)
    again = checked(rows, **settings, against=["demo_exam"], workers=processes)
    assert again.as_json() == whole.as_json()


def test_rows_that_the_cache_holds_and_the_data_does_not_are_a_fault(
    checked: Callable[..., Checked], records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked(records[:20])
    monkeypatch.setattr("meadowlark.train.encoded.fingerprint", lambda path: "the same")
    checked(records[:20])
    assert examine.DISORDER in names(checked(records[5:20]))


# ----------------------------------------------------------------------- rows as they are shown


def test_marks_stand_around_what_is_learned_and_nothing_commands_the_terminal(
    tokenizer: Any,
) -> None:
    row = replace(CHAT, input="[bold]\x1b[2J ⟦37.5 °C⟧ \u202e", id="")
    (example,), _ = Encoder(tokenizer, max_length=512, loss_on="answers").encode([row])
    text = marked(example, tokenizer, "first row").plain
    assert text.count("⟦") == text.count("⟧") == 1 + 2
    assert f"⟦It pumps.{tokenizer.eos_token}⟧" in text
    assert text.endswith(f"⟦The liver makes bile.{tokenizer.eos_token}⟧")
    assert "[bold]\\x1b[2J [[37.5 °C]] \\u202e" in text
    assert "".join(part for part, _ in segments(example, tokenizer)) == tokenizer.decode(
        example.input_ids.tolist()
    )
    clipped = marked(example, tokenizer, "first row", most=40).plain
    assert "characters …]" in clipped
    assert f"⟦It pumps.{tokenizer.eos_token}⟧" in clipped


def test_of_a_long_conversation_the_middle_is_left_out(tokenizer: Any) -> None:
    history = tuple(
        turn for n in range(9) for turn in (Turn("user", f"Q{n}?"), Turn("assistant", f"A{n}."))
    )
    row = Record("And now?", "", "Rest.", history)
    (example,), _ = Encoder(tokenizer, max_length=512, loss_on="answers").encode([row])
    text = marked(example, tokenizer, "row", most=300).plain
    assert "[… 14 stretches …]" in text
    assert text.count("⟦") == 1 + 3
    assert "⟦A0." in text
    assert "⟦Rest." in text
    assert marked(example, tokenizer, "row").plain.count("⟦") == 1 + 10


def test_a_character_cut_by_a_border_stays_whole(tokenizer: Any) -> None:
    ids = tokenizer("37.5 °C é", add_special_tokens=False)["input_ids"]
    for start in range(1, len(ids)):
        import numpy as np

        example = Example("x", np.array(ids, dtype=np.int32), ((start, len(ids)),), 1)
        (before, learned), (after, told) = segments(example, tokenizer)
        assert (learned, told) == (False, True)
        assert before + after == "37.5 °C é"


# ----------------------------------------------------------------------- the rehearsal


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"num_attention_heads": 32, "num_key_value_heads": 8},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "smollm3": {},
    "opt": {},
    "phi3": {"sliding_window": None, "pad_token_id": 0},
    "olmo2": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_model_of_each_family_is_rehearsed_without_a_fault(
    family: str, tokenizer: Any, records: list[Record]
) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    examples, _ = Encoder(tokenizer, max_length=512, loss_on="answers").encode([CHAT, *records[:5]])
    assert rehearse.rehearse(config, examples, 512, packing=True) == []
    model = rehearse.tiny_model(config, 300)
    assert model.config.model_type == family
    assert sum(p.numel() for p in model.parameters()) < 500_000


def test_a_family_that_does_not_come_small_is_a_warning(
    checked: Callable[..., Checked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("head_dim must be 128")

    monkeypatch.setattr(rehearse, "tiny_model", fails)
    found = checked()
    assert names(found) == []
    assert warned(found) == ["the forward pass was not tried out"]


def test_saved_and_reloaded_means_loaded_from_a_folder(
    checked: Callable[..., Checked], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    class Watching:
        @staticmethod
        def from_pretrained(folder: Any, **options: Any) -> Any:
            loaded.append(sorted(p.name for p in Path(folder).iterdir()))
            return AutoTokenizer.from_pretrained(folder, **options)

    monkeypatch.setattr(stage, "AutoTokenizer", Watching)
    assert names(checked()) == []
    assert loaded == [["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]]
    assert INPUT_MARKER.strip() == "### Input:"
