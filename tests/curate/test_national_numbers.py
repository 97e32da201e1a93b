"""Numbers of states, plans and banks: found by form and check digits, and not one digit off."""

import re

import pytest

from meadowlark.curate.identifiers import find
from meadowlark.curate.identifiers.national import luhn, verhoeff
from meadowlark.curate.surrogates import Surrogates

PUBLISHED = {
    "an Aadhaar number": "4382 6571 9043",
    "a card's number": "4539 1488 0343 6467",
    "a Brazilian CPF": "529.982.247-25",
    "a Spanish DNI": "12345678Z",
    "a French NIR": "2 69 05 49 588 157 80",
    "a Swiss AHV number": "756.9217.0769.85",
    "a Chinese identity number": "11010519491231002X",
    "an IBAN": "GB29 NWBK 6016 1331 9268 19",
    "a codice fiscale": "RSSMRA85T10A562S",
}
"""Examples of issuers' and standards' own documents, but for the first two, which are invented."""


def by_form(text: str) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.reason) for s in find(text) if s.reason.endswith("its form")]


@pytest.mark.parametrize(("reason", "number"), PUBLISHED.items(), ids=lambda value: value)
def test_a_published_number_is_found_without_a_label(reason: str, number: str) -> None:
    assert by_form(f"Hers ({number}) was copied.") == [(number, f"{reason} by its form")]


@pytest.mark.parametrize(("reason", "number"), PUBLISHED.items(), ids=lambda value: value)
def test_with_one_digit_changed_it_is_no_such_number(reason: str, number: str) -> None:
    """All of these codes detect every single wrong digit."""
    changed = [
        number[:at] + digit + number[at + 1 :]
        for at, old in enumerate(number)
        for digit in "0123456789"
        if old.isdigit() and digit != old
    ]
    assert len(changed) == 9 * sum(c.isdigit() for c in number) > 0
    assert [n for n in changed if (n, f"{reason} by its form") in by_form(f"Hers ({n}).")] == []


def test_check_digits_of_their_inventors_examples() -> None:
    assert [n for n in range(2360, 2370) if verhoeff(str(n))] == [2363]
    assert [n for n in range(79927398710, 79927398720) if luhn(str(n))] == [79927398713]


@pytest.mark.parametrize("swapped", ["4382 6571 9034", "4382 5671 9043", "3482 6571 9043"])
def test_verhoeffs_code_tells_neighbours_that_changed_places(swapped: str) -> None:
    assert by_form(f"Hers ({swapped}).") == []


@pytest.mark.parametrize(
    "text",
    [
        "IPP 40 mg, IPP 100mg, MR 3000/80, DNI 12, SIN 3, CPF in 12 of 4000 dogs.",
        "Volumes of 4539 1488 0343 6467 mL were infused.",
        "Knee ext. 1200 Nm, ext. 20 degrees; the pager 12 of us share.",
        "Phone tel. ratio 1/2, tel 12/30.",
        "The genes CYP2D6 2024 and AB 12 34 are typed; lot of FVII 9612.",
    ],
)
def test_medicines_numbers_are_none(text: str) -> None:
    assert find(text) == []


def test_a_replacement_has_the_form_and_other_digits() -> None:
    made = Surrogates(b"s", "k", 364)
    text = "CPF 529.982.247-25, Aadhaar 4382 6571 9043, pager 31447"
    spans = find(text)
    assert [span.kind for span in spans] == ["OTHER_ID", "OTHER_ID", "PHONE"]
    for span in spans:
        before = text[span.start : span.end]
        after = made(before, span)
        assert re.sub(r"\d", "0", after) == re.sub(r"\d", "0", before)
        assert after != before
