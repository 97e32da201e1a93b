#!/usr/bin/env bash
# Four real sources, a small model, real exams: about half an hour on 2 CPU cores.
# MEADOWLARK_DATA names the folder of real data (tests use the same one).
set -euo pipefail
DATA=${MEADOWLARK_DATA:?"set MEADOWLARK_DATA to the folder of real data"}
OUT=${1:-runs/real-small}
cd "$(dirname "$0")/.."

# Every source from its raw form.
meadowlark convert wikidoc_patient_information \
    --raw "$DATA/meadow/wikidoc_patient_information/medical_meadow_small.json" --out "$OUT/wikidoc"
meadowlark convert pubmed_causal \
    --raw "$DATA/meadow/pubmed_causal/pubmed_causal_language_use.csv" --out "$OUT/causal"
meadowlark convert chatdoctor --raw "$DATA/meadow/chatdoctor/chatdoctor5k.json" --out "$OUT/chatdoctor"
meadowlark convert medquad --raw "$DATA/meadow/medquad/medquad_all.tar.gz" --out "$OUT/medquad"

# ROUGE-L filtering belongs to texts a model wrote, here ChatDoctor's patients; converted questions
# ("What are the symptoms of X?") would lose most of their rows to it.
meadowlark filter "$OUT/chatdoctor" --field input --out "$OUT/chatdoctor-distinct"

# A mixture in which no source drowns the others.
meadowlark mix "$OUT/wikidoc" "$OUT/causal=1000" "$OUT/chatdoctor-distinct" "$OUT/medquad=4000" \
    --val 500 --seed 42 --out "$OUT/mixed"
meadowlark stats "$OUT/wikidoc" "$OUT/causal" "$OUT/chatdoctor-distinct" "$OUT/medquad" "$OUT/mixed" \
    --out "$OUT/stats"

# What training will take here, before it starts.
meadowlark plan configs/real-small.toml --data "$OUT/mixed"

# From nothing, until a held-out byte costs fewer bits than under a bigram model of the same rows.
meadowlark train configs/real-small.toml --data "$OUT/mixed" --out "$OUT/model"

# Real exams, by log-likelihood.
meadowlark exam "hf:$OUT/model" --name small --tasks medqa,mmlu_medical --data "$DATA" \
    --out "$OUT/exam"

# Real free-form prompts, before and after.
meadowlark answer "hf:$OUT/model/initial" medinstruct_test --data "$DATA" --name untrained \
    --max-tokens 128 --out "$OUT/answers-before"
meadowlark answer "hf:$OUT/model" medinstruct_test --data "$DATA" --name small \
    --max-tokens 128 --out "$OUT/answers-after"

# The eight published verdict files of another model, from their raw text.
meadowlark score "$DATA"/judging/verdicts/*.json --out "$OUT/published-verdicts"

meadowlark report "$OUT" --out "$OUT/report"
