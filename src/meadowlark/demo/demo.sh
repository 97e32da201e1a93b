#!/usr/bin/env bash
# The whole path on shipped material: 2 CPU cores, no network, a few minutes.
# `meadowlark demo --out DIR` runs these lines in one process; each can be typed by itself.
set -euo pipefail
OUT=${1:-runs/demo}
DEMO=$(python3 -c 'from meadowlark.demo import FOLDER; print(FOLDER)')

# Expert seed tasks become new tasks, written by a recorded teacher.
meadowlark generate --seeds $DEMO/seeds.jsonl --teacher recorded:$DEMO/teacher.jsonl \
    --count 306 --no-filter --licence Apache-2.0 --out $OUT/tasks

# Near-duplicates go, by exact ROUGE-L.
meadowlark filter $OUT/tasks --threshold 0.7 --out $OUT/distinct

# The teacher answers each task; refusals and cut answers are rejected with the reason.
meadowlark respond $OUT/distinct --teacher recorded:$DEMO/teacher.jsonl --out $OUT/generated

# An open source is converted to the same rows.
meadowlark convert patient_questions --out $OUT/converted

# Both are mixed; a tenth is held out.
meadowlark mix $OUT/generated $OUT/converted --val 0.1 --seed 42 --out $OUT/mixed

# What the data are made of.
meadowlark stats $OUT/generated $OUT/converted $OUT/mixed --out $OUT/stats

# A small LLaMA and its tokenizer are trained from nothing.
meadowlark train $DEMO/small.toml --data $OUT/mixed --out $OUT/model

# The exam, before and after training, and whether the difference is one.
meadowlark exam hf:$OUT/model/initial --name untrained --tasks demo_exam --scoring text \
    --out $OUT/exam-before
meadowlark exam hf:$OUT/model --name trained --tasks demo_exam --scoring text --out $OUT/exam-after
meadowlark score $OUT/exam-after $OUT/exam-before --out $OUT/exam-difference

# Both models answer held-out tasks.
meadowlark answer hf:$OUT/model/initial $OUT/mixed/validation.parquet --name untrained \
    --max-tokens 96 --out $OUT/answers-before
meadowlark answer hf:$OUT/model $OUT/mixed/validation.parquet --name trained \
    --max-tokens 96 --out $OUT/answers-after

# Which answer shares more words with the reference: an overlap, not a judgement of quality.
meadowlark judge $OUT/answers-after $OUT/answers-before --judge overlap --out $OUT/verdicts
meadowlark score $OUT/verdicts --out $OUT/scores

# One page with everything above.
meadowlark report $OUT --out $OUT/report
