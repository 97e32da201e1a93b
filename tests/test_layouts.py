"""Files as they really come: from spreadsheets, other tools' parquet, cut downloads, odd encodings.

A row that cannot be read is rejected with a reason, and none is bent in silence.
"""

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.curate.filter import filter_records
from meadowlark.dataset import read, read_batches, rows_only_for_tests
from meadowlark.errors import UserError
from meadowlark.layouts import parse_json, parse_row
from meadowlark.records import (
    SCHEMAS,
    Answer,
    Grade,
    Question,
    Record,
    Rejected,
    from_table,
    rejected_table,
    to_table,
)

GOOD = '{"instruction": "fine"}\n'


def file_of(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet_of(tmp_path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), tmp_path / "given.parquet")
    return tmp_path / "given.parquet"


def read_all(path: Path) -> tuple[list[Record], list[Rejected]]:
    return read(path, Record)


# --------------------------------------------------------------------------- JSON


def test_half_an_emoji_is_a_replacement_character_and_can_be_written(tmp_path: Path) -> None:
    line = r'{"instruction": "cut \ud83d", "output": "whole \ud83d\ude00", "note \udc00": "x"}'
    (row,), rejected = read_all(file_of(tmp_path, "a.jsonl", line))
    assert (row.instruction, row.output) == ("cut \ufffd", "whole 😀")
    assert row.tags == {"note \ufffd": "x"}
    assert from_table(to_table([row], Record), Record) == [row]
    assert not rejected


@pytest.mark.parametrize("line", ["[" * 100_000, '{"instruction": ' + "9" * 5000 + "}"])
def test_a_line_that_no_parser_takes_stops_no_reading(tmp_path: Path, line: str) -> None:
    rows, rejected = read_all(file_of(tmp_path, "a.jsonl", f"{line}\n{GOOD}"))
    assert [row.instruction for row in rows] == ["fine"]
    assert [r.reason for r in rejected] == ["not a JSON object"]
    with pytest.raises(UserError, match="cannot be read"):
        read_all(file_of(tmp_path, "a.json", f"[{line}]"))


def test_an_absent_number_is_no_text(tmp_path: Path) -> None:
    line = '{"instruction": "a", "input": NaN, "output": NaN, "score": NaN}'
    (row,), _ = read_all(file_of(tmp_path, "a.jsonl", line))
    assert row == Record("a")


def test_a_zero_is_an_answer(tmp_path: Path) -> None:
    line = '{"instruction": "How many?", "input": 0, "output": 0}'
    (row,), _ = read_all(file_of(tmp_path, "a.jsonl", line))
    assert (row.input, row.output) == ("0", "0")


@pytest.mark.parametrize("parents", ["abc", [1, 2], {"a": 1}, [None], 5])
def test_parents_are_ids_or_the_row_is_rejected(tmp_path: Path, parents: object) -> None:
    line = json.dumps({"instruction": "a", "parents": parents})
    rows, rejected = read_all(file_of(tmp_path, "a.jsonl", line + "\n" + GOOD))
    assert [row.instruction for row in rows] == ["fine"]
    assert "parents" in rejected[0].detail


@pytest.mark.parametrize(
    ("tags", "held"),
    [
        (["ab", "cd"], {"tags": "ab, cd"}),
        ("heart", {"tags": "heart"}),
        ([["topic", "heart"]], {"topic": "heart"}),
        ({"level": 3, "none": None}, {"level": "3", "none": ""}),
        ([], {}),
    ],
)
def test_tags_of_other_tools_are_kept_whole(
    tmp_path: Path, tags: object, held: dict[str, str]
) -> None:
    line = json.dumps({"instruction": "a", "tags": tags})
    (row,), _ = read_all(file_of(tmp_path, "a.jsonl", line))
    assert row.tags == held


def test_choices_by_letter_may_stand_in_any_order(tmp_path: Path) -> None:
    lines = [
        '{"question": "q", "options": {"B": "no", "A": "yes"}, "answer": "A"}',
        '{"question": "q", "options": {"A": "yes", "C": "no"}, "answer": "A"}',
        '{"question": "q", "options": "yes", "answer": "A"}',
        '{"id": null, "question": "q", "choices": ["yes", "no"], "answer": "B "}',
        '{"id": "", "question": "q", "choices": ["yes", "no"], "answer": "B"}',
    ]
    rows, rejected = read(file_of(tmp_path, "a.jsonl", "\n".join(lines)), Question)
    assert rows == [
        Question("1", "", "q", ("yes", "no"), "A"),
        Question("4", "", "q", ("yes", "no"), "B"),
        Question("5", "", "q", ("yes", "no"), "B"),
    ]
    assert len(rejected) == 2


def test_an_evaluation_row_of_wrong_types_is_rejected(tmp_path: Path) -> None:
    lines = [
        '{"item": 12, "model": "m", "text": 3.5}',
        '{"item": "a", "model": "m", "logprobs": "none"}',
        '{"item": "b", "model": ["m"]}',
        '{"item": "c", "model": "m", "draw": "first"}',
    ]
    rows, rejected = read(file_of(tmp_path, "a.jsonl", "\n".join(lines)), Answer)
    assert rows == [Answer("12", "m", text="3.5")]
    assert len(rejected) == 3
    assert to_table(rows, Answer).num_rows == 1


_KEYS = st.sampled_from(
    "id instruction Instruction input output history source licence tags parents system messages "
    "conversations instances role content question prompt choices options answer target item model "
    "text draw logprobs points max_points criterion a b winner preference other".split()
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["user", "assistant", "A", "B", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.fixed_dictionaries({"role": inner, "content": inner}), max_size=3)
        | st.dictionaries(_KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(_KEYS, _JSON, max_size=8), st.sampled_from([Record, Question, Answer, Grade])
)
def test_any_row_is_read_and_can_be_written_or_is_rejected_with_a_reason(raw, kind) -> None:
    """As JSON writes it, and as it comes back from that."""
    made = parse_row(parse_json(json.dumps(raw)), kind, 1)
    if isinstance(made, Rejected):
        assert made.reason
        assert rejected_table([made], kind).num_rows == 1
    else:
        (again,) = from_table(to_table([made], kind), kind)
        assert to_table([again], kind).equals(to_table([made], kind))


# --------------------------------------------------------------------------- CSV


def test_a_comma_without_quotes_loses_no_half_of_an_answer(tmp_path: Path) -> None:
    text = "instruction,output\nWhat helps?,Paracetamol, rest and fluids\nAnd?,Sleep,,\n"
    rows, rejected = read_all(file_of(tmp_path, "a.csv", text))
    assert [(r.instruction, r.output) for r in rows] == [("And?", "Sleep")]
    assert [r.reason for r in rejected] == ["more cells than columns"]
    assert "rest and fluids" in rejected[0].detail


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two columns are called 'output'"):
        read_all(file_of(tmp_path, "a.csv", "instruction,output,output\na,b,c\n"))


def test_columns_parted_by_semicolons_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="parted by ';'"):
        read_all(file_of(tmp_path, "a.csv", "instruction;output\na;b\n"))


def test_a_spreadsheet_saved_as_csv_has_the_spreadsheets_rows(tmp_path: Path) -> None:
    text = "\ufeffTopic,Instruction,Input\r\nheart,Explain it,\r\n,,\r\n\r\nlung,,x\r\n"
    rows, rejected = read_all(file_of(tmp_path, "a.csv", text))
    assert rows[0] == Record("Explain it", tags={"topic": "heart"})
    assert rows[1].input == "x"
    assert not rejected


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    (row,), _ = read_all(file_of(tmp_path, "a.csv", "instruction,output\na," + "word " * 60_000))
    assert len(row.output.split()) == 60_000


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_told_with_the_remedy(tmp_path: Path, encoding: str) -> None:
    for name in ("a.csv", "a.jsonl", "a.json"):
        with pytest.raises(UserError, match=r"not in UTF-8.*save it as UTF-8"):
            read_all(file_of(tmp_path, name, "instruction,output\nµ,é\n".encode(encoding)))


# --------------------------------------------------------------------------- parquet


def test_parquet_of_other_tools_is_read_as_its_rows_in_json_are(tmp_path: Path) -> None:
    columns = {
        "instruction": pa.array(["a", None, "c"], pa.large_string()),
        "output": ["x", "y", None],
        "level": [1, 2, 3],
        "id": [7, 8, 9],
        "tags": [{"topic": "heart"}, {"topic": "lung"}, {"topic": None}],
        "when": [datetime.datetime(2024, 1, 1)] * 3,
    }
    rows, rejected = read_all(parquet_of(tmp_path, columns))
    assert rows == [
        Record("a", output="x", tags={"topic": "heart", "level": "1", "original_id": "7"}),
        Record("c", tags={"topic": "", "level": "3", "original_id": "9"}),
    ]
    assert [(r.reason, r.detail[:6]) for r in rejected] == [("not a record", "row 2:")]
    batches = list(read_batches(tmp_path / "given.parquet", Record, 2))
    assert [(table.num_rows, len(bad)) for table, bad in batches] == [(1, 1), (1, 0)]
    assert all(table.schema.equals(SCHEMAS[Record]) for table, _ in batches)


def test_messages_in_parquet_are_a_conversation(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows, _ = read_all(parquet_of(tmp_path, {"messages": [turns]}))
    assert rows == [Record("q", output="a")]


def test_numbers_in_a_text_column_of_parquet_are_text_and_bytes_are_rejected(
    tmp_path: Path,
) -> None:
    rows, _ = read_all(parquet_of(tmp_path, {"instruction": [1, 2]}))
    assert [row.instruction for row in rows] == ["1", "2"]
    rows, rejected = read_all(parquet_of(tmp_path, {"instruction": [b"a", b"\xff"]}))
    assert (rows, len(rejected)) == ([], 2)


def test_our_own_parquet_is_taken_as_it_is(tmp_path: Path) -> None:
    row = Record("a", output="b", tags={"topic": "x"}, parents=("p",), id="given elsewhere")
    pq.write_table(to_table([row], Record), tmp_path / "ours.parquet")
    assert read_all(tmp_path / "ours.parquet") == ([row], [])


def test_a_test_only_column_of_other_tools_is_seen(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, {"instruction": ["a", "b"], "use": ["test", "train"]})
    assert rows_only_for_tests(path) == {"no stated source": 1}


def test_filter_takes_parquet_with_the_alpaca_columns_only(tmp_path: Path) -> None:
    columns = {"instruction": ["Explain the heart", "Name a lung disease", ""], "input": [""] * 3}
    run = filter_records(parquet_of(tmp_path, columns), tmp_path / "out")
    assert run.manifest.rows == {"in": 3, "kept": 2, "rejected": {"not a record": 1}}
