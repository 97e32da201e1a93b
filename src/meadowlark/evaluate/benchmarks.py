"""``bench``: MMLU, BBH and TruthfulQA through lm-eval, on local files and without network.

A checkpoint and a data folder come in; ``questions.parquet``, ``answers.parquet`` and
``scores.json`` go out, as from an exam. The definitions are lm-eval's own, included from the
installed package, with its data sets replaced by the local files; the numbers are lm-eval's
protocol, the intervals ours. Few-shot examples: MMLU the first five of dev, BBH the three worked
answers of its chain-of-thought prompts, TruthfulQA its six fixed ones.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.benchmark_files import Chosen, choose_parts
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.llm.prompter import cannot_load, parts_of
from meadowlark.records import Answer, Question, Score, to_json
from meadowlark.statistics.intervals import clustered_interval, mean_interval, wilson
from meadowlark.tasks.task import letters

LM_EVAL = "lm-eval>=0.4.13,<0.5"
REQUESTS = "requests"
"""What the file of lm-eval's answers begins with, from which a stopped run goes on."""


def bench(
    model: str,
    tasks: Sequence[str],
    out: Path,
    *,
    data: Path | None = None,
    chat: bool = False,
    batch: int = 8,
    name: str = "",
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Run ``tasks`` on ``hf:`` ``model`` through lm-eval; ``limit`` is per part (subject, task).

    ``chat`` renders every prompt by the checkpoint's own chat template. A stopped run goes on from
    the requests that were answered.
    """
    subject = examined(model, None, name)
    if not subject.local:
        raise UserError(f"{model}: general benchmarks compare likelihoods; give an hf: model")
    chosen = choose_parts(tasks, data)
    version = _lm_eval_version()
    run = open_run(
        "bench",
        out,
        options={
            **{k: v for k, v in subject.options.items() if k != "template"},
            "tasks": list(tasks),
            "chat": chat,
            "batch": batch,
            "lm_eval": version,
            "limit": limit,
        },
        inputs={
            **subject.inputs,
            **{f"{c.part.name}/{split}": p for c in chosen for split, p in c.files().items()},
        },
        force=force,
    )
    if run.complete:
        return run
    with run, tempfile.TemporaryDirectory(prefix="meadowlark-bench-") as made:
        results = _evaluate(subject, chosen, Path(made), run.folder, chat, batch, limit)
        questions, answers, scores = _collect(results["samples"], chosen, subject.name)
        run.write(questions, Question)
        run.write(answers, Answer)
        run.write_json("scores.json", [to_json(score) for score in scores])
        run.manifest.rows["in"] = run.manifest.rows["kept"] = len(questions)
        run.finish(
            model=subject.name,
            computed_with={
                "lm_eval": version,
                "dtype": str(results["config"].get("model_dtype", "")).removeprefix("torch."),
                "batch": batch,
                "versions": dict(results["versions"]),
                "shots": dict(results["n-shot"]),
            },
        )
    for file in run.folder.glob(f"{REQUESTS}*"):
        file.unlink()
    return run


def _lm_eval_version() -> str:
    try:
        return importlib.metadata.version("lm-eval")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            "bench needs lm-eval, which is not installed; to install: "
            f"{sys.executable} -m pip install '{LM_EVAL}'"
        ) from None


def _evaluate(
    subject: Subject,
    chosen: Sequence[Chosen],
    made: Path,
    folder: Path,
    chat: bool,
    batch: int,
    limit: int | None,
) -> dict[str, Any]:
    """lm-eval's results with every sample; nothing is fetched, its own files stay in ``made``."""
    for variable in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE"):
        os.environ[variable] = "1"  # read when the packages are imported
    import lm_eval
    import lm_eval.tasks

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    definitions = Path(lm_eval.tasks.__file__).parent
    for one in chosen:
        write_definition(one, definitions, made)
    import datasets

    datasets.config.HF_DATASETS_OFFLINE = True
    datasets.disable_progress_bars()
    results = lm_eval.simple_evaluate(
        model=_open(subject, batch),
        tasks=[one.part.name for one in chosen],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(made), include_defaults=False),
        limit=limit,
        use_cache=str(folder / REQUESTS),
        apply_chat_template=chat,
        bootstrap_iters=0,  # the intervals are ours
        log_samples=True,
    )
    if results is None:
        raise AssertionError("lm-eval gives no results on a process that is not the first")
    return dict(results)


def _open(subject: Subject, batch: int) -> Any:
    """The checkpoint as lm-eval's own backend loads it, in the precision that an exam has."""
    import torch
    from lm_eval.models.huggingface import HFLM

    parts = parts_of(subject.reference)
    device, dtype = "cpu", "float32"
    if torch.cuda.is_available():
        device, dtype = "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    try:
        return HFLM(
            pretrained=parts.base,
            peft=parts.adapter,
            device=device,
            dtype=dtype,
            batch_size=batch,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise cannot_load(subject.reference, error) from None


def write_definition(one: Chosen, definitions: Path, made: Path) -> Path:
    """Write a part's data as JSON lines and the definition that includes lm-eval's own."""
    included = definitions / one.part.definition
    if not included.is_file():
        raise UserError(
            f"lm-eval has no definition {one.part.definition} for {one.benchmark} "
            f"({one.part.group or one.part.name}); {LM_EVAL} has it"
        )
    files = {}
    for split, path in one.files().items():
        target = made / f"{one.part.name}.{split}.jsonl"
        with target.open("w", encoding="utf-8") as file:
            for row in one.part.rows(path):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        files[split] = str(target)
    lines = {
        "include": str(included),
        "task": one.part.name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(made / "cache")},
        **({} if one.part.shots is None else {"num_fewshot": one.part.shots}),
    }
    definition = made / f"{one.part.name}.yaml"
    # JSON is YAML, so that nothing here depends on a YAML package.
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())
    definition.write_text(text, encoding="utf-8")
    return definition


# --------------------------------------------------------------------------- results


def _collect(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], chosen: Sequence[Chosen], model: str
) -> tuple[list[Question], list[Answer], list[Score]]:
    """Questions, answers and scores from lm-eval's samples.

    A part that scores the same questions once more (TruthfulQA's MC2) brings scores only.
    """
    questions: dict[str, Question] = {}
    answers: list[Answer] = []
    values: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for one in chosen:
        part = one.part
        for sample in sorted(samples[part.name], key=lambda s: int(s["doc_id"])):
            value = float(sample[part.metric])
            values.setdefault((one.benchmark, part.named), []).append((part.group, value))
            if part.named != "accuracy":
                continue
            item = f"{part.name}-{int(sample['doc_id']):04d}"
            question, answer = _asked(item, one, sample, model, right=value == 1)
            questions[item] = question
            answers.append(answer)
    scores: list[Score] = []
    for (benchmark, metric), found in values.items():
        scores += _scores(benchmark, model, metric, found)
        if metric == "accuracy":
            own = [q for q in questions.values() if q.task == benchmark]
            if all(q.choices for q in own):
                chance = sum(1 / len(q.choices) for q in own) / len(own)
                scores.append(Score(benchmark, model, "chance", chance, None, None, len(own)))
    return list(questions.values()), answers, scores


def _asked(
    item: str, one: Chosen, sample: Mapping[str, Any], model: str, *, right: bool
) -> tuple[Question, Answer]:
    doc = sample["doc"]
    if one.benchmark == "bbh":
        said = str(sample["resps"][0][0])
        read = str(sample["filtered_resps"][0]).strip()
        read = "" if read == "[invalid]" else read
        question = Question(item, "bbh", doc["input"], (), doc["target"], one.part.group)
        # What was read is marked right by lm-eval's own comparison.
        return question, Answer(item, model, text=said, extracted=doc["target"] if right else read)
    choices = doc["choices"] if one.benchmark == "mmlu" else doc["mc1_targets"]["choices"]
    named = letters(len(choices))
    logprobs = tuple(float(pair[0]) for pair in sample["filtered_resps"])
    target = named[int(doc["answer"])] if one.benchmark == "mmlu" else named[0]
    question = Question(
        item, one.benchmark, doc["question"], tuple(choices), target, one.part.group
    )
    best = named[logprobs.index(max(logprobs))]
    return question, Answer(item, model, extracted=best, logprobs=logprobs)


def _scores(
    benchmark: str, model: str, metric: str, found: Sequence[tuple[str, float]]
) -> list[Score]:
    """The mean over all questions, with an interval; by groups, where there are several, too."""
    groups = list(dict.fromkeys(group for group, _ in found))
    scores = [_score(benchmark, model, metric, [value for _, value in found])]
    if len(groups) > 1:
        all_values = [value for _, value in found]
        low, high = clustered_interval(all_values, [group for group, _ in found]) or (None, None)
        mean = sum(all_values) / len(all_values)
        scores.append(
            Score(benchmark, model, f"{metric}_clustered", mean, low, high, len(all_values))
        )
        for group in groups:
            own = [value for g, value in found if g == group]
            scores.append(_score(f"{benchmark}/{group}", model, metric, own))
    return scores


def _score(task: str, model: str, metric: str, values: Sequence[float]) -> Score:
    n, mean = len(values), sum(values) / len(values)
    low: float | None
    high: float | None
    if set(values) <= {0.0, 1.0}:
        low, high = wilson(round(sum(values)), n)
    else:
        bounds = mean_interval(values)
        low, high = (max(0.0, bounds[0]), min(1.0, bounds[1])) if bounds else (None, None)
    return Score(task, model, metric, mean, low, high, n)
