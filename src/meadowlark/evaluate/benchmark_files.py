"""The general benchmarks of ``bench``: which there are, and their published files on disk.

Names and a data folder come in, parts with their files go out. Each part reads its files into the
columns that lm-eval's own definition expects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError, unknown
from meadowlark.tasks.mmlu import read_subject
from meadowlark.tasks.task import letters


@dataclass(frozen=True, slots=True)
class Part:
    """One lm-eval task of a benchmark: its local files, and how they become lm-eval's columns.

    ``definition`` is a file of lm-eval's below its tasks folder; ``metric`` a key of its samples,
    ``named`` what we call it. ``splits`` maps lm-eval's split to a file below the data folder.
    """

    name: str
    group: str
    definition: str
    metric: str
    named: str
    shots: int | None
    splits: Mapping[str, str]
    rows: Callable[[Path], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: where its parts' files lie, and its parts, made from what is there."""

    name: str
    title: str
    folder: str
    found: Callable[[Path], list[str]]
    parts: Callable[[str], list[Part]]
    citation: str


# --------------------------------------------------------------------------- the local files


def _mmlu_rows(path: Path) -> Iterator[dict[str, Any]]:
    for question in read_subject(path, "", "mmlu"):
        answer = letters(len(question.choices)).index(question.target)
        yield {"question": question.prompt, "choices": list(question.choices), "answer": answer}


def _bbh_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(_json(path, "examples"), start=1):
        if not isinstance(row, dict) or not {"input", "target"} <= row.keys():
            raise UserError(f"{path}, example {number}: expected the keys input and target")
        yield {"input": row["input"], "target": row["target"]}


def _truthfulqa_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(_json(path), start=1):
        made: dict[str, Any] = {}
        try:
            made["question"] = row["question"]
            for kind in ("mc1_targets", "mc2_targets"):
                targets = row[kind]
                made[kind] = {"choices": list(targets), "labels": list(targets.values())}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}, question {number}: not in TruthfulQA's form ({error})"
            ) from None
        yield made


def _json(path: Path, key: str = "") -> list[Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        rows = value[key] if key else value
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not in the published form ({error})") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of questions")
    return rows


def _names(folder: Path, pattern: str, ending: str) -> list[str]:
    return sorted(p.name.removesuffix(ending) for p in folder.glob(pattern))


def _mmlu_parts(name: str) -> list[Part]:
    return [
        Part(
            name=f"mmlu_{name}",
            group=name,
            definition=f"mmlu/default/mmlu_{name}.yaml",
            metric="acc",
            named="accuracy",
            shots=5,
            splits={"test": f"test/{name}_test.csv", "dev": f"dev/{name}_dev.csv"},
            rows=_mmlu_rows,
        )
    ]


def _bbh_parts(name: str) -> list[Part]:
    return [
        Part(
            name=f"bbh_cot_fewshot_{name}",
            group=name,
            definition=f"bbh/cot_fewshot/{name}.yaml",
            metric="exact_match",
            named="accuracy",
            shots=None,
            splits={"test": f"bbh/{name}.json"},
            rows=_bbh_rows,
        )
    ]


def _truthfulqa_parts(name: str) -> list[Part]:
    return [
        Part(
            name=f"truthfulqa_{kind}",
            group="",
            definition=f"truthfulqa/truthfulqa_{kind}.yaml",
            metric="acc",
            named=named,
            shots=None,
            splits={"validation": "mc_task.json"},
            rows=_truthfulqa_rows,
        )
        for kind, named in (("mc1", "accuracy"), ("mc2", "true_share_mc2"))
    ]


BENCHMARKS: dict[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(
            name="mmlu",
            title="MMLU, 57 subjects, test part, 5 examples",
            folder="mmlu",
            found=lambda folder: _names(folder / "test", "*_test.csv", "_test.csv"),
            parts=_mmlu_parts,
            citation="Hendrycks et al. 2021, arXiv 2009.03300; github.com/hendrycks/test.",
        ),
        Benchmark(
            name="bbh",
            title="BIG-Bench Hard, chain of thought, 3 examples",
            folder="bbh",
            found=lambda folder: _names(folder / "bbh", "*.json", ".json"),
            parts=_bbh_parts,
            citation="Suzgun et al. 2022, arXiv 2210.09261; github.com/suzgunmirac/BIG-Bench-Hard.",
        ),
        Benchmark(
            name="truthfulqa",
            title="TruthfulQA, multiple choice",
            folder="truthfulqa",
            found=lambda folder: ["mc"] if (folder / "mc_task.json").is_file() else [],
            parts=_truthfulqa_parts,
            citation="Lin et al. 2022, arXiv 2109.07958; github.com/sylinrl/TruthfulQA.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A part with the folder its files lie in and the benchmark it belongs to."""

    benchmark: str
    part: Part
    folder: Path

    def files(self) -> dict[str, Path]:
        return {split: self.folder / name for split, name in self.part.splits.items()}


def choose_parts(entries: Sequence[str], data: Path | None) -> list[Chosen]:
    """The parts of ``mmlu``, ``bbh/snarks`` ...; a UserError names what is unknown or missing."""
    chosen: dict[str, Chosen] = {}
    for entry in entries:
        name, slash, wanted = entry.partition("/")
        if name not in BENCHMARKS:
            raise unknown("benchmark", name, BENCHMARKS)
        benchmark = BENCHMARKS[name]
        folder = _folder(benchmark, data)
        found = benchmark.found(folder)
        if slash and wanted not in found:
            raise unknown(f"part of {name}", wanted, found)
        for part_name in [wanted] if slash else found:
            for part in benchmark.parts(part_name):
                chosen[part.name] = Chosen(name, part, folder)
    for one in chosen.values():
        for file in one.files().values():
            if not file.is_file():
                raise UserError(f"{one.benchmark}: {file} is missing")
    return list(chosen.values())


def _folder(benchmark: Benchmark, data: Path | None) -> Path:
    if data is None:
        raise UserError(
            f"{benchmark.name} needs its files: give --data DIR with {benchmark.folder}/ below it. "
            f"{benchmark.citation}"
        )
    places = (data / benchmark.folder, data / "exams" / benchmark.folder, data)
    for place in places:
        if place.is_dir() and benchmark.found(place):
            return place
    looked = ", ".join(map(str, places))
    raise UserError(
        f"{benchmark.name}: not found below --data {data} (looked in {looked}). "
        f"{benchmark.citation}"
    )
