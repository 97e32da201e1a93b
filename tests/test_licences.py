"""What the hub's model cards are told of licences."""

import pytest

from meadowlark.licences import HUB_IDS, TERMS, hub_licence, is_non_commercial


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (["Apache-2.0"], ("apache-2.0", "")),
        (["CC-BY-NC-4.0"], ("cc-by-nc-4.0", "")),
        (["CC-BY-4.0", "MIT"], ("other", "mixed")),
        (["CC-BY-NC-4.0", "MIT"], ("other", "mixed-non-commercial")),
        (["LicenseRef-ChatDoctor"], ("other", "mixed-non-commercial")),
        (["CC-BY-NC-4.0", "who knows"], ("other", "mixed-non-commercial")),
        (["MIT", ""], ("other", "unknown")),
        ([], ("other", "unknown")),
    ],
)
def test_only_one_known_licence_has_an_identifier(
    licences: list[str], expected: tuple[str, str]
) -> None:
    assert hub_licence(licences) == expected


def test_every_identifier_is_of_a_licence_whose_terms_are_known() -> None:
    assert HUB_IDS.keys() <= TERMS.keys()
    assert not is_non_commercial(["MIT", "GPL-3.0-only", ""])
