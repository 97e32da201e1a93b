#!/usr/bin/env bash
# AlpaCare from its seed tasks to its headline: a teacher writes 52,002 tasks, another model answers
# them, LLaMA-2 7B is trained on them, and judged beside four other models' answers in both orders.
#
#   export OPENAI_API_KEY=...
#   SEEDS=med_seed.json DATA=data recipes/alpacare.sh runs/alpacare
#
# DATA holds the files that the authors publish (alpacare/MedInstruct-test.jsonl,
# alpacare/model_outputs, alpacare/reference_outputs) and the exams; docs/reproduce-alpacare.md says
# where from, what it costs, and where these lines differ from the paper. It may be stopped at any
# line: the same command goes on. COUNT=200 is enough for a first look.
set -euo pipefail
SEEDS=${SEEDS:?"set SEEDS to the file of seed tasks"}
DATA=${DATA:?"set DATA to the folder of the published files and exams"}
TEACHER=${TEACHER:-openai:gpt-4}              # writes the tasks
ANSWERER=${ANSWERER:-openai:gpt-3.5-turbo}    # writes their outputs
JUDGE=${JUDGE:-openai:gpt-3.5-turbo}          # compares answers
COUNT=${COUNT:-52002}
BUDGET=${BUDGET:-5000usd}                     # the most that each of the four asking stages may cost
CONFIG=${CONFIG:-configs/alpacare-7b.toml}
BASE=${BASE:-meta-llama/Llama-2-7b-hf}
GPUS=${GPUS:-4}
OUT=${1:-runs/alpacare}
REFERENCES=$DATA/alpacare/reference_outputs
cd "$(dirname "$0")/.."

# What the seeds cover. 1 means faults, which the published file has: read them, then go on.
meadowlark seeds check "$SEEDS" || [ $? -eq 1 ]

# Twelve tasks a request, three seeds shown in each; near-duplicates go as they come.
meadowlark generate --seeds "$SEEDS" --teacher "$TEACHER" --count "$COUNT" --budget "$BUDGET" \
    --licence CC-BY-NC-4.0 --out "$OUT/tasks"

# One answer a task, 300 tokens as published; one that is cut is asked for again with 600.
meadowlark respond "$OUT/tasks" --teacher "$ANSWERER" --max-tokens 300 --budget "$BUDGET" \
    --out "$OUT/generated"

# Broken rows out, and the questions of every exam below: a teacher knows many of them by heart.
meadowlark clean "$OUT/generated" --against medqa,medmcqa,pubmedqa,headqa,mmlu_medical,medinstruct_test \
    --data "$DATA" --out "$OUT/clean"
meadowlark mix "$OUT/clean" --val 0.01 --seed 42 --out "$OUT/mixed"
meadowlark stats "$SEEDS" "$OUT/generated" "$OUT/mixed" --out "$OUT/stats"

# Before GPU hours are spent: are the data right, does the run fit, how long will it take?
meadowlark check "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" \
    --against medqa,medinstruct_test --exams "$DATA"
meadowlark plan "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" --launch "$GPUS"

meadowlark train "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" --launch "$GPUS" \
    --out "$OUT/model"
meadowlark package "$OUT/model" --out "$OUT/packaged"

# Free-form prompts, drawn as the published answers were.
for prompts in medinstruct_test icliniq; do
    meadowlark answer "hf:$OUT/packaged" "$prompts" --data "$DATA" --settings alpacare \
        --name AlpaCare --out "$OUT/answers-$prompts"
done

# Four references, each pair in both orders; unreadable verdicts are counted, not dropped.
meadowlark judge "AlpaCare=$OUT/answers-medinstruct_test" \
    "text-davinci-003=$REFERENCES/text-davinci-003/medsi_output.jsonl" \
    "gpt-3.5-turbo=$REFERENCES/gpt-3.5-turbo/medsi_output.jsonl" \
    "gpt-4=$REFERENCES/gpt-4/medsi_output.jsonl" \
    "claude-2=$REFERENCES/claude-2/medsi_output.jsonl" \
    --judge "$JUDGE" --protocol alpacare --budget "$BUDGET" --out "$OUT/verdicts-medinstruct_test"
meadowlark judge "AlpaCare=$OUT/answers-icliniq" \
    "text-davinci-003=$REFERENCES/text-davinci-003/iCliniq_output.jsonl" \
    "gpt-3.5-turbo=$REFERENCES/gpt-3.5-turbo/iCliniq_output.jsonl" \
    "gpt-4=$REFERENCES/gpt-4/iCliniq_output.jsonl" \
    "claude-2=$REFERENCES/claude-2/iCliniq_output.jsonl" \
    --judge "$JUDGE" --protocol alpacare --budget "$BUDGET" --out "$OUT/verdicts-icliniq"

# Win rates with intervals: against each reference, their mean, by difficulty.
meadowlark score "$OUT/verdicts-medinstruct_test" --groups "$DATA/alpacare/MedInstruct-test.jsonl" \
    --out "$OUT/scores-medinstruct_test"
meadowlark score "$OUT/verdicts-icliniq" --out "$OUT/scores-icliniq"

# Multiple choice by likelihood; questions found among the training rows are scored apart.
meadowlark exam "hf:$OUT/packaged" --tasks medqa,medmcqa,pubmedqa,headqa,mmlu_medical \
    --data "$DATA" --training "$OUT/mixed" --name AlpaCare --out "$OUT/exam"

meadowlark report "$OUT" --title "AlpaCare, made again" --out "$OUT/report"
