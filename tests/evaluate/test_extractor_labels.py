"""The labels of replies are those written before the extractor, and belong to the texts."""

import hashlib
import json
from pathlib import Path

import pytest
from real_replies import real_reply

FOLDER = Path(__file__).parent / "extractor"
FROZEN = {
    "real.jsonl": "d16b52198ac66374c672be2f60b7e0373da45d1d85af9929e4a0e2367ee51fa6",
    "adversarial.jsonl": "51e312b41e62f4109df61532a722ba7ca4731a66291dd7cb2db47741e892daea",
}
LEAST = {"real.jsonl": 300, "adversarial.jsonl": 80}


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", FROZEN)
def test_the_labels_are_the_ones_that_were_frozen(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == FROZEN[name]
    assert len(rows(name)) >= LEAST[name]


def test_the_real_replies_are_labelled_without_their_text() -> None:
    assert all(row.keys() == {"id", "sha256", "label"} for row in rows("real.jsonl"))
    assert len({row["sha256"] for row in rows("real.jsonl")}) == len(rows("real.jsonl"))


def test_every_label_is_a_letter_of_its_question_or_none(real_data: Path) -> None:
    for row in rows("real.jsonl"):
        reply = real_reply(real_data, row["id"])
        assert reply.sha256 == row["sha256"], row["id"]
        assert row["label"] in ("", *"ABCDEFGHIJKLMNOPQR"[: len(reply.choices)]), row["id"]
