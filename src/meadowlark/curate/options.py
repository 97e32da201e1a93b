"""What ``clean`` can be told: one table of options, a section a rule, each with its default.

A TOML file (``--rules``) and single settings (``--set near.threshold=0.9``) change them; unknown
keys are errors. A rule whose ``on`` is false does nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from meadowlark.config import Options
from meadowlark.curate.identifiers import KINDS
from meadowlark.errors import did_you_mean

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class RepairOptions(Options):
    """[repair]: text mended in place; no row is dropped and no clinical symbol lost.

    ``mojibake`` puts right what was decoded wrongly (``â€™``), ``entities`` reads ``&ge;``,
    ``spaces`` makes line ends, odd spaces and runs of them plain. Unicode is composed (NFC, never
    NFKC, which would turn ² into 2).
    """

    on: bool = True
    mojibake: bool = True
    entities: bool = True
    spaces: bool = True


class EmptyOptions(Options):
    """[empty]: no question, or, unless ``output`` is false (tasks not answered yet), no answer."""

    on: bool = True
    output: bool = True


class EchoOptions(Options):
    """[echo]: the answer is the question again, with fewer than ``new_words`` words of its own."""

    on: bool = True
    new_words: Positive = 3


class RefusalOptions(Options):
    """[refusal]: the answer opens by declining, and has at most ``max_words`` words: a longer one
    mostly goes on to answer."""

    on: bool = True
    max_words: Positive = 60


class BoilerplateOptions(Options):
    """[boilerplate]: lines of web pages ("All rights reserved", "Click here") hold at least this
    ``share`` of the answer's words."""

    on: bool = True
    share: Share = 0.4


class TruncatedOptions(Options):
    """[truncated]: the answer stops behind a word or sign that cannot end a sentence. An answer
    that merely lacks its full stop is kept: lists and headings do."""

    on: bool = True


class LanguageOptions(Options):
    """[language]: the answer (the question, where there is none) is in none of the languages to
    ``keep``. Told by script and common words; texts under ``min_words`` words are kept."""

    on: bool = True
    keep: tuple[Literal["en", "de", "fr", "es", "it", "pt", "nl"], ...] = ("en",)
    min_words: Positive = 20


class LengthOptions(Options):
    """[length]: numbers of words (runs without a space) outside which a row is an outlier."""

    on: bool = True
    question_max: Positive = 2000
    answer_min: Positive = 1
    answer_max: Positive = 2000


class ChoicesOptions(Options):
    """[choices]: a question with lettered choices of which letters are missing, texts are empty or
    the same, or whose answer names a letter that is not there."""

    on: bool = True


class ExactOptions(Options):
    """[exact]: question and answer the same but for case, accents, spaces and punctuation; the
    first row stays. Decimal points, signs and comparisons count as text."""

    on: bool = True


class NearOptions(Options):
    """[near]: Jaccard similarity of the sets of ``run`` words in a row, over question and answer,
    at least ``threshold`` with a row kept before. MinHash proposes, the sets decide: ``bands`` of
    ``hashes_a_band`` find a pair at .8 with probability .9999, at .7 with .988. The words of the
    question (the input, or the instruction where there is none) must be alike by ``question`` too:
    one answer to "Is X inherited?" and "Is Y inherited?" is two facts. A row whose numbers or doses
    are not those of the row kept goes under a reason of its own: it may be the right one."""

    on: bool = True
    threshold: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8
    question: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    run: Positive = 3
    bands: Positive = 24
    hashes_a_band: Positive = 5


class SemanticOptions(Options):
    """[semantic]: cosine similarity of embeddings of question and answer at least ``threshold``
    with a row kept before whose question names the same numbers, types and negations. ``encoder``
    is a local folder of sentence-transformers or model2vec."""

    on: bool = False
    encoder: Path | None = None
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.98

    @model_validator(mode="after")
    def _has_encoder(self) -> SemanticOptions:
        if self.on and self.encoder is None:
            raise ValueError("semantic.on needs semantic.encoder, the folder of a local encoder")
        return self


class ContaminationOptions(Options):
    """[contamination]: rows in which an exam question of ``--against`` stands.

    ``run`` words in a row point at a place and ``coverage`` of the question's words there confirm
    it (by longest common subsequence); questions under ``long`` words need all of them, and their
    choices. ``flag`` keeps the row with a tag.
    """

    action: Literal["drop", "flag"] = "drop"
    run: Positive = 8
    long: Positive = 13
    coverage: Share = 0.7

    @model_validator(mode="after")
    def _order(self) -> ContaminationOptions:
        if self.run > self.long:
            raise ValueError(f"run {self.run} must not exceed long {self.long}")
        return self


class PrivateDataOptions(Options):
    """[private_data]: identifiers of people; ``action`` is what ``--phi`` sets.

    ``kinds`` are those looked for. ``names`` by patterns, or by Presidio besides. ``shift_days``
    bounds the one offset by which a record's dates are moved.
    """

    action: Literal["off", "flag", "redact", "drop"] = "off"
    kinds: tuple[str, ...] = KINDS
    names: Literal["patterns", "presidio"] = "patterns"
    shift_days: Annotated[int, Field(ge=30, le=3650)] = 364

    @model_validator(mode="after")
    def _known_kinds(self) -> PrivateDataOptions:
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"unknown kind {kind!r}.{did_you_mean(kind, KINDS)}")
        return self


class CleanOptions(Options):
    """The whole table."""

    repair: RepairOptions = RepairOptions()
    empty: EmptyOptions = EmptyOptions()
    echo: EchoOptions = EchoOptions()
    refusal: RefusalOptions = RefusalOptions()
    boilerplate: BoilerplateOptions = BoilerplateOptions()
    truncated: TruncatedOptions = TruncatedOptions()
    language: LanguageOptions = LanguageOptions()
    length: LengthOptions = LengthOptions()
    choices: ChoicesOptions = ChoicesOptions()
    private_data: PrivateDataOptions = PrivateDataOptions()
    contamination: ContaminationOptions = ContaminationOptions()
    exact: ExactOptions = ExactOptions()
    near: NearOptions = NearOptions()
    semantic: SemanticOptions = SemanticOptions()
