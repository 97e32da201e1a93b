"""What a mixture's licences oblige to, together: a plain statement, no legal advice.

Licence identifiers come in with row counts; the strictest terms and every unknown one come out,
and for a model card the identifier that the Hugging Face hub has for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

NON_COMMERCIAL, SHARE_ALIKE = "non-commercial use only", "share-alike"
COPYLEFT, ATTRIBUTION = "copyleft", "attribution"

TERMS: dict[str, tuple[str, ...]] = {
    "Apache-2.0": (ATTRIBUTION,),
    "MIT": (ATTRIBUTION,),
    "CC0-1.0": (),
    "CC-BY-4.0": (ATTRIBUTION,),
    "CC-BY-3.0": (ATTRIBUTION,),
    "BSD-3-Clause": (ATTRIBUTION,),
    "CC-BY-SA": (ATTRIBUTION, SHARE_ALIKE),
    "CC-BY-SA-3.0": (ATTRIBUTION, SHARE_ALIKE),
    "CC-BY-SA-4.0": (ATTRIBUTION, SHARE_ALIKE),
    "CC-BY-NC-4.0": (ATTRIBUTION, NON_COMMERCIAL),
    "CC-BY-NC-SA-4.0": (ATTRIBUTION, NON_COMMERCIAL, SHARE_ALIKE),
    "CC-BY-NC-3.0": (ATTRIBUTION, NON_COMMERCIAL),
    "GPL-2.0-only": (COPYLEFT,),
    "GPL-3.0-only": (COPYLEFT,),
    "GPL-3.0-or-later": (COPYLEFT,),
    "LicenseRef-ChatDoctor": (ATTRIBUTION, NON_COMMERCIAL),
}


def combine(licences: Mapping[str, int]) -> tuple[str, list[str]]:
    """One sentence on the mixture's obligations, and a warning for each licence that is unknown."""
    obliged: dict[str, list[str]] = {}
    warnings = []
    unknown = 0
    for licence, rows in sorted(licences.items()):
        if licence not in TERMS:
            name = licence or "no stated licence"
            warnings.append(f"{rows:,} rows have {name}: find out what they may be used for")
            unknown += rows
        for term in TERMS.get(licence, ()):
            obliged.setdefault(term, []).append(licence)
    order = (NON_COMMERCIAL, COPYLEFT, SHARE_ALIKE, ATTRIBUTION)
    parts = [f"{term} ({', '.join(obliged[term])})" for term in order if term in obliged]
    if COPYLEFT in obliged and SHARE_ALIKE in obliged:
        warnings.append(
            "copyleft and share-alike rows are mixed: whether both can be met when the mixture is "
            "passed on is a question for a lawyer"
        )
    if unknown:
        parts.append(f"not known for {unknown:,} rows")
    return "; ".join(parts) or "no obligation known", warnings


HUB_IDS = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-3.0": "cc-by-3.0",
    "CC-BY-4.0": "cc-by-4.0",
    "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-3.0": "cc-by-nc-3.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "GPL-2.0-only": "gpl-2.0",
    "GPL-3.0-only": "gpl-3.0",
    "GPL-3.0-or-later": "gpl-3.0",
}
"""Identifiers that the hub's model cards know, of those in :data:`TERMS`."""


def hub_licence(licences: Iterable[str]) -> tuple[str, str]:
    """The hub's ``license`` for what is under all of these, and a ``license_name`` for ``other``.

    Only one licence that the hub knows has an identifier there. Several together are ``other``:
    none of their identifiers says what holds for all.
    """
    found = set(licences)
    if len(found) == 1 and (only := next(iter(found))) in HUB_IDS:
        return HUB_IDS[only], ""
    if is_non_commercial(found):
        return "other", "mixed-non-commercial"
    return "other", "mixed" if found and found <= TERMS.keys() else "unknown"


def is_non_commercial(licences: Iterable[str]) -> bool:
    """Whether any of these forbids commercial use, as far as is known."""
    return any(NON_COMMERCIAL in TERMS.get(licence, ()) for licence in licences)
