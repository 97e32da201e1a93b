"""Records and their Arrow form."""

import hashlib
import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.records import (
    SCHEMAS,
    Answer,
    Question,
    Record,
    Rejected,
    Turn,
    Verdict,
    from_dict,
    from_table,
    record_id,
    rejected_schema,
    rejected_table,
    to_json,
    to_table,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
turns = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), text), max_size=3)
records = st.builds(
    Record,
    instruction=text,
    input=text,
    output=text,
    history=turns.map(tuple),
    source=text,
    licence=text,
    tags=st.dictionaries(text, text, max_size=3),
    parents=st.lists(text, max_size=2).map(tuple),
)


@given(st.lists(records, max_size=4))
def test_records_survive_arrow(rows: list[Record]) -> None:
    table = to_table(rows, Record)
    assert table.schema == SCHEMAS[Record]
    assert from_table(table, Record) == rows


@given(records)
def test_a_record_survives_json(row: Record) -> None:
    assert from_dict(to_json(row), Record) == row


def test_other_nouns_survive_arrow() -> None:
    question = Question("q1", "medqa", "What?", ("x", "y"), "B", "renal")
    answer = Answer("q1", "m", 2, "B", "B", (-1.5, -0.5), "ok")
    verdict = Verdict("q1", "overall", "m", "n", "b", "tie", "judge:overlap", None, "", "raw")
    for row in (question, answer, verdict):
        assert from_table(to_table([row], type(row)), type(row)) == [row]


def test_the_id_is_the_content_and_nothing_else() -> None:
    plain = Record("Explain fever", "to a child", "It is heat.")
    assert plain.id == Record("Explain fever", "to a child", "It is heat.", source="x").id
    assert plain.id == record_id((), "Explain fever", "to a child", "It is heat.")
    moved = Record("Explain fever", "to a child It is heat.", "")
    assert plain.id != moved.id
    assert len(plain.id) == 20


@given(*[st.text(st.characters(exclude_categories=()), max_size=40)] * 4)
def test_the_id_is_the_hash_of_the_text_as_pythons_own_json(
    said: str, instruction: str, input: str, output: str
) -> None:
    history = (Turn("user", said),)
    parts = [[list(turn) for turn in history], instruction, input, output]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    expected = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    assert record_id(history, instruction, input, output) == expected


def test_the_id_escapes_every_character_as_pythons_own_json() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    text = json.dumps([[], every, "", ""], ensure_ascii=False, separators=(",", ":"))
    assert record_id((), every, "", "") == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_an_added_response_changes_the_id_and_keeps_the_lineage() -> None:
    task = Record("Explain fever", tags={"type": "open Q&A"})
    answered = task.evolve(output="It is heat.")
    assert answered.id != task.id
    assert answered.parents == (task.id,)
    assert answered.tags == task.tags
    assert task.evolve(source="other").parents == ()


def test_rejected_rows_keep_their_columns_reason_and_detail() -> None:
    row = Record("Explain fever")
    table = rejected_table([Rejected(row, "duplicate", "of abc")], Record)
    assert table.schema == rejected_schema(Record)
    assert table.column("reason").to_pylist() == ["duplicate"]
    assert from_table(table, Record) == [row]
    assert isinstance(table, pa.Table)
