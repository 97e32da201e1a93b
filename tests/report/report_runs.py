"""Makes a whole lineage of small finished runs, each written through open_run as the stages do."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

from meadowlark.dataset import COMMAND, open_run
from meadowlark.records import Answer, Question, Record, Rejected, Score, Verdict

ATTACK = '<script>alert("x")</script><img src=https://evil.example/a onerror=alert(1)>'
VIEWS = ["patient", "physician", "medical student", "nurse"]
TYPES = ["open Q&A", "classification", "rewriting", "multiple choice", "summarisation"]


def records(n: int, source: str, licence: str, seed: int) -> list[Record]:
    draw = random.Random(seed)
    return [
        Record(
            instruction=f"Explain finding number {i} " + "in plain words " * draw.randint(0, 6),
            input="" if draw.random() < 0.6 else "A woman of 40 years. " * draw.randint(1, 8),
            output=f"Answer {i} from {source}. "
            + "It depends on the cause. " * draw.randint(1, 30),
            source=source,
            licence=licence,
            tags={
                "view": draw.choice(VIEWS),
                "type": draw.choice(TYPES),
                "difficulty": str(draw.randint(1, 5)),
            },
        )
        for i in range(n)
    ]


class Builder:
    """Makes run folders below one parent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seeds = root / "outside" / "seeds.jsonl"
        self.seeds.parent.mkdir(parents=True)
        self.seeds.write_text('{"instruction": "a seed"}\n')

    def data(self, stage, name, rows, inputs, rejected=(), seed=None, validation=(), **options):
        token = COMMAND.set(f"meadowlark {stage} --out runs/{name}")
        run = open_run(stage, self.root / name, options=options, inputs=inputs, seed=seed)
        COMMAND.reset(token)
        with run:
            run.manifest.rows["in"] = len(rows) + len(rejected)
            run.write(rows, Record)
            if validation:
                run.write(validation, Record, "validation.parquet")
            run.reject(rejected, Record)
            run.finish()
        return self.root / name

    def train(self, name, data):
        run = open_run("train", self.root / name, options={"width": 192}, inputs={"data": data})
        with run:
            (run.folder / "initial").mkdir()
            (run.folder / "initial" / "weights.bin").write_bytes(b"before")
            (run.folder / "weights.bin").write_bytes(b"after")
            lines = []
            for step in range(1, 401):
                loss = 8.3 - 2.6 * (1 - 0.99**step) + 0.15 * random.Random(step).random()
                lines.append({"step": step, "loss": loss, "tokens": step * 1024})
                if step % 50 == 0:
                    held = 8.2 - 2.4 * (1 - 0.99**step)
                    lines.append({"step": step, "eval_loss": held, "bits_per_byte": held / 2.9})
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (run.folder / "train_log.jsonl").write_text(text)
            planned = {"peak_memory_bytes": 0.9e9, "tokens_per_s": 3600.0, "mfu": 0.66}
            measured = {"peak_memory_bytes": 0.8e9, "tokens_per_s": 3000.0, "mfu": 0.55}
            about = {"device": "this machine's CPU, 2 threads"}
            beside = {"predicted": planned, "measured": measured, "plan": about}
            run.write_json("plan.json", beside)
            for file in ("initial", "weights.bin", "train_log.jsonl"):
                run.wrote(file)
            run.finish(
                parameters=3_145_728,
                trainable_parameters=3_145_728,
                steps=400,
                tokens_seen=409_600,
                validation_loss_before=8.21,
                validation_loss_after=5.87,
                validation_bits_per_byte_before=2.83,
                validation_bits_per_byte_after=2.02,
                bigram_bits_per_byte=2.31,
            )
        return self.root / name

    def exam(self, name, model, spec, always=""):
        draw = random.Random(7)
        run = open_run("exam", self.root / name, options={"tasks": "demo"}, inputs={"model": model})
        with run:
            choices = ("Aspirin", "Insulin", "Heparin", "Rest & <b>water</b>")
            questions = [
                Question(
                    f"q{i}", "demo", f"Question {i}?", choices, "ABCD"[i % 4], f"group {i % 5}"
                )
                for i in range(60)
            ]
            answers = []
            for q in questions:
                letter = always or (q.target if draw.random() < 0.3 else draw.choice("ABCD"))
                logprobs = (-1.0, -1.5, -2.0, -2.5)
                answers.append(Answer(q.id, spec, extracted=letter, logprobs=logprobs))
            right = sum(a.extracted == q.target for a, q in zip(answers, questions, strict=True))
            run.write(questions, Question)
            run.write(answers, Answer)
            score = Score(
                "demo", spec, "accuracy", right / 60, right / 60 - 0.11, right / 60 + 0.12, 60
            )
            chance = Score("demo", spec, "chance", 0.25, None, None, 60)
            group = replace(score, task="demo/group 1", n=12)
            run.write_json("scores.json", [asdict(s) for s in (score, chance, group)])
            run.finish(model=spec)
        return self.root / name

    def answers(self, name, model, spec, say):
        run = open_run(
            "answer", self.root / name, options={"max_tokens": 96}, inputs={"model": model}
        )
        with run:
            questions = [
                Question(f"p{i}", "held_out", f"Prompt {i} <i>?</i>", (), f"Reference {i}")
                for i in range(20)
            ]
            run.write(questions, Question)
            run.write([Answer(q.id, spec, text=say(i)) for i, q in enumerate(questions)], Answer)
            run.finish()
        return self.root / name

    def verdicts(self, name, tuned, untuned, a, b):
        run = open_run(
            "judge", self.root / name, options={"judge": "overlap"},
            inputs={"answers": tuned, "reference 1": untuned},
        )  # fmt: skip
        with run:
            winners = ["a"] * 11 + ["tie"] * 4 + ["b"] * 4 + ["unreadable"]
            rows = [
                Verdict(f"p{i}", "overlap", a, b, order, w, "judge:overlap")
                for i, w in enumerate(winners)
                for order in ("a", "b")
            ]
            run.write(rows, Verdict)
            run.write_json("scores.json", [])
            run.finish()
        return self.root / name


BEFORE, AFTER = "runs/demo/model/initial", "runs/demo/model"


def build(root: Path) -> Path:
    """The whole path: seeds, tasks, filter, conversion, mix, training, exams, verdicts."""
    b = Builder(root)
    full = records(220, "teacher <b>x</b>", "CC-BY-NC-4.0", 1)
    made = [replace(row, output="", id="") for row in full]
    close = [Rejected(r, "too similar", f"0.81 to {made[0].id}") for r in records(34, "t", "", 5)]
    torn = [Rejected(Record("", output=""), "unreadable reply", f"raw {ATTACK}")]
    tasks = b.data("generate", "tasks", made, {"seeds": b.seeds}, torn, seed=42, count=400)
    distinct = b.data("filter", "distinct", made, {"data": tasks}, close, threshold=0.7)
    answered = [
        task.evolve(output=row.output + (ATTACK if i < 3 else ""))
        for i, (task, row) in enumerate(zip(made, full, strict=True))
    ]
    generated = b.data("respond", "generated", answered, {"data": distinct}, teacher="recorded:x")
    open_rows = records(120, "patient pages", "Apache-2.0", 3)
    converted = b.data("convert", "converted", open_rows, {"raw": b.seeds}, source="pages")
    mixed = b.data(
        "mix", "mixed", [*answered, *open_rows][:300], {"one": generated, "two": converted},
        seed=42, validation=open_rows[:20], val=0.1,
    )  # fmt: skip
    run = open_run("stats", root / "stats", options={}, inputs={"mixed": mixed})
    with run:
        pairs = [
            {"verb": "explain", "noun": "finding", "count": 200},
            {"verb": "list", "noun": "cause", "count": 20},
        ]
        one = {
            "rows": 300,
            "verb_noun": {"method": "rules", "pairs": pairs, "share_of_rows": 0.7333},
        }
        run.write_json("stats.json", {"datasets": {"mixed": one}})
        run.finish()
    model = b.train("model", mixed)
    before = b.exam("exam-before", model / "initial", BEFORE, always="A")
    after = b.exam("exam-after", model, AFTER)
    run = open_run("score", root / "exam-difference", options={},
                   inputs={"input 1": after, "input 2": before}, seed=42)  # fmt: skip
    with run:
        task = f"demo: against {BEFORE}"
        difference = Score(task, AFTER, "accuracy_difference", 0.117, -0.021, 0.254, 60)
        p = Score(task, AFTER, "mcnemar_p", 0.118, None, None, 60)
        run.write_json("scores.json", [asdict(difference), asdict(p)])
        run.finish()
    untuned = b.answers(
        "answers-before", model / "initial", BEFORE, lambda i: "" if i == 2 else "the the"
    )
    tuned = b.answers("answers-after", model, AFTER, lambda i: f"It may be a cold {i}. {ATTACK}")
    judged = b.verdicts("verdicts", tuned, untuned, AFTER, BEFORE)
    run = open_run("score", root / "scores", options={}, inputs={"input 1": judged}, seed=42)
    with run:
        task = f"overlap (judge:overlap): against {BEFORE}"
        rows = [
            Score(task, AFTER, "win_rate", 0.6842, 0.5013, 0.8421, 20, 1),
            Score(task, AFTER, "positional_agreement", 1.0, 0.83, 1.0, 19, 1),
        ]
        run.write_json("scores.json", [asdict(s) for s in rows])
        run.finish()
    return root
