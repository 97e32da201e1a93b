"""Refusals, measured on real answers of four models to patients' questions, labelled by hand.

The labels below were set by reading each answer (file, line from 0). Refused: it declines, and what
is left is a referral, comfort, or a commonplace such as "hair loss can have many causes". Answered:
it says something about the matter asked, however cautiously. Answers between the two (about one in
ten of those that decline) are left out. The first two blocks were used to tune the recogniser; on
the third, drawn at random from answers not yet read and labelled before it was looked at, it found
14 of 19 refusals and raised no false alarm in 26; its misses were then mended too.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadowlark.llm import ChatReply
from meadowlark.synth.replies import is_refusal

REFUSED = """
claude-2/iCliniq 25 41 58 62 81 87 101 110 160 182 219 236 241 242 245 254 274 286 291 317 341 343
claude-2/iCliniq 346 475 630 755 756
gpt-3.5-turbo/iCliniq 39 42 142 166 218 257 679 710 844 921 928 964 999
gpt-4/iCliniq 565 580 705 956 974 980
text-davinci-003/iCliniq 877
"""
ANSWERED = """
claude-2/iCliniq 54 167 201 230 233 264 285 307 313 339 349 361 377 389 392 408 415 422 497 561 588
claude-2/iCliniq 589 632 692
gpt-3.5-turbo/iCliniq 175 806 830 908 980 993
gpt-4/iCliniq 86 156 171 219 306 372 430 434 456 465 516 539 541 545 613 706 712 756 780 819 862
gpt-4/iCliniq 863 926 958
gpt-4/medsi 160 174
text-davinci-003/iCliniq 53 74 87 99 105 172 216 326 436 495 608 669 712 714 801 980
text-davinci-003/medsi 31 71 106 128
"""
LATER_REFUSED = """
claude-2/iCliniq 18 334 432 493 526 610 628 663 721 743 763 766 792 794 805
gpt-3.5-turbo/iCliniq 430 463 516 930
"""
LATER_ANSWERED = """
claude-2/iCliniq 414 431 488 555 609 662
gpt-3.5-turbo/iCliniq 304 470 662 753 774 785 805 822 827
gpt-4/iCliniq 177 242 275 282 357 420 452 507 906
text-davinci-003/iCliniq 294
text-davinci-003/medsi 174
"""


@pytest.fixture(scope="module")
def answers(real_data: Path) -> dict[str, list[str]]:
    """``MODEL/SET`` to its answers in the order of the file."""
    found = {}
    for file in sorted((real_data / "alpacare" / "reference_outputs").glob("*/*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        name = f"{file.parent.name}/{file.name.removesuffix('_output.jsonl')}"
        found[name] = [row.get("output") or row.get("response") or "" for row in rows]
    return found


def flagged(answers: dict[str, list[str]], labels: str) -> tuple[int, int]:
    """How many of the labelled answers are recognised as refusals, and how many there are."""
    ids = [(line.split()[0], int(n)) for line in labels.split("\n") for n in line.split()[1:]]
    return sum(is_refusal(ChatReply(answers[name][n])) for name, n in ids), len(ids)


def test_hand_labelled_refusals_are_found(answers: dict[str, list[str]]) -> None:
    found, there = flagged(answers, REFUSED + LATER_REFUSED)
    assert there == 66
    assert found >= 63


def test_hand_labelled_answers_raise_hardly_an_alarm(answers: dict[str, list[str]]) -> None:
    found, there = flagged(answers, ANSWERED + LATER_ANSWERED)
    assert there == 102
    assert found <= 1


def test_in_other_answers_refusals_are_rare(answers: dict[str, list[str]]) -> None:
    """On MedInstruct-test, which asks for no advice on one's own case, there is no alarm in 864."""
    tasks = [text for name, texts in answers.items() if name.endswith("medsi") for text in texts]
    assert len(tasks) == 4 * 216
    assert not [text for text in tasks if is_refusal(ChatReply(text))]
    rates = {
        name: sum(is_refusal(ChatReply(text)) for text in texts) / len(texts)
        for name, texts in answers.items()
        if name.endswith("iCliniq")
    }
    assert rates["claude-2/iCliniq"] == max(rates.values())
    assert rates["claude-2/iCliniq"] < 0.1
    assert rates["text-davinci-003/iCliniq"] == 0.001
