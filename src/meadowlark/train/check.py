"""The proof, before a GPU hour is spent, that a run learns what it should: ``meadowlark check``.

The rows are encoded as training encodes them (or taken from its cache), then held one by one
against the tokenizer as a server would load it (``verify``), looked through for evaluation
questions (``match.ngrams``), and a few of them go through training's own forward pass in small
(``rehearse``). Out comes a :class:`Checked`: faults and warnings with the rows' ids, and a summary.
Rows stream through in batches, in several processes where there are many.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, PretrainedConfig
from transformers.utils import logging as transformers_logging

from meadowlark import tasks
from meadowlark.checkpoints import known_checkpoint
from meadowlark.dataset import FILE_OF, rows_only_for_tests
from meadowlark.errors import UserError
from meadowlark.licences import combine
from meadowlark.match.ngrams import QuestionIndex
from meadowlark.records import Question, Record
from meadowlark.train import examine, rehearse, verify
from meadowlark.train.checked import Checked, Contamination, Finding, Shown
from meadowlark.train.data import encode_data, find_tokenizer, validation_path
from meadowlark.train.encode import TOO_LONG
from meadowlark.train.encoded import Counts, Encoded, Settings
from meadowlark.train.examine import INPUT, TURNS, RowSet
from meadowlark.train.options import TrainOptions
from meadowlark.train.tokenizer import save_tokenizer
from meadowlark.train.verify import Verifier

OFTEN = 0.05
"""Share of rows above which those that max_length strikes are worth a warning."""
FEW_LEARNED = 0.1
BARS = 32

PAD = "the pad token is the end token"
REJECTED = "rows that cannot be trained on"
CONTAMINATED = "evaluation questions in the training rows"
TEST_ONLY_ROWS = "rows that are for examining models only"

MEANING = {
    verify.NOTHING: "such a row costs time and teaches nothing",
    verify.END: "the model would not learn to stop; was pad = end token masked somewhere?",
    verify.NO_BOS: "the base was trained with one: let the template write bos_token first",
    verify.TWO_BOS: "the template writes it, so that nothing else may add it",
    verify.UNWANTED_BOS: "leave data.template out: template and BOS rule of this base are known",
    verify.MASK: "the loss covers other tokens than the answers, or not all of theirs",
    verify.PROMPT: "training and serving would see different tokens",
    verify.ANSWER: "read as text, what is learned is not output and end token",
    verify.TOKENS: "the saved tokenizer writes the answer in other tokens",
    verify.SPECIAL: "a text must not write control tokens; drop these rows or respell the token",
    verify.UNKNOWN: "the vocabulary lacks these characters: the model cannot read or write them",
    verify.PIECES: "rows that were split are not learned just once, each piece behind its prompt",
    verify.TOO_MANY: "such a row does not fit into a forward pass",
    PAD: "training here never pads, but the tokenizer travels with the model: who pads with it and "
    "masks the padding masks every end token. Name another: model.added_tokens = ['<|pad|>']",
    TEST_ONLY_ROWS: "train refuses them: a model that learned them could not be examined with them",
    CONTAMINATED: "a score on these questions would not be a score",
    examine.DISORDER: "the cache does not match the data; remove $MEADOWLARK_CACHE",
    rehearse.LAYOUT: "every loss would be wrong: this is a fault in meadowlark, please report it",
    rehearse.SHIFT: "every loss would be wrong: this is a fault in meadowlark, please report it",
    rehearse.LEAK: "set run.packing = false, and please report it",
}


def check(
    options: TrainOptions,
    *,
    limit: int | None = None,
    against: Sequence[str] = (),
    exams: Path | None = None,
    examples: int = 3,
) -> Checked:
    """Check the data of a run as ``options`` say.

    ``against`` names tasks or files of questions to look for in the training rows, ``exams`` the
    folder to find the tasks' files in. ``examples`` rows are chosen to be shown, and besides one
    with earlier turns and one with an input where none of those has. Raises UserError for what
    cannot be loaded; whatever is wrong with rows is in the result.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    questions, known = _questions(against, exams)
    with tempfile.TemporaryDirectory() as name:
        tokenizer = find_tokenizer(options, limit, Path(name) / "new")
        config = _config(options)
        _refuse_what_does_not_fit(config, tokenizer, options)
        training, held_out = encode_data(options, tokenizer, limit)
        if not training.counts.read:
            raise UserError(f"{options.data.path} holds no rows in {FILE_OF[Record]}")
        save_tokenizer(tokenizer, Path(name) / "saved")
        served = AutoTokenizer.from_pretrained(Path(name) / "saved", trust_remote_code=False)
        bos = wanted_bos(tokenizer, options.model.base)
        index = QuestionIndex(questions) if questions else None
        data = options.data
        validation = RowSet("validation")
        held_out_path = validation_path(data)
        if held_out is not None and held_out_path is not None:
            verifier = Verifier(served, Settings(data.max_length, data.too_long), bos)
            validation.read(held_out_path, held_out, verifier, None, limit, data.workers)
        rows = RowSet("training", seen=validation.digests)
        verifier = Verifier(served, Settings(data.max_length, data.too_long, data.loss_on), bos)
        rows.read(data.path, training, verifier, index, limit, data.workers)
    contamination = [
        Contamination(row, questions[q].task, questions[q].id, round(share, 4), choices, passage)
        for row, q, share, choices, passage in rows.contaminated
    ]
    findings = [
        *_row_faults([rows, validation]),
        *_rejected_faults(training, held_out),
        *_nothing_left(training),
        *_contamination_faults(contamination),
        *_test_only_faults(options, limit),
        *_tokenizer_faults(tokenizer),
        *_rehearsal(config, training, options),
        *_warnings(options, tokenizer, training, held_out, rows),
        *_exam_warnings(questions, index),
    ]
    summary = _summary(tokenizer, bos, training, held_out, rows, validation)
    summary["exams"] = _exams(known, questions, index, contamination)
    return Checked(findings, contamination, summary, _shown(training, rows, examples), tokenizer)


# --------------------------------------------------------------------------- what is checked


def _config(options: TrainOptions) -> PretrainedConfig:
    """The configuration of the model to be trained."""
    scratch, base = options.model.from_scratch, options.model.base
    if scratch is not None or base is None:
        assert scratch is not None
        return LlamaConfig(
            num_attention_heads=scratch.heads, num_key_value_heads=scratch.kv_heads or scratch.heads
        )
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the configuration of {base!r}: {error}") from None
    return config


def _refuse_what_does_not_fit(
    config: PretrainedConfig, tokenizer: Any, options: TrainOptions
) -> None:
    """Refuse what training would: more tokens than are embedded, rows longer than the context."""
    if options.model.from_scratch is not None:
        return
    text = config.get_text_config()
    rows = len(tokenizer) - len(options.model.added_tokens)
    if rows > text.vocab_size:
        raise UserError(f"the tokenizer has {rows:,} tokens, the model embeds {text.vocab_size:,}")
    context = getattr(text, "max_position_embeddings", None)
    if context and options.data.max_length > context:
        raise UserError(
            f"data.max_length {options.data.max_length} is above the model's context of {context}"
        )


def wanted_bos(tokenizer: Any, base: str | None) -> int | None:
    """How many begin tokens a row must open with: 0, 1, or None where the model knows none.

    A known checkpoint's rule counts (medAlpaca was trained without). Otherwise it is one where the
    chat template writes it or the tokenizer by itself puts it before a text.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return None
    known = known_checkpoint([base]) if base is not None else None
    if known is not None:
        return int(known.bos)
    adds = tokenizer("x")["input_ids"][:1] == [bos] or bool(
        getattr(tokenizer, "add_bos_token", False)
    )
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError):
        text = ""
    return int(adds or text.startswith(tokenizer.bos_token))


def _questions(against: Sequence[str], exams: Path | None) -> tuple[list[Question], dict[str, int]]:
    """The questions of every task named, and how many each has."""
    questions: list[Question] = []
    counts: dict[str, int] = {}
    for entry in against:
        found, _ = tasks.load(tasks.resolve(entry, exams, option="--exams"))
        counts[found[0].task] = counts.get(found[0].task, 0) + len(found)
        questions += found
    return questions, counts


# --------------------------------------------------------------------------- findings


def _row_faults(sets: Sequence[RowSet]) -> list[Finding]:
    """Faults of single rows, one finding for each kind of fault."""
    found = []
    for name in (n for n in MEANING if any(n in one.faults for one in sets)):
        rows = [row for one in sets for row in one.faults.get(name, ())]
        held_out = [row for one in sets if one.name == "validation" for row in one.faults[name]]
        where = f", {len(held_out):,} of them for validation" if held_out else ""
        found.append(
            Finding(name, "fault", f"{_rows(len(rows))}{where}: {MEANING[name]}", tuple(rows))
        )
    return found


def _rejected_faults(*sets: Encoded | None) -> list[Finding]:
    """Rows that training would leave out for what they are, which is not what anybody asked for.

    Those that are too long are left out as data.too_long says, and only counted.
    """
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for encoded in sets:
        if encoded is None or not encoded.counts.rejected:
            continue
        table = encoded.rejected().select(["id", "instruction", "input", "reason", "detail"])
        for row in table.to_pylist():
            if row["reason"] != TOO_LONG:
                # A row that could not be read has no text, so that its id says nothing.
                id = row["id"] if row["instruction"] or row["input"] else ""
                rows[row["reason"]].append((id, row["detail"]))
    return [
        Finding(
            f"{REJECTED}: {reason}",
            "fault",
            f"{_rows(len(some))} would be left out; drop or mend them",
            tuple(some),
        )
        for reason, some in rows.items()
    ]


def _nothing_left(training: Encoded) -> list[Finding]:
    """That every row is rejected, were it only for its length: `train` could not begin."""
    if len(training):
        return []
    reasons = ", ".join(f"{reason} ({n:,})" for reason, n in training.counts.rejected.items())
    text = f"all {_rows(training.counts.read)} would be left out: {reasons}"
    return [Finding("nothing to train on", "fault", text)]


def _contamination_faults(found: Sequence[Contamination]) -> list[Finding]:
    by_task: dict[str, list[Contamination]] = defaultdict(list)
    for one in found:
        by_task[one.task].append(one)
    return [
        Finding(
            f"{CONTAMINATED}: {task}",
            "fault",
            f"{len({one.question for one in some}):,} questions in "
            f"{_rows(len({one.row for one in some}))}: {MEANING[CONTAMINATED]}",
            tuple(
                (one.row, f"{one.question}, {one.coverage:.0%} of its words, {one.choices} choices")
                for one in some
            ),
        )
        for task, some in by_task.items()
    ]


def _test_only_faults(options: TrainOptions, limit: int | None) -> list[Finding]:
    return [
        Finding(
            TEST_ONLY_ROWS,
            "fault",
            f"{_rows(rows)} of {source} in {path.name}: {MEANING[TEST_ONLY_ROWS]}",
        )
        for path in filter(None, (options.data.path, validation_path(options.data)))
        for source, rows in rows_only_for_tests(path, limit).items()
    ]


def _tokenizer_faults(tokenizer: Any) -> list[Finding]:
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id != tokenizer.eos_token_id:
        return []
    return [Finding(PAD, "fault", f"{tokenizer.eos_token!r}: {MEANING[PAD]}")]


def _rehearsal(config: PretrainedConfig, training: Encoded, options: TrainOptions) -> list[Finding]:
    """Training's forward pass tried out in small on a few rows of different lengths."""
    if not len(training):
        return []
    rows = [training[row] for row in rehearse.chosen(training.lengths)]
    try:
        faults = rehearse.rehearse(
            config, rows, options.data.max_length, packing=options.run.packing
        )
    except rehearse.NotRehearsed as error:
        return [Finding("the forward pass was not tried out", "warning", str(error))]
    return [Finding(name, "fault", f"{detail}; {MEANING[name]}") for name, detail in faults]


def _warnings(
    options: TrainOptions,
    tokenizer: Any,
    training: Encoded,
    held_out: Encoded | None,
    rows: RowSet,
) -> list[Finding]:
    """What may be meant so, and often is not."""
    found = []

    def warn(name: str, text: str, ids: Sequence[str] = ()) -> None:
        found.append(Finding(name, "warning", text, tuple((id, "") for id in ids)))

    counts, data = training.counts, options.data
    struck = counts.rejected.get(TOO_LONG, 0) + counts.cut + counts.split
    if struck > OFTEN * counts.read:
        warn(
            "max_length strikes often",
            f"{struck:,} of {counts.read:,} rows are longer than data.max_length "
            f"{data.max_length}: {_struck(counts)}",
        )
    tokens, learned = int(training.lengths.sum()), int(training.supervised.sum())
    if learned < FEW_LEARNED * tokens:
        warn("few tokens are learned", f"{learned / tokens:.1%} of {tokens:,}: long prompts?")
    if data.loss_on == "all" and 2 * rows.prompt_tokens > tokens:
        warn(
            "the loss is mostly on prompts",
            f"data.loss_on = 'all'; prompts are {rows.prompt_tokens / tokens:.0%} of the tokens",
        )
    if not held_out:
        warn("no validation rows", "nothing will show what was learned; see `mix --val`")
    base = options.model.base
    if base is not None and data.template is not None:
        own = AutoTokenizer.from_pretrained(base, trust_remote_code=False).chat_template
        if own and own != tokenizer.chat_template:
            warn(
                "the base has a chat template of its own",
                f"data.template = {data.template!r} replaces it, and what the base learned with it",
            )
    if "strftime_now" in tokenizer.chat_template:
        warn(
            "the chat template writes the date",
            "rows are learned with the day they were encoded on, and served with another",
        )
    if rows.held_out_rows:
        warn(
            "validation rows that are training rows",
            f"{len(rows.held_out_rows):,} rows are the same but for how they are typed",
            sorted(rows.held_out_rows),
        )
    if rows.held_out_questions:
        warn(
            "validation rows that ask what a training row asks",
            f"{len(rows.held_out_questions):,} rows have the same question with another answer",
            sorted(rows.held_out_questions),
        )
    return found


def _struck(counts: Counts) -> str:
    parts = [
        (counts.rejected.get(TOO_LONG, 0), "left out"),
        (counts.cut, "with their input cut"),
        (counts.split, "split"),
    ]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number)


def _exam_warnings(questions: Sequence[Question], index: QuestionIndex | None) -> list[Finding]:
    if index is None or not index.unsearchable:
        return []
    short = [(questions[q].id, questions[q].task) for q in index.unsearchable]
    text = f"{len(short):,} of {len(questions):,} are too short to be told from other texts"
    return [Finding("questions that cannot be looked for", "warning", text, tuple(short))]


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


# --------------------------------------------------------------------------- the summary


def _summary(
    tokenizer: Any,
    bos: int | None,
    training: Encoded,
    held_out: Encoded | None,
    rows: RowSet,
    validation: RowSet,
) -> dict[str, Any]:
    sets = {"training": training, **({"validation": held_out} if held_out is not None else {})}
    tokens = int(training.lengths.sum())
    unknown = rows.unknown_tokens + validation.unknown_tokens
    both = tokens + (int(held_out.lengths.sum()) if held_out is not None else 0)
    return {
        "rows": {name: asdict(encoded.counts) for name, encoded in sets.items()},
        "tokens": tokens,
        "learned_tokens": int(training.supervised.sum()),
        "prompt_tokens": rows.prompt_tokens,
        "unknown_tokens": unknown,
        "unknown_share": unknown / max(both, 1),
        "answers_trimmed": rows.trimmed + validation.trimmed,
        "lengths": _lengths(training),
        "validation_rows_in_training": len(rows.held_out_rows),
        "validation_questions_in_training": len(rows.held_out_questions),
        "licences": training.counts.licences,
        "obligations": combine(training.counts.licences)[0],
        "tokenizer": {
            "class": type(tokenizer).__name__,
            "vocabulary": len(tokenizer),
            "begin": tokenizer.bos_token,
            "begin_tokens_wanted": bos,
            "end": tokenizer.eos_token,
            "pad": tokenizer.pad_token,
            "template_sha256": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest(),
        },
    }


def _lengths(training: Encoded) -> dict[str, Any]:
    """Tokens a row: five numbers, and counts in bars of equal width from 0 to the longest."""
    if not len(training):
        return {}
    lengths = training.lengths
    bars, _ = np.histogram(lengths, bins=BARS, range=(0, int(lengths.max())))
    return {
        "shortest": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "p95": float(np.quantile(lengths, 0.95)),
        "longest": int(lengths.max()),
        "bars": bars.tolist(),
    }


def _exams(
    known: dict[str, int],
    questions: Sequence[Question],
    index: QuestionIndex | None,
    found: Sequence[Contamination],
) -> list[dict[str, Any]]:
    """For every task how many questions it has, could not be looked for, and were found."""
    hopeless = [questions[q].task for q in index.unsearchable] if index is not None else []
    return [
        {
            "task": task,
            "questions": number,
            "unsearchable": hopeless.count(task),
            "found": len({one.question for one in found if one.task == task}),
            "rows": len({one.row for one in found if one.task == task}),
        }
        for task, number in known.items()
    ]


def _shown(training: Encoded, rows: RowSet, number: int) -> list[Shown]:
    """``number`` rows from the shortest to the longest, then one with earlier turns and one with
    an input, each row once."""
    if not len(training) or not number:
        return []
    order = np.argsort(training.lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, number).round().astype(int) if number > 1 else [0]
    names = {0: "shortest", len(order) - 1: "longest", (len(order) - 1) // 2: "median"}
    chosen: dict[int, str] = {}
    for place in places:
        middle = number == 3 and 0 < place < len(order) - 1
        name = "median" if middle else names.get(int(place), "between")
        chosen.setdefault(int(order[place]), name)
    forms = np.concatenate([*rows.forms, np.zeros(len(training), np.uint8)])[: len(training)]
    for form, name in ((TURNS, "with earlier turns"), (INPUT, "with an input")):
        having = np.flatnonzero(forms & form)
        if len(having) and not any(forms[row] & form for row in chosen):
            chosen[int(having[0])] = name
    return [Shown(kind, training[row]) for row, kind in chosen.items()]
