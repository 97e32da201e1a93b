"""What is learned and what is context, token for token."""

import base64
import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.records import Record, Turn
from meadowlark.templates import TEMPLATES, messages
from meadowlark.train.encode import (
    NO_OUTPUT,
    REWRITTEN,
    SPECIAL,
    TOO_LONG,
    TURNS,
    UNCLOSED,
    Encoder,
)


def encode(tokenizer: Any, *rows: Record, **options: Any) -> tuple[list[Any], list[Any]]:
    return Encoder(tokenizer, **{"max_length": 512, **options}).encode(rows)


def test_ids_are_those_of_the_chat_template_with_the_answer(
    tokenizer: Any, records: list[Record]
) -> None:
    examples, rejected = encode(tokenizer, *records)
    assert not rejected
    for record, example in zip(records, examples, strict=True):
        turns = [turn._asdict() for turn in messages(record, with_output=True)]
        whole = tokenizer.apply_chat_template(turns)["input_ids"]
        prompt = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True)["input_ids"]
        assert example.input_ids.tolist() == whole
        assert whole[: example.first_supervised] == prompt
        assert whole.count(tokenizer.bos_token_id) == 1
        assert whole[0] == tokenizer.bos_token_id
        assert whole[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id


def test_the_answer_and_its_end_are_learned_and_nothing_else(
    tokenizer: Any, records: list[Record]
) -> None:
    for record, example in zip(records, encode(tokenizer, *records)[0], strict=True):
        ids = example.input_ids.tolist()
        learned = tokenizer.decode(ids[example.first_supervised :])
        assert learned == record.output + tokenizer.eos_token
        assert example.supervised == len(ids) - example.first_supervised
        assert example.response_bytes == len(record.output.encode())


def test_earlier_turns_are_context_and_each_answer_in_them_is_closed(
    tokenizer: Any, records: list[Record]
) -> None:
    (example,), _ = encode(tokenizer, records[5])
    prompt = tokenizer.decode(example.input_ids[: example.first_supervised].tolist())
    assert prompt == TEMPLATES["alpaca"].render(
        messages(records[5]), bos=tokenizer.bos_token, eos=tokenizer.eos_token
    )
    assert "How can I help?" + tokenizer.eos_token in prompt


def test_loss_on_all_learns_every_token_but_the_first(
    tokenizer: Any, records: list[Record]
) -> None:
    (example,), _ = encode(tokenizer, records[0], loss_on="all")
    assert example.supervised == len(example.input_ids) - 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Record("What is fever?", output=" \n"), NO_OUTPUT),
        (Record("What is <|end|>?", output="A token."), SPECIAL),
        (Record("What is fever?", output="Warm.<|begin|>"), SPECIAL),
        (Record("Again?", output="Yes.", history=(Turn("assistant", "First."),)), TURNS),
        (Record("What is fever?", output="Warm skin. " * 300), TOO_LONG),
    ],
)
def test_rows_that_cannot_be_used_are_rejected_with_the_reason(
    tokenizer: Any, row: Record, reason: str
) -> None:
    kept = Record("What is fever?", output="A high temperature.")
    examples, rejected = encode(tokenizer, row, kept)
    assert [example.id for example in examples] == [kept.id]
    assert [(r.row, r.reason) for r in rejected] == [(row, reason)]


def test_cutting_shortens_the_input_and_never_the_response(tokenizer: Any) -> None:
    answer = "See a doctor within the week."
    row = Record("What should I do?", "The cough will not pass. " * 200, answer)
    encoder = Encoder(tokenizer, max_length=200, too_long="cut_input")
    (example,), rejected = encoder.encode([row])
    ids = example.input_ids.tolist()
    text = tokenizer.decode(ids)
    assert not rejected
    assert encoder.cut == 1
    assert 185 < len(ids) <= 200
    assert text.endswith(answer + tokenizer.eos_token)
    assert "The cough will not pass. The cough" in text
    assert tokenizer.decode(ids[example.first_supervised :]) == answer + tokenizer.eos_token


def test_a_response_that_leaves_no_room_is_rejected_even_when_inputs_may_be_cut(
    tokenizer: Any,
) -> None:
    row = Record("What should I do?", "It hurts.", "Wait and see. " * 100)
    examples, rejected = encode(tokenizer, row, max_length=200, too_long="cut_input")
    assert not examples
    assert rejected[0].reason == TOO_LONG


CHAT = Record(
    "And the liver?",
    "Seen from below.",
    "The liver makes bile.",
    (
        Turn("system", "Answer briefly."),
        Turn("user", "What does the heart do?"),
        Turn("assistant", "It pumps."),
        Turn("user", "Why?"),
        Turn("assistant", "To move blood."),
    ),
)


def test_every_answer_of_a_conversation_can_be_learned_each_with_its_end(tokenizer: Any) -> None:
    (example,), _ = encode(tokenizer, CHAT, loss_on="answers")
    (last,), _ = encode(tokenizer, CHAT)
    assert example.input_ids.tolist() == last.input_ids.tolist()
    learned = [tokenizer.decode(example.input_ids[a:b].tolist()) for a, b in example.spans]
    end = tokenizer.eos_token
    answers = ["It pumps.", "To move blood.", "The liver makes bile."]
    assert learned == [answer + end for answer in answers]
    assert example.spans[-1:] == last.spans
    assert example.response_bytes == sum(map(len, answers))
    assert example.positions().tolist() == [p for a, b in example.spans for p in range(a, b)]


def test_a_template_that_hides_or_never_ends_earlier_answers_is_refused_for_them(
    tokenizer: Any,
) -> None:
    hiding, open_ended = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    hiding.chat_template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% if m.role == 'user' or loop.last %}{{ m.content }}{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    open_ended.chat_template = hiding.chat_template.replace(
        "{% if m.role == 'user' or loop.last %}", "{% if true %}"
    )
    for tokens, reason in ((hiding, UNCLOSED), (open_ended, UNCLOSED)):
        _, (bad,) = encode(tokens, CHAT, loss_on="answers")
        assert bad.reason == reason
        assert len(encode(tokens, CHAT)[0]) == 1
    rewriting = copy.deepcopy(tokenizer)
    rewriting.chat_template = "{{ messages | length }}" + tokenizer.chat_template
    _, (bad,) = encode(rewriting, CHAT, loss_on="answers")
    assert bad.reason == REWRITTEN


@pytest.mark.parametrize("loss_on", ["response", "all", "answers"])
def test_a_split_response_is_learned_in_pieces_each_token_once(
    tokenizer: Any, loss_on: str
) -> None:
    row = replace(CHAT, output="First wash your hands, then wait: é 37.5 °C. " * 30, id="")
    short = Record("What is fever?", output="A high temperature.")
    (whole, _), _ = encode(tokenizer, row, short, loss_on=loss_on, max_length=9999)
    encoder = Encoder(tokenizer, max_length=300, too_long="split", loss_on=loss_on)  # type: ignore[arg-type]
    pieces, rejected = encoder.encode([row, short])
    assert not rejected
    assert encoder.split == 1
    *pieces, last = pieces
    assert last.id == short.id
    assert len(pieces) > 3
    assert all(piece.id == row.id and len(piece.input_ids) <= 300 for piece in pieces)
    learned = [token for p in pieces for token in p.input_ids[p.positions()].tolist()]
    assert learned == whole.input_ids[whole.positions()].tolist()
    assert sum(piece.response_bytes for piece in pieces) == whole.response_bytes
    (turns,), _ = encode(tokenizer, row, max_length=9999)
    prompt = turns.input_ids[: turns.first_supervised].tolist()
    for before, piece in itertools.pairwise(pieces):
        ids, first = piece.input_ids.tolist(), piece.first_supervised
        assert ids[: len(prompt)] == prompt
        context = ids[len(prompt) : first]
        assert len(context) == (300 - len(prompt)) // 4
        assert before.input_ids.tolist()[-len(context) :] == context
    ends = [piece.input_ids[-1] == tokenizer.eos_token_id for piece in pieces]
    assert ends == [False] * (len(pieces) - 1) + [True]


def test_a_prompt_that_leaves_no_room_cannot_be_split(tokenizer: Any) -> None:
    row = Record("What should I do? " * 60, output="Wait and see. " * 60)
    examples, rejected = encode(tokenizer, row, max_length=120, too_long="split")
    assert not examples
    assert (rejected[0].reason, "leaves no room" in rejected[0].detail) == (TOO_LONG, True)


def test_a_token_across_the_prompts_end_is_never_learned() -> None:
    """A BPE that merges ``:`` with what follows: the prompt stays what a server sends."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<e>", *alphabet, ":("])}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "(")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    merging = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<e>", eos_token="<e>")
    merging.chat_template = TEMPLATES["alpaca"].chat_template()
    row = Record("Is it sad?", output="(yes)")
    text = TEMPLATES["alpaca"].render(messages(row), bos="<e>")
    assert vocabulary[":("] in merging(text + row.output)["input_ids"]
    (example,), _ = encode(merging, row)
    ids = example.input_ids.tolist()
    assert ids[: example.first_supervised] == merging(text)["input_ids"]
    assert merging.decode(ids[example.first_supervised :]) == "(yes)<e>"


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(UserError, match="chat template"):
        Encoder(bare, max_length=512)


@pytest.fixture(scope="session")
def llama2(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real LLaMA-2 tokenizer, from its SentencePiece file alone."""
    from meadowlark.train.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("llama2")
    model = real_data / "tokenizers" / "llama2_tokenizer.model"
    (folder / "tokenizer.model").write_bytes(model.read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return load_tokenizer(folder, "alpaca")


@pytest.fixture(scope="session")
def llama3(real_data: Path) -> Any:
    """LLaMA-3's tokenizer, from its published ranks."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Read(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(path: str) -> dict[bytes, int]:
            lines = (line.split() for line in Path(path).read_bytes().splitlines())
            return {base64.b64decode(token): int(rank) for token, rank in lines}

    ends = ["<|begin_of_text|>", "<|end_of_text|>"]
    path = str(real_data / "tokenizers" / "llama3_tokenizer.model")
    made = PreTrainedTokenizerFast(
        tokenizer_object=Read(path, extra_special_tokens=ends).converted(),
        bos_token=ends[0],
        eos_token=ends[1],
    )
    made.chat_template = TEMPLATES["alpaca"].chat_template()
    return made


class AsTransformersDoes(Encoder):
    """Rendered by Jinja, tokenised by the tokenizer's own call."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._compiled = None

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def encodes_as_transformers_does(tokenizer: Any, rows: Sequence[Record]) -> None:
    for name, template in TEMPLATES.items():
        tokens = copy.deepcopy(tokenizer)
        tokens.chat_template = template.chat_template()
        quick = Encoder(tokens, max_length=300, too_long="cut_input")
        plain = AsTransformersDoes(tokens, max_length=300, too_long="cut_input")
        assert quick._compiled is not None
        assert quick._compiled.name == name
        (ours, our_rejected), (theirs, their_rejected) = quick.encode(rows), plain.encode(rows)
        assert ours
        assert our_rejected == their_rejected
        for one, other in zip(ours, theirs, strict=True):
            assert one.input_ids.tolist() == other.input_ids.tolist()
            assert (one.id, one.spans, one.response_bytes) == (
                other.id,
                other.spans,
                other.response_bytes,
            )


ODD = [
    Record("", "only an input", "Yes."),
    Record("Mind ### Response:\n### Input:\nthis?", "\n### Instruction:\nor that", " so\n\n"),
    Record("{{ bos_token }} {% raw %}", "", "\u0301é中文🙂\r\n\t\x00"),
    Record("What?\n\n### Input:\n", "", ":)"),
    CHAT,
]


def test_quick_encoding_equals_transformers_own_calls(
    tokenizer: Any, records: list[Record]
) -> None:
    encodes_as_transformers_does(tokenizer, [*records, *ODD])


@pytest.mark.parametrize("name", ["llama2", "llama3"])
def test_quick_encoding_of_real_rows_equals_transformers_own_calls(
    name: str, real_data: Path, request: pytest.FixtureRequest
) -> None:
    path = real_data / "meadow" / "wikidoc_patient_information" / "medical_meadow_small.json"
    rows, _ = read(path, Record)
    encodes_as_transformers_does(request.getfixturevalue(name), [*rows[::40], *ODD])


@pytest.mark.slow
def test_llama_2_counts_the_published_tokens_of_the_small_set(llama2: Any, real_data: Path) -> None:
    """PAPERS.md, section 2: 1,112,946 tokens, mean 187, 1,033 rows above 256."""
    path = real_data / "meadow" / "wikidoc_patient_information" / "medical_meadow_small.json"
    rows, _ = read(path, Record)
    examples, rejected = encode(llama2, *rows, max_length=100_000)
    assert not rejected
    # The published count is of the text alone: each of our rows also has a BOS and an end token.
    lengths = np.array([len(example.input_ids) for example in examples]) - 2
    assert (len(rows), lengths.sum(), (lengths > 256).sum()) == (5942, 1_112_946, 1033)
    assert round(lengths.mean()) == 187
    assert llama2.pad_token == "<unk>"
    for row, example in list(zip(rows, examples, strict=True))[:200]:
        ids = example.input_ids.tolist()
        assert ids[0] == llama2.bos_token_id
        assert llama2.decode(ids) == llama2.bos_token + TEMPLATES["alpaca"].render(
            messages(row, with_output=True), eos=llama2.eos_token
        )


def test_encoding_keeps_ids_when_an_input_is_cut(tokenizer: Any) -> None:
    row = replace(Record("What now?", "The cough stays. " * 99, "Rest."), source="here")
    (example,), _ = encode(tokenizer, row, max_length=150, too_long="cut_input")
    assert example.id == row.id
