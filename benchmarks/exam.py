"""Claim: exams by likelihood give lm-eval's log-likelihoods and predictions, and on 2 cores at
least three times the questions a second of its hf backend.

One LLaMA with random weights and LLaMA-2's real tokenizer, in float32; the same real questions,
from one definition, which lm-eval reads as ``exam --export-lm-eval`` wrote it. lm-eval's time is
that of its ``loglikelihood`` calls alone, without reading data and building requests, at the better
of two batch sizes; ours is the whole of the examination, prompts and answers kept on disk included.
On a machine with other work only CPU time on one thread compares (``times_less_cpu_time``), since
threads that wait for each other burn time too. Writes ``results/exam.json``.

    python benchmarks/exam.py            2 cores, a small model (needs lm-eval 0.4.13)
    python benchmarks/exam.py --gpu      a model of LLaMA-7B's shape in bfloat16 on one GPU
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from _meadow import data_folder, llama2_folder
from _stamp import RESULTS, stamp

RESULT = RESULTS / "exam.json"
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
CONTEXT = 4096


@dataclass(frozen=True)
class Setting:
    """One exam: a task, worked examples, what is compared, how many questions of each subject."""

    task: str
    shots: int
    scoring: str
    questions: int

    @property
    def name(self) -> str:
        return f"{self.task}, {self.shots} shots, {self.scoring}"


SETTINGS = (
    Setting("medqa", 0, "letter", 48),
    Setting("medmcqa", 0, "letter", 128),
    Setting("mmlu_medical", 5, "letter", 60),
    Setting("medmcqa", 0, "text", 48),
    Setting("pubmedqa", 0, "text", 32),
    Setting("headqa_dev", 0, "text", 64),
)


def make_model(folder: Path, shape: dict[str, int], *, gpu: bool) -> None:
    """A LLaMA with random weights and LLaMA-2's tokenizer, as a checkpoint."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.02,
        **shape,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if gpu else "cpu"):
        model = LlamaForCausalLM(config)
    if gpu:
        model = model.to(torch.bfloat16)
    llama2_folder(folder)
    model.save_pretrained(folder)


def definition(folder: Path, setting: Setting, data: Path, scale: float) -> str:
    """The task cut to some questions, as a definition of a user's own would be."""
    from meadowlark.evaluate.exam import choose_files
    from meadowlark.tasks import load, load_examples

    (files,) = choose_files([setting.task], data, None, setting.shots)
    questions = load(files)[0]
    groups = 1
    if setting.shots:
        examples = load_examples(files, setting.shots)
        groups = len(examples)
        rows = [_row(q) for held in examples.values() for q in held]
        (folder / "worked.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    wanted = round(setting.questions * scale)
    each = max(wanted // groups, 1)
    taken: dict[str, list[Any]] = {}
    step = max(len(questions) // wanted, 1) if groups == 1 else 1
    for question in questions[::step]:
        held = taken.setdefault(question.group if groups > 1 else "", [])
        if len(held) < each:
            held.append(question)
    rows = [_row(q) for held in taken.values() for q in held]
    (folder / "questions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    form = files.form
    lines = [
        f"title = {json.dumps(setting.name)}",
        'files = ["questions.jsonl"]',
        '[columns]\nid = "id"\ngroup = "group"',
        f"[form]\nplain = {json.dumps(form.plain)}\nopening = {json.dumps(form.opening)}",
    ]
    if setting.shots:
        lines.append('[examples]\nfiles = ["worked.jsonl"]\nby_group = true')
    path = folder / f"{setting.task}_cut.toml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _row(question: Any) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.prompt,
        "choices": list(question.choices),
        "answer": question.target,
        "group": question.group,
    }


def warm(model: Any) -> None:
    """One pass before the clock starts."""
    import torch

    with torch.inference_mode():
        model(input_ids=torch.ones((1, 64), dtype=torch.long, device=model.device))


class Clock(NamedTuple):
    """Seconds on the wall, and of all cores together, which other work on them changes less."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> Clock:
        return Clock(time.perf_counter(), time.process_time())

    def since(self, start: Clock) -> Clock:
        return Clock(self.wall - start.wall, self.cpu - start.cpu)


def time_ours(
    model: Any, exam_of: str, setting: Setting, folder: Path
) -> tuple[Clock, dict[str, Any]]:
    """Time of the examination, and log-likelihoods by question."""
    from meadowlark.evaluate import exam as stage
    from meadowlark.evaluate.partial import PartialAnswers

    how = stage.ExamOptions(scoring=setting.scoring, plain=True, shots=setting.shots)  # type: ignore[arg-type]
    read = stage.read_exam(stage.choose_files([exam_of], None, None, setting.shots), None, how)
    folder.mkdir()
    with PartialAnswers(folder, resumed=False) as partial:
        started = Clock.now()
        stage.by_likelihood(model, "bench", read.put(1), read.askings, how, partial)
        taken = Clock.now().since(started)
        answers = partial.of(q.id for q in read.questions)
    return taken, {answer.item: answer.logprobs for answer in answers}


def time_lm_eval(
    model: Any, exam_of: str, setting: Setting, folder: Path
) -> tuple[Clock, dict[str, Any]]:
    """Time inside ``loglikelihood`` of lm-eval's hf backend, and its values by question."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from meadowlark.evaluate.exam import ExamOptions, choose_files
    from meadowlark.evaluate.exam_export import export_lm_eval

    how = ExamOptions(scoring=setting.scoring, plain=True, shots=setting.shots)  # type: ignore[arg-type]
    chosen = choose_files([exam_of], None, None, setting.shots)
    names = export_lm_eval(chosen, folder, how)
    taken = Clock(0.0, 0.0)
    whole = type(model).loglikelihood

    def timed(*given: Any, **named: Any) -> Any:
        nonlocal taken
        started = Clock.now()
        found = whole(model, *given, **named)
        more = Clock.now().since(started)
        taken = Clock(taken.wall + more.wall, taken.cpu + more.cpu)
        return found

    model.loglikelihood = timed
    try:
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=names,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
        )
    finally:
        del model.loglikelihood
    values = {}
    for samples in results["samples"].values():
        for sample in samples:
            values[sample["doc"]["id"]] = [float(r[0]) for r in sample["filtered_resps"]]
    return taken, values


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """How far apart the values are, and how many answers differ."""
    assert ours.keys() == theirs.keys()
    apart = max(abs(a - b) for item in ours for a, b in zip(ours[item], theirs[item], strict=True))
    differ = sum(ours[i].index(max(ours[i])) != theirs[i].index(max(theirs[i])) for i in ours)
    return {"largest_difference_in_nats": apart, "answers_that_differ": differ}


def measure(
    settings: Sequence[Setting], *, gpu: bool, scale: float, batch_sizes: list[int]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every setting on both sides, one after the other on the same machine: its row, and what ours
    was computed with."""
    from lm_eval.models.huggingface import HFLM

    from meadowlark.llm.local import open_local

    data = data_folder()
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        make_model(base / "model", LLAMA_7B if gpu else SMALL, gpu=gpu)
        ours = open_local(str(base / "model"), plain=True)
        theirs = {
            size: HFLM(
                pretrained=ours.model,
                tokenizer=ours.prompter.tokenizer,
                batch_size=size,
                device=str(ours.device),
            )
            for size in batch_sizes
        }
        warm(ours.model)
        for number, setting in enumerate(settings):
            folder = base / str(number)
            folder.mkdir()
            cut = definition(folder, setting, data, scale)
            spent, values = time_ours(ours, cut, setting, folder / "ours")
            timed: dict[str, Clock] = {}
            agreement: dict[str, Any] = {}
            for size in batch_sizes:
                taken, found = time_lm_eval(theirs[size], cut, setting, folder / f"export{size}")
                timed[str(size)] = taken
                agreement = compare(values, found)
            best = min(timed, key=lambda size: timed[size].wall)
            n = len(values)
            row = {
                "exam": setting.name,
                "questions": n,
                "ours_questions_per_s": n / spent.wall,
                "lm_eval_questions_per_s": n / timed[best].wall,
                "lm_eval_batch_size": best,
                "lm_eval_questions_per_s_by_batch_size": {k: n / t.wall for k, t in timed.items()},
                "times_faster": timed[best].wall / spent.wall,
                "times_less_cpu_time": min(t.cpu for t in timed.values()) / spent.cpu,
                **agreement,
            }
            print(json.dumps(row), flush=True)
            yield row, ours.describe()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, help="times the questions of each exam")
    parser.add_argument("--threads", type=int, default=2, help="cores used (CPU)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="of lm-eval (default: 4 16)")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import torch

    if not given.gpu:
        torch.set_num_threads(given.threads)
        os.environ["OMP_NUM_THREADS"] = str(given.threads)  # open_local leaves the threads alone
    batch_sizes = given.batch_sizes or ([16, 64] if given.gpu else [4, 16])
    out = given.out or (RESULTS / "exam_gpu.json" if given.gpu else RESULT)
    started, rows = time.perf_counter(), []
    result = {
        **stamp(("lm_eval", "torch", "transformers")),
        "model": {
            **(LLAMA_7B if given.gpu else SMALL),
            "vocab_size": 32_000,
            "dtype": "bfloat16" if given.gpu else "float32",
            "threads": torch.get_num_threads(),
        },
        "lm_eval_batch_sizes_tried": batch_sizes,
    }
    for row, described in measure(
        SETTINGS, gpu=given.gpu, scale=given.scale, batch_sizes=batch_sizes
    ):
        rows.append(row)  # written at each, so that one that is cut short is not lost
        result |= {
            "ours": described,
            "exams": rows,
            "exams_of": len(SETTINGS),
            "times_faster_least": min(row["times_faster"] for row in rows),
            "times_faster_median": statistics.median(row["times_faster"] for row in rows),
            "times_less_cpu_time_least": min(row["times_less_cpu_time"] for row in rows),
            "load_at_the_end": os.getloadavg()[0],
            "seconds": time.perf_counter() - started,
        }
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
