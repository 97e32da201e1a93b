"""Encoding to disk changes nothing, holds nothing, and is done once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meadowlark.dataset import write_table
from meadowlark.records import Record, to_table
from meadowlark.train import encoded
from meadowlark.train.encode import TOO_LONG, Encoder
from meadowlark.train.encoded import Encoded, Settings, encode


@pytest.fixture
def rows(records: list[Record], tmp_path: Path) -> Path:
    """The 24 rows twelve times over, four of them too long, in one file."""
    long = [Record("What is fever?", output="Warm skin. " * n) for n in (300, 301, 302, 303)]
    path = tmp_path / "rows.parquet"
    write_table(path, to_table([*records * 12, *long], Record))
    return path


def test_what_is_read_back_is_what_the_encoder_made(
    rows: Path, tokenizer: Any, records: list[Record]
) -> None:
    found = encode(rows, tokenizer, Settings(512, loss_on="answers"))
    made, _ = Encoder(tokenizer, max_length=512, loss_on="answers").encode(records * 12)
    assert len(found) == len(made) == 288
    for ours, theirs in zip(found, made, strict=True):
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()
        assert (ours.id, ours.spans, ours.response_bytes) == (
            theirs.id,
            theirs.spans,
            theirs.response_bytes,
        )
    assert found.lengths.tolist() == [len(e.input_ids) for e in made]
    assert found.supervised.tolist() == [e.supervised for e in made]
    assert [e.id for e in found[-3:]] == [e.id for e in made[-3:]]
    assert found.counts.rejected == {TOO_LONG: 4}
    assert (found.counts.read, found.counts.kept, found.counts.pieces) == (292, 288, 288)
    assert found.counts.licences == {"test": 288}
    assert found.rejected().column("reason").to_pylist() == [TOO_LONG] * 4
    assert not found[0].input_ids.flags.writeable


def test_processes_and_batches_change_no_byte(
    rows: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = encode(rows, tokenizer, Settings(512))
    bytes_of_one = (one.folder / encoded.ROWS).read_bytes()
    monkeypatch.setattr(encoded, "ALONE", 0)
    monkeypatch.setattr(encoded, "VERSION", -1)  # else it is taken from the cache
    two = encode(rows, tokenizer, Settings(512), workers=2)
    assert two.folder != one.folder
    assert (two.folder / encoded.ROWS).read_bytes() == bytes_of_one
    monkeypatch.setattr(encoded, "BATCH", 50)
    monkeypatch.setattr(encoded, "VERSION", -2)
    three = encode(rows, tokenizer, Settings(512), workers=2)
    assert [e.id for e in three] == [e.id for e in one]
    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(one, three, strict=True))


def test_the_same_content_is_encoded_once_and_another_anew(
    rows: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(rows, tokenizer, Settings(512))
    copy = tmp_path / "elsewhere.parquet"
    copy.write_bytes(rows.read_bytes())

    def unwanted(*_: Any) -> Any:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(encoded, "_make", unwanted)
        assert encode(copy, tokenizer, Settings(512)).folder == first.folder
    other = tokenizer.chat_template
    folders = {
        first.folder,
        encode(rows, tokenizer, Settings(511)).folder,
        encode(rows, tokenizer, Settings(512), limit=5).folder,
    }
    monkeypatch.setattr(tokenizer, "chat_template", other + " ")
    folders.add(encode(rows, tokenizer, Settings(512)).folder)
    assert len(folders) == 4
    assert first.folder.parent.stat().st_mode & 0o077 == 0


def test_a_killed_encoding_is_never_read(
    rows: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(encoded.Counts, "__init__", killed)
        with pytest.raises(Killed):
            encode(rows, tokenizer, Settings(500))
    assert not list(encoded.cache_folder().glob("*.*"))
    assert len(encode(rows, tokenizer, Settings(500))) == 288


def test_old_encodings_are_forgotten(
    rows: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = encode(rows, tokenizer, Settings(512)).folder
    monkeypatch.setattr(encoded, "UNUSED_DAYS", -1)
    encode(rows, tokenizer, Settings(499))
    assert not old.exists()


def test_a_data_set_of_no_usable_row_is_empty(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Why?", "output": ""}\nnot json\n')
    found = encode(path, tokenizer, Settings(64))
    assert (len(found), found.counts.read) == (0, 2)
    assert sorted(found.counts.rejected) == ["no output to learn from", "not a JSON object"]
    assert isinstance(found, Encoded)
