"""Private data in records: found in every field, then flagged, replaced by surrogates, or dropped.

A record comes in; the record that may be kept, and what was found in it, come out. What was found
is for a file of its own, away from the data. Patterns find what ``identifiers`` describes; names
without a cue need Presidio (the extra ``privacy``). Neither is a certificate of anything: read a
sample."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa

from meadowlark.curate.identifiers import EPONYMS, Span, find, without_overlap
from meadowlark.curate.options import PrivateDataOptions
from meadowlark.curate.surrogates import Surrogates
from meadowlark.errors import UserError
from meadowlark.records import Record, Turn

TAG = "private_data"
SPACY_MODELS = ("en_core_web_lg", "en_core_web_trf", "en_core_web_md", "en_core_web_sm")
"""What Presidio recognises names by, the first that is installed."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("original_id", pa.string()),
        ("field", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("kind", pa.string()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("replacement", pa.string()),
    ]
)
"""Of ``private.parquet``: one row for each place; ``start`` and ``end`` count characters of the
field as it was before anything was replaced."""

OURS = frozenset(
    "type topic_area view difficulty type_original view_original "
    f"difficulty_original request use original_id contamination {TAG}".split()
)
"""Tags that hold no text of a person's: what the stages themselves write."""
_BY_WORDS = ("NAME", "PLACE")
Finder = Callable[[str], list[Span]]


class Place(NamedTuple):
    """One identifier in one field (``instruction``, ``input``, ``output``, ``history.0``,
    ``tags.NAME``)."""

    field: str
    span: Span
    text: str
    replacement: str = ""


def make_finder(options: PrivateDataOptions) -> Finder:
    """The search that the options ask for.

    ModuleNotFoundError names Presidio where it is missing; UserError a model for it.
    """
    kinds = frozenset(options.kinds)
    if options.names != "presidio":
        return lambda text: find(text, kinds)
    analyse = _presidio(kinds)
    return lambda text: _with(find(text, kinds), analyse(text))


def _with(found: list[Span], more: list[Span]) -> list[Span]:
    """What patterns found with what a recogniser did: it may make a name or a place longer, but
    takes no number for a part of one and nothing away."""
    added = [
        span
        for span in more
        if all(
            span.end <= other.start
            or other.end <= span.start
            or (span.start <= other.start and other.end <= span.end and other.kind in _BY_WORDS)
            for other in found
        )
    ]
    return without_overlap([*found, *added])


def _presidio(wanted: frozenset[str]) -> Finder:
    presidio: Any = importlib.import_module("presidio_analyzer")
    engines: Any = importlib.import_module("presidio_analyzer.nlp_engine")
    installed: list[str] = importlib.import_module("spacy.util").get_installed_models()
    found = [name for best in SPACY_MODELS for name in installed if name.startswith(best)]
    model = found[0] if found else None
    if model is None:  # left alone, Presidio would download one
        raise UserError(
            f"private_data.names=presidio needs a model of spaCy ({', '.join(SPACY_MODELS)}); to "
            f"install one: python -m spacy download {SPACY_MODELS[0]}"
        )
    models = [{"lang_code": "en", "model_name": model}]
    made = engines.NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": models}
    )
    engine = presidio.AnalyzerEngine(nlp_engine=made.create_engine(), supported_languages=["en"])
    names = {"PERSON": "NAME", "LOCATION": "PLACE"}
    kinds = {theirs: kind for theirs, kind in names.items() if kind in wanted}

    def analyse(text: str) -> list[Span]:
        if not kinds:
            return []
        found = engine.analyze(text=text, language="en", entities=list(kinds))
        # Alone it takes numbers and abbreviations for persons.
        return [
            Span(r.start, r.end, kinds[r.entity_type], "Presidio")
            for r in found
            if r.score >= 0.5 and re.search(r"[a-z]{2}", text[r.start : r.end])
        ]

    return analyse


def places(record: Record, finder: Finder) -> list[Place]:
    """The identifiers of all fields; a name announced in one place is found in the others too."""
    fields = _fields(record)
    found = {name: finder(text) for name, text in fields.items() if text}
    for name, value in record.tags.items():
        if name not in OURS and (spans := _in_tag(finder, name, value)):
            fields[f"tags.{name}"], found[f"tags.{name}"] = value, list(spans)
    names = {
        word
        for name, spans in found.items()
        for span in spans
        if span.kind == "NAME"
        for word in re.findall(r"[A-Z][a-zà-ÿ'’-]{3,}", fields[name][span.start : span.end])
    }
    whole = " ".join(fields.values())
    # A word that also stands in small letters is a word, and an eponym a disease's.
    names = {n for n in names - EPONYMS if not re.search(rf"\b{re.escape(n.lower())}\b", whole)}
    if names:
        again = re.compile(
            rf"\b(?:{'|'.join(sorted(map(re.escape, names)))})\b"
            r"(?!['’]?s?\s(?:disease|syndrome|sign|test|score|criteria|lymphoma|palsy|procedure))"
        )
        for name, text in fields.items():
            more = [Span(*m.span(), "NAME", "named before") for m in again.finditer(text)]
            found[name] = without_overlap([*found.get(name, []), *more])
    return [
        Place(name, span, fields[name][span.start : span.end])
        for name, spans in found.items()
        for span in spans
    ]


@functools.lru_cache(maxsize=1 << 14)
def _in_tag(finder: Finder, name: str, value: str) -> tuple[Span, ...]:
    """The identifiers in a tag's value, to which its name is the label: a column "mrn" of a file
    becomes a tag."""
    spans: list[Span] = []
    words = name.replace("_", " ")
    for label in dict.fromkeys((words, words.capitalize(), words.upper())):
        before = len(label) + 2
        spans += [
            span._replace(start=span.start - before, end=span.end - before)
            for span in finder(f"{label}: {value}")
            if span.start >= before
        ]
    return tuple(without_overlap(spans))


def flagged(record: Record, found: list[Place]) -> Record:
    """The record with a tag that says what it holds and how often; its text stays."""
    return dataclasses.replace(record, tags={**record.tags, TAG: counted(found)})


def redacted(
    record: Record, found: list[Place], secret: bytes, shift_days: int
) -> tuple[Record, list[Place]]:
    """The record with surrogates, and the places with what stands there now.

    Its id is new. The former id is not among its parents: it is a hash of the original text, by
    which a guess at what was replaced could be tried.
    """
    surrogates = Surrogates(secret, record.id, shift_days)
    filled = [p._replace(replacement=surrogates(p.text, p.span)) for p in found]
    fields = _fields(record) | {f"tags.{name}": text for name, text in record.tags.items()}
    for place in sorted(filled, key=lambda p: -p.span.start):
        text = fields[place.field]
        fields[place.field] = text[: place.span.start] + place.replacement + text[place.span.end :]
    made = dataclasses.replace(
        record,
        id="",
        instruction=fields["instruction"],
        input=fields["input"],
        output=fields["output"],
        history=tuple(Turn(t.role, fields[f"history.{i}"]) for i, t in enumerate(record.history)),
        parents=(),
        tags={name: fields[f"tags.{name}"] for name in record.tags if name != "original_id"},
    )
    return made, filled


def counted(found: list[Place]) -> str:
    """What was found, without a word of it: ``2 DATE, 1 NAME``."""
    counts = Counter(place.span.kind for place in found)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))


def rows_of(found: list[Place], kept_id: str, original_id: str) -> list[dict[str, Any]]:
    """The rows of ``private.parquet`` for one record."""
    return [
        {
            "id": kept_id,
            "original_id": original_id,
            "field": p.field,
            "start": p.span.start,
            "end": p.span.end,
            "kind": p.span.kind,
            "reason": p.span.reason,
            "text": p.text,
            "replacement": p.replacement,
        }
        for p in found
    ]


def _fields(record: Record) -> dict[str, str]:
    texts = {"instruction": record.instruction, "input": record.input, "output": record.output}
    return texts | {f"history.{i}": turn.content for i, turn in enumerate(record.history)}
