"""What a mixture's licences oblige to, together: a plain statement, no legal advice.

Licence identifiers come in with row counts; the strictest terms and every unknown one come out.
"""

from __future__ import annotations

from collections.abc import Mapping

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
