"""An exam as lm-eval tasks with local data, so that anyone can check our numbers with it.

The tasks' questions and forms come in; a folder goes out with ``NAME.yaml``, the questions as JSON
lines, and the command that runs them. lm-eval renders the prompts itself, from the same layouts
written in Jinja. One task for each set of worked examples; several make a group.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadowlark.dataset import write_json
from meadowlark.errors import UserError
from meadowlark.evaluate.exam import ExamOptions, read_exam
from meadowlark.evaluate.exam_prompts import BETWEEN_EXAMPLES, Asking, continuations
from meadowlark.records import Question
from meadowlark.tasks.task import TaskFiles
from meadowlark.templates import INPUT_MARKER, neutralise

PREFIX = "meadowlark_"
COMMAND_FILE = "command.txt"
_LINES = (
    "{% for choice in choices %}{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[loop.index0] }}MARK {{ choice }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
)
_PLACE = re.compile(r"(\{question\}|\{choices\})")


def export_lm_eval(
    chosen: Sequence[TaskFiles], out: Path, how: ExamOptions, *, limit: int | None = None
) -> list[str]:
    """Write the tasks below ``out`` and give their names as lm-eval knows them.

    Files there are replaced; a folder that holds anything else is refused.
    """
    if how.by == "generation":
        raise UserError("the exported tasks compare likelihoods; leave --by generation away")
    if how.orders > 1:
        raise UserError("lm-eval shows the choices in one order; leave --orders away")
    _check(out)
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for files in chosen:
        read = read_exam([files], limit, how)
        asking = next(iter(read.askings.values()))
        blocks: dict[tuple[str, ...], list[Question]] = {}
        for question in read.questions:
            blocks.setdefault(_block(question, asking), []).append(question)
        parts = []
        for block, questions in blocks.items():
            name = f"{PREFIX}{files.name}" + (f"_{_slug(block[0])}" if len(blocks) > 1 else "")
            parts.append(name)
            _write_task(out, name, asking, questions, how)
        if len(parts) > 1:
            group = {
                "group": f"{PREFIX}{files.name}",
                "task": parts,
                "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
                "metadata": {"version": 1.0},
            }
            write_json(out / f"{PREFIX}{files.name}.yaml", group)
        names.append(f"{PREFIX}{files.name}")
    (out / COMMAND_FILE).write_text(command(out, names, how) + "\n", encoding="utf-8")
    return names


def command(out: Path, names: Iterable[str], how: ExamOptions, model: str = "MODEL") -> str:
    """The command that runs the exported tasks."""
    chat = "" if how.plain else " --apply_chat_template --fewshot_as_multiturn true"
    return (
        f"lm_eval --model hf --model_args pretrained={model},dtype=float32 --include_path {out} "
        f"--tasks {','.join(names)}{chat} --log_samples --output_path {out}/results"
    )


def _check(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the exported tasks")
    strange = [
        path.name
        for path in sorted(out.iterdir())
        if not path.name.startswith(PREFIX) and path.name not in (COMMAND_FILE, "results")
    ]
    if strange:
        raise UserError(f"{out} holds {strange[0]}, which no export made; give another folder")


def _block(question: Question, asking: Asking) -> tuple[str, ...]:
    """What one lm-eval task must have in common: opening and worked examples."""
    examples = asking.examples_of(question)
    by_group = bool(examples and asking.examples and question.group in asking.examples)
    opened = asking.plain and "{group}" in asking.form.opening
    group = question.group if by_group or opened else ""
    return group, *(example.id for example in examples)


def _slug(group: str) -> str:
    return re.sub(r"\W+", "_", group.lower()).strip("_") or "other"


def _write_task(
    out: Path, name: str, asking: Asking, questions: Sequence[Question], how: ExamOptions
) -> None:
    """The YAML and the data of one task. JSON is YAML, and leaves nothing to be guessed."""
    examples = asking.examples_of(questions[0])
    data = {"test": _write_rows(out / f"{name}.jsonl", questions, asking)}
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": data},
        "test_split": "test",
        "output_type": "multiple_choice",
        "description": asking.form.head(questions[0]) if asking.plain else "",
        "doc_to_text": _jinja(asking),
        "doc_to_choice": "compared",
        "doc_to_target": "answer",
        "target_delimiter": " " if asking.plain else "",
        "fewshot_delimiter": BETWEEN_EXAMPLES,
        "num_fewshot": len(examples),
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in _metrics(asking, how)
        ],
        "metadata": {"version": 1.0},
    }
    if examples:
        data["fewshot"] = _write_rows(out / f"{name}.examples.jsonl", examples, asking)
        task["fewshot_split"] = "fewshot"
        task["fewshot_config"] = {"sampler": "first_n"}
    write_json(out / f"{name}.yaml", task)


def _metrics(asking: Asking, how: ExamOptions) -> list[str]:
    metrics = ["acc"]
    if asking.scoring == "text":
        metrics += ["acc_norm", "acc_bytes"]
        metrics += ["acc_mutual_info"] * how.unconditional
    return metrics


def _write_rows(path: Path, questions: Sequence[Question], asking: Asking) -> str:
    """JSON lines; ``compared`` is without the space of a plain prompt, which lm-eval adds."""
    with path.open("w", encoding="utf-8") as file:
        for question in questions:
            row: Mapping[str, Any] = {
                "id": question.id,
                "question": question.prompt if asking.plain else neutralise(question.prompt),
                "choices": [
                    choice if asking.plain else neutralise(f"A: {choice}")[3:]
                    for choice in question.choices
                ],
                "compared": continuations(question, asking.scoring),
                "answer": ord(question.target) - ord("A"),
                "group": question.group,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(path.resolve())


def _jinja(asking: Asking) -> str:
    """A layout in Jinja, its own words quoted."""
    lines = _LINES.replace("MARK", "." if asking.plain else ":")
    values = {"{question}": "{{ question }}", "{choices}": lines}
    layout = asking.form.layout(plain=asking.plain)
    parts = [values.get(part) or _quoted(part) for part in _PLACE.split(layout) if part]
    text = "".join(parts)
    if asking.plain or not asking.form.instruction:
        return text
    return _quoted(neutralise(asking.form.instruction) + INPUT_MARKER) + text


def _quoted(text: str) -> str:
    """Literal text; in a Jinja string where it could be taken for more."""
    plain = "{" not in text and "}" not in text
    return text if plain else "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
