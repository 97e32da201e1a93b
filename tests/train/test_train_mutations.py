"""Training broken on purpose, one part at a time: ``check``, or an assertion that the exact tests
make, fails each time with the fault's name, and passes when the part is whole again."""

import copy
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_proofs import (
    eight_passes_of_a_row_equal_one_of_eight_rows,
    options,
    packed_equals_transformers_on_single_rows,
    trains_as_a_loop_written_by_hand,
)
from transformers import AttentionInterface

from meadowlark.records import Record, Turn
from meadowlark.train import (
    attention,
    encode,
    encoded,
    loss,
    pack,
    prefix,
    rehearse,
    tokenizer,
    verify,
)
from meadowlark.train.check import check
from meadowlark.train.checked import Checked
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.trainer import PackedTrainer

CHAT = Record(
    "And the liver?",
    "",
    "The liver makes bile.",
    (Turn("user", "What does the heart do?"), Turn("assistant", "It pumps.")),
)


@pytest.fixture(autouse=True)
def _nothing_stays_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Faulty encodings go to a cache of the test's own; transformers forgets a faulty attention."""
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "cache"))
    yield
    AttentionInterface.register(attention.NAME, _attention)


def everywhere(patch: pytest.MonkeyPatch, original: Any, mutant: Any) -> None:
    """Put ``mutant`` in the place of ``original`` in every module that has imported it."""
    places = [
        (module, name)
        for title, module in list(sys.modules.items())
        if title.startswith("meadowlark.train") or title == "training_proofs"
        for name, value in list(vars(module).items())
        if value is original
    ]
    assert places
    for module, name in places:
        patch.setattr(module, name, mutant)


def edited(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """The function compiled again from its source with one place changed."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, (function, old)
    namespace: dict[str, Any] = {}
    code = compile(
        "from __future__ import annotations\n" + source.replace(old, new), "mutant", "exec"
    )
    exec(code, function.__globals__, namespace)
    mutant: Callable[..., Any] = namespace[function.__name__]
    return mutant


def faults(found: Checked) -> dict[str, int]:
    return {fault.name: len(fault.rows) for fault in found.faults}


def run_check(mixed: Path, **data: Any) -> Checked:
    return check(options(mixed, data=data), examples=0)


# --------------------------------------------------------------------------- masks and tokens


def changed(change: Callable[[Any, Example], Example]) -> Callable[[pytest.MonkeyPatch], None]:
    """A mutation of every example that the encoder makes, before it is cached."""

    def mutate(patch: pytest.MonkeyPatch) -> None:
        whole = Encoder.encode

        def mutant(self: Encoder, records: Sequence[Record]) -> Any:
            examples, rejected = whole(self, records)
            return [change(self.tokenizer, example) for example in examples], rejected

        patch.setattr(Encoder, "encode", mutant)

    return mutate


def with_spans(move: Callable[[Example], list[tuple[int, int]]]) -> Any:
    return changed(lambda _, e: dataclasses.replace(e, spans=tuple(move(e))))


def _with_ids(example: Example, ids: list[int], shift: int) -> Example:
    spans = tuple((a + shift, b + shift) for a, b in example.spans)
    return dataclasses.replace(example, input_ids=np.array(ids, dtype=np.int32), spans=spans)


def _doubled(tokens: Any, example: Example) -> Example:
    return _with_ids(example, [tokens.bos_token_id, *example.input_ids.tolist()], 1)


def _beheaded(tokens: Any, example: Example) -> Example:
    return _with_ids(example, example.input_ids.tolist()[1:], -1)


def _endless(tokens: Any, example: Example) -> Example:
    *before, (start, stop) = example.spans
    spans = (*before, (start, stop - 1))
    return dataclasses.replace(example, input_ids=example.input_ids[:-1], spans=spans)


def _pad_masked(tokens: Any, example: Example) -> Example:
    """What a collator does that masks padding where pad = end token."""
    learned = [p for p in example.positions() if example.input_ids[p] != tokens.eos_token_id]
    spans: list[tuple[int, int]] = []
    for p in map(int, learned):
        if spans and spans[-1][1] == p:
            spans[-1] = (spans[-1][0], p + 1)
        else:
            spans.append((p, p + 1))
    return dataclasses.replace(example, spans=tuple(spans))


MASKS = {
    "the mask begins a token early": (
        with_spans(lambda e: [(a - 1, b) for a, b in e.spans]),
        verify.MASK,
    ),
    "the mask begins a token late": (
        with_spans(lambda e: [(a + 1, b) for a, b in e.spans]),
        verify.MASK,
    ),
    "the mask ends a token early": (
        with_spans(lambda e: [(a, b - 1) for a, b in e.spans]),
        verify.END,
    ),
    "everything is learned": (with_spans(lambda e: [(1, len(e.input_ids))]), verify.MASK),
    "nothing is learned": (with_spans(lambda e: []), verify.NOTHING),
    "the end token is dropped": (changed(_endless), verify.END),
    "the end token is masked as padding": (changed(_pad_masked), verify.END),
    "the begin token is doubled": (changed(_doubled), verify.TWO_BOS),
    "the begin token is dropped": (changed(_beheaded), verify.NO_BOS),
    "a row is longer than it may be": (
        lambda patch: patch.setattr(Encoder, "_too_long", lambda self, record, example: [example]),
        verify.TOO_MANY,
    ),
}


@pytest.fixture
def rows(mixed: Path, records: list[Record]) -> Path:
    """The mixed folder with a conversation among its training rows."""
    from meadowlark.dataset import write_table
    from meadowlark.records import to_table

    write_table(mixed / "rows.parquet", to_table([CHAT, *records[:20]], Record))
    return mixed


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("loss_on", ["response", "answers"])
def test_a_broken_mask_or_token_is_named(
    name: str, loss_on: str, rows: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    length = 160 if "longer" in name else 512
    if length == 512:
        assert faults(run_check(rows, loss_on=loss_on)) == {}
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "faulty"))
    mutate, fault = MASKS[name]
    mutate(monkeypatch)
    found = faults(run_check(rows, loss_on=loss_on, max_length=length))
    assert fault in found
    if length == 512:
        assert found[fault] == 25, "every row, those for validation too"


def test_answers_learned_without_the_end_of_the_earlier_ones_are_named(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened = with_spans(lambda e: [*((a, b - 1) for a, b in e.spans[:-1]), *e.spans[-1:]])
    shortened(monkeypatch)
    found = run_check(rows, loss_on="answers")
    assert faults(found) == {verify.END: 2}
    assert CHAT.id in dict(found.faults[0].rows)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "start = learned - context if pieces else prompt",
            "start = learned if pieces else prompt",
            None,
        ),
        (
            "ids[start:end]",
            "ids[prompt : prompt + learned - start], ids[learned:end]",
            verify.PIECES,
        ),
        ("learned = end\n", "learned = end + 1\n", verify.ANSWER),
        ("ids[:prompt], ids[start:end]", "ids[1:prompt], ids[start:end]", verify.PIECES),
    ],
    ids=["without context (allowed)", "behind the wrong context", "a token lost", "no prompt"],
)
def test_a_wrong_split_is_named(
    old: str, new: str, fault: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadowlark.dataset import write_table
    from meadowlark.records import to_table

    data = tmp_path / "rows.parquet"
    long = [Record("What is fever?", "", f"Warm skin, {n} days of it. " * 24) for n in range(9)]
    write_table(data, to_table(long, Record))
    asked = {"max_length": 170, "too_long": "split"}
    whole = run_check(data, **asked)
    assert (faults(whole), whole.summary["rows"]["training"]["split"]) == ({}, 9)
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "faulty"))
    monkeypatch.setattr(Encoder, "_pieces", edited(Encoder._pieces, old, new))
    found = faults(run_check(data, **asked))
    assert found == {} if fault is None else fault in found


def test_a_response_cut_at_the_end_is_named(
    rows: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a trainer does that truncates rows at max_length."""

    def truncated(self: Encoder, record: Record, example: Example) -> list[Example]:
        n = self.max_length
        spans = tuple((a, min(b, n)) for a, b in example.spans if a < n)
        return [dataclasses.replace(example, input_ids=example.input_ids[:n], spans=spans)]

    monkeypatch.setattr(Encoder, "_too_long", truncated)
    found = faults(run_check(rows, max_length=150))
    assert found[verify.END] > 1


def test_special_tokens_in_texts_are_named_when_the_encoder_lets_them_pass(
    mixed: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadowlark.dataset import write_table
    from meadowlark.records import to_table

    bad = [Record("Say <|end|> now.", "", "Now."), Record("Say it.", "", "It is <|begin|>.")]
    write_table(mixed / "rows.parquet", to_table([*records[:9], *bad], Record))
    everywhere(monkeypatch, encode.special_tokens, lambda _: None)
    found = run_check(mixed)
    by_name = {fault.name: [row for row, _ in fault.rows] for fault in found.faults}
    assert by_name[verify.SPECIAL] == [bad[0].id, bad[1].id]


# --------------------------------------------------------------------------- serving


def _saved_otherwise(change: Callable[[Any], None]) -> Callable[..., None]:
    def mutant(tokens: Any, folder: Path) -> None:
        other = copy.deepcopy(tokens)
        change(other)
        original(other, folder)

    original = tokenizer.save_tokenizer
    return mutant


def _template(old: str, new: str) -> Callable[[Any], None]:
    def change(tokens: Any) -> None:
        assert old in tokens.chat_template
        tokens.chat_template = tokens.chat_template.replace(old, new)

    return change


def _digits_together(tokens: Any) -> None:
    """A tokenizer of another version, with other tokens for the same text."""
    from tokenizers import pre_tokenizers

    tokens.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=True, use_regex=True
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_template("### Response:", "### Response:\\n"), verify.PROMPT),
        (_template("{{- bos_token -}}", ""), verify.PROMPT),
        (
            _template("message['content'] + eos_token", "message['content'] + '<|pad|>'"),
            verify.ANSWER,
        ),
        (_template("messages must alternate user and assistant", "no"), None),
        (_digits_together, verify.PROMPT),
    ],
    ids=["a line break more", "no begin token", "another end", "only a message's words", "tokens"],
)
def test_a_template_or_tokenizer_that_is_served_otherwise_is_named(
    change: Any, fault: str | None, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(run_check(rows)) == {}
    # The new tokenizer is saved once to be loaded, then once more as what is served.
    saves: list[Path] = []
    original, mutant = tokenizer.save_tokenizer, _saved_otherwise(change)

    def second(tokens: Any, folder: Path) -> None:
        saves.append(folder)
        (mutant if len(saves) == 2 else original)(tokens, folder)

    everywhere(monkeypatch, tokenizer.save_tokenizer, second)
    found = faults(run_check(rows))
    if fault is None:
        assert found == {}
    else:
        assert found[fault] == 25


def test_an_encoding_cached_for_another_template_is_named(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "_identity", lambda _: "any")
    assert faults(run_check(rows, template="alpaca")) == {}
    assert faults(run_check(rows, template="medalpaca"))[verify.PROMPT] == 25


# --------------------------------------------------------------------------- the forward pass


def _causal_over_all(*arguments: Any, samples: Any = None, **named: Any) -> Any:
    """Attention that does not know where one sample ends and the next begins."""
    if samples is not None:
        total = sum(samples.lengths)
        ends = torch.tensor([0, total], dtype=torch.int32)
        samples = dataclasses.replace(samples, lengths=[total], cumulative=ends, longest=total)
    return _attention(*arguments, samples=samples, **named)


_attention = attention.packed_attention
_common_parts = prefix.common_parts

PASSES: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "positions run on": (
        pack.lay_out,
        edited(
            pack.lay_out,
            "np.concatenate([np.arange(length) for length in lengths])",
            "np.arange(len(tokens))",
        ),
        rehearse.LAYOUT,
    ),
    "a token too far is predicted": (
        pack.lay_out,
        edited(pack.lay_out, "on(supervised - 1)", "on(supervised)"),
        rehearse.LAYOUT,
    ),
    "targets of the first sample only": (
        pack.lay_out,
        edited(pack.lay_out, "end - length + example", "0 * end + example"),
        rehearse.LAYOUT,
    ),
    "more is shared than is alike": (
        prefix.common_parts,
        lambda rows: [(group, start, stop + 1) for group, start, stop in _common_parts(rows)],
        rehearse.LAYOUT,
    ),
    "one sample instead of many": (attention.packed_attention, _causal_over_all, rehearse.LEAK),
    "the loss of the token itself": (
        loss.summed_loss,
        lambda model, batch: _summed(
            model, dataclasses.replace(batch, targets=batch.input_ids[0, batch.predicting])
        ),
        rehearse.SHIFT,
    ),
    "the mean for the sum": (
        loss.summed_loss,
        lambda model, batch: _summed(model, batch) / len(batch.targets),
        rehearse.SHIFT,
    ),
}
_summed = loss.summed_loss


@pytest.mark.parametrize("name", PASSES)
def test_a_broken_forward_pass_is_named(
    name: str, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(run_check(rows)) == {}
    original, mutant, fault = PASSES[name]
    everywhere(monkeypatch, original, mutant)
    assert list(faults(run_check(rows))) == [fault]


def test_the_exact_test_of_packing_sees_a_leak_too(
    model: Any, tokenizer: Any, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, _ = Encoder(tokenizer, max_length=512).encode(records)
    broken = copy.deepcopy(model)
    packed_equals_transformers_on_single_rows(model, examples)
    everywhere(monkeypatch, attention.packed_attention, _causal_over_all)
    attention.use_packed_attention(broken, 512)
    with pytest.raises(AssertionError, match="not close"):
        packed_equals_transformers_on_single_rows(broken, examples)


# --------------------------------------------------------------------------- the normaliser

NORMALISERS = {
    "the mean of each pass's mean": (
        "(counts / supervised)",
        "(counts / sum(at[row].supervised for row in chosen) / len(passes))",
    ),
    "divided by all tokens": (
        "supervised = sum(example.supervised for example in rows)",
        "supervised = sum(len(example.input_ids) for example in rows)",
    ),
    "divided by the last pass's": (
        "(counts / supervised)",
        "(counts / sum(at[row].supervised for row in passes[-1][0]))",
    ),
    "divided by rows": (
        "supervised = sum(example.supervised for example in rows)",
        "supervised = len(rows)",
    ),
}


@pytest.mark.parametrize("name", NORMALISERS)
def test_a_wrong_normaliser_fails_the_exact_tests_of_training(
    name: str, mixed: Path, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``check`` runs no optimiser step: these are the assertions of test_train_run.py, which pass
    there on the trainer as it is."""
    mutant = edited(PackedTrainer.training_step, *NORMALISERS[name])
    monkeypatch.setattr(PackedTrainer, "training_step", mutant)
    failed = []
    for prove, arguments in (
        (trains_as_a_loop_written_by_hand, (mixed, records, tmp_path / "loop")),
        (eight_passes_of_a_row_equal_one_of_eight_rows, (mixed, tmp_path, monkeypatch)),
    ):
        try:
            prove(*arguments)
        except AssertionError:
            failed.append(prove.__name__)
    assert failed
