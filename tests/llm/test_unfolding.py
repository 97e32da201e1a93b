import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.llm.unfolding import Unfolding, held_back
from tiny_model import make_tokenizer

TOKENIZER = make_tokenizer()


def decode(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids, skip_special_tokens=True))


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
def test_the_pieces_add_up_to_the_whole(ids: list[int]) -> None:
    unfolding = Unfolding(decode)
    pieces = [unfolding.add(token) for token in ids]
    pieces.append(unfolding.end())
    assert "".join(pieces) == decode(ids) == unfolding.text()


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_string_is_ever_shown(text: str, stop: list[str]) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    unfolding = Unfolding(decode, stop)
    shown = ""
    for token in ids:
        shown += unfolding.add(token)
        if unfolding.stopped:
            break
    shown += unfolding.end()
    # A generation ends with the first token that completes a stop string: what would have followed
    # it was never written, and a stop string that began earlier but was not yet whole is no stop.
    written = text[: len(decode(unfolding.ids))]
    end = min([written.index(s) for s in stop if s in written], default=len(text))
    assert shown == text[:end] == unfolding.text()
    assert not any(s in decode(unfolding.ids[:-1]) for s in stop)


def test_the_first_stop_string_that_is_whole_ends_the_answer() -> None:
    unfolding = Unfolding(lambda ids: "".join(map(chr, ids)), ["c", "aca"])
    assert [unfolding.add(ord(character)) for character in "ac"] == ["", "a"]
    assert unfolding.stopped


def test_a_character_in_several_tokens_comes_whole() -> None:
    ids = TOKENIZER("🙂", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    unfolding = Unfolding(decode)
    assert [unfolding.add(token) for token in ids] == [""] * (len(ids) - 1) + ["🙂"]


@pytest.mark.parametrize(
    ("text", "stop", "held"),
    [("abc", ["cd"], 1), ("abc", ["bcd", "cx"], 2), ("abc", ["abc"], 0), ("", ["a"], 0)],
)
def test_what_may_begin_a_stop_string_waits(text: str, stop: list[str], held: int) -> None:
    assert held_back(text, stop) == held
