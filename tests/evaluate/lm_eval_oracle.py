"""lm-eval 0.4.13 as the oracle of exams: its own tasks on local copies of the data, and ours as
exported."""

import json
from pathlib import Path
from typing import Any

from meadowlark.records import Question

STOCK = {
    "medqa": "medqa/medqa.yaml",
    "medmcqa": "medmcqa/medmcqa.yaml",
    "pubmedqa": "pubmedqa/pubmedqa.yaml",
    "headqa_dev": "headqa/headqa_en.yaml",
    "mmlu_medical": "mmlu/default/mmlu_{group}.yaml",
}
"""Where lm-eval keeps the task that asks as ours of that name does in plain text."""


def stock_task(name: str, questions: list[Question], folder: Path, examples: Any = ()) -> Any:
    """lm-eval's own task, with its own prompt functions, on our questions in the hub's columns."""
    import lm_eval
    from lm_eval.tasks._yaml_loader import load_yaml

    group = questions[0].group if name == "mmlu_medical" else ""
    path = Path(lm_eval.__file__).parent / "tasks" / STOCK[name].format(group=group)
    config = {k: v for k, v in load_yaml(path, resolve_func=True).items() if k != "dataset_name"}
    splits = {"test": questions, **({"dev": examples} if examples else {})}
    data = {}
    for split, rows in splits.items():
        file = folder / f"{name}{group}-{split}.jsonl"
        file.write_text("".join(json.dumps(HUB_ROWS[name](q)) + "\n" for q in rows))
        data[split] = str(file)
    config |= {
        "task": f"stock_{name}{group}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": data},
        "test_split": "test",
    }
    for key in ("training_split", "validation_split", "tag", "task_alias"):
        config.pop(key, None)
    if not examples:
        config.pop("fewshot_split", None)
        config.pop("fewshot_config", None)
    return config


def _medqa(q: Question) -> dict[str, Any]:
    endings = {f"ending{i}": choice for i, choice in enumerate(q.choices)}
    return {"sent1": q.prompt, "label": _right(q), **endings}


def _medmcqa(q: Question) -> dict[str, Any]:
    named = zip(("opa", "opb", "opc", "opd"), q.choices, strict=True)
    return {"question": q.prompt, "cop": _right(q), **dict(named)}


def _pubmedqa(q: Question) -> dict[str, Any]:
    abstract, _, question = q.prompt.removeprefix("Abstract: ").rpartition("\nQuestion: ")
    return {
        "CONTEXTS": abstract.split("\n"),
        "QUESTION": question,
        "final_decision": q.choices[_right(q)],
    }


def _headqa(q: Question) -> dict[str, Any]:
    answers = [{"aid": i, "atext": choice} for i, choice in enumerate(q.choices, start=1)]
    return {"qtext": q.prompt, "answers": answers, "ra": _right(q) + 1}


def _mmlu(q: Question) -> dict[str, Any]:
    return {"question": q.prompt, "choices": list(q.choices), "answer": _right(q)}


HUB_ROWS = {
    "medqa": _medqa,
    "medmcqa": _medmcqa,
    "pubmedqa": _pubmedqa,
    "headqa_dev": _headqa,
    "mmlu_medical": _mmlu,
}


def _right(question: Question) -> int:
    return ord(question.target) - ord("A")


def run_lm_eval(
    model: Path, tasks: list[Any], *, include: Path | None = None, **given: Any
) -> dict[str, Any]:
    """lm-eval's results of a local checkpoint in float32 on the CPU, with its samples by task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(include) if include else None, include_defaults=False)
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=tasks,
        task_manager=manager,
        device="cpu",
        batch_size=given.pop("batch_size", 8),
        bootstrap_iters=0,
        log_samples=True,
        **given,
    )
    return results


def likelihoods_of(samples: list[dict[str, Any]]) -> list[list[float]]:
    """The log-likelihood of each choice (and of each without its question, where asked for)."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    return [[float(response[0]) for response in s["filtered_resps"]] for s in ordered]
