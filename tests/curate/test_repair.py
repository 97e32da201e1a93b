"""Repair of text: what it mends, and that it loses nothing that a clinician reads."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meadowlark.curate.options import RepairOptions
from meadowlark.curate.repair import repair, repaired
from meadowlark.records import Record

CLINICAL = "≥≤µμ²³⁺⁻½¾°±×÷→↑↓αβγδΔΩ%‰–—’•™®éöçñ™√∞≈≠"
WORDS = st.one_of(
    st.sampled_from(
        [
            "E11.65",
            "0.5",
            "5 mg/kg",
            "1:1000",
            "m²",
            "10⁹/L",
            "≥ 3",
            "<5",
            "37.5 °C",
            "T½",
            "µg",
            "K⁺",
            "A&E",
            "q4h",
            "120/80",
            "(a)",
        ]
    ),
    st.text(st.sampled_from(CLINICAL + "abcXYZ019.,;:/-()<>&+="), min_size=1, max_size=6),
)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("It doesnâ€™t hurt", "It doesn’t hurt"),
        ("38Â°C, 5 Âµg", "38°C, 5 µg"),
        ("SjÃ¶gren", "Sjögren"),
        ("p &lt; 0.05, SpO2 &ge; 92%", "p < 0.05, SpO2 ≥ 92%"),
        ("5\u00a0mg\u2009daily", "5 mg daily"),
        ("zero\u200bwidth\ufeff and soft\u00adhyphen", "zerowidth and softhyphen"),
        ("line one\r\nline two\rthree", "line one\nline two\nthree"),
        ("too   many    spaces ", "too many spaces"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("e\u0301", "é"),
        ("bell\x07", "bell"),
    ],
)
def test_broken_text_is_mended(broken: str, mended: str) -> None:
    assert repaired(broken) == mended


@pytest.mark.parametrize(
    "text",
    [
        "eGFR ≥ 60 mL/min/1.73 m²; WBC 4.5 × 10⁹/L; T½ 6 h; Ca²⁺",
        "ICD-10 E11.65, S72.001A; 5 µg (micro sign) and 5 μg (Greek)",
        "  - indented\n    - list\n| a   | b   |",
        "Â and â stand alone",
        "AT&T; R&D; fish&chips",
        "نص عربي\u200cبا نیم‌فاصله",
        "日本語の診療録",
    ],
)
def test_clinical_signs_and_other_scripts_are_left_as_they_are(text: str) -> None:
    assert repaired(text) in (text, text.strip())


@given(st.lists(WORDS, min_size=1).map(" ".join))
def test_no_clinical_symbol_or_number_is_lost(text: str) -> None:
    kept = unicodedata.normalize("NFC", text)
    assert repaired(text, RepairOptions(entities=False)).split() == kept.split()


@given(st.text())
def test_doing_it_twice_changes_nothing_more(text: str) -> None:
    once = repaired(text)
    assert repaired(once) == once


SEEN = "".join(
    chr(c)
    for c in (*range(0xA1, 0x100), *range(0x391, 0x3C9), *range(0x2010, 0x2300))
    if unicodedata.category(chr(c))[0] in "LNPS"
)


@given(st.text(st.sampled_from("abc 12" + SEEN)))
def test_wrong_decoding_is_undone(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    options = RepairOptions(entities=False, spaces=False)
    assume(repaired(composed, options) == composed)  # else it reads like wrongly decoded text
    raw = composed.encode()
    try:
        wrong = raw.decode("cp1252")
    except UnicodeDecodeError:
        return  # Windows-1252 leaves five bytes without a character
    assert repaired(wrong, options) == composed


def test_a_record_that_needs_nothing_is_itself_and_another_names_its_parent() -> None:
    good, bad = Record("What is m²?", "", "An area."), Record("What  is m²?", "", "An area.")
    assert repair(good, RepairOptions()) is good
    made = repair(bad, RepairOptions())
    assert (made.instruction, made.parents) == (good.instruction, (bad.id,))
