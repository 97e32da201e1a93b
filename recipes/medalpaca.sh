#!/usr/bin/env bash
# medAlpaca from the open sources to the USMLE self-assessment: Medical Meadow in the paper's
# sub-samples (229,438 rows by its table), LLaMA 7B trained on them, examined by its protocol.
#
#   DATA=data recipes/medalpaca.sh runs/medalpaca
#
# The sources come from the hub's copies (network, and the package datasets); recipes/medical-meadow.sh
# builds them from raw files instead. DATA holds usmle/step1.json ... step3_solutions.json and the
# exams. docs/reproduce-medalpaca.md says what it costs and where these lines differ from the paper.
# It may be stopped at any line: the same command goes on.
set -euo pipefail
DATA=${DATA:?"set DATA to the folder of the exams, usmle/ among them"}
CONFIG=${CONFIG:-configs/medalpaca-7b.toml}
BASE=${BASE:-huggyllama/llama-7b}
GPUS=${GPUS:-2}
OUT=${1:-runs/medalpaca}
STEPS=usmle_step1,usmle_step2,usmle_step3
cd "$(dirname "$0")/.."

# Every source to rows, in Medical Meadow's own words where it has such; then broken rows,
# duplicates and the exam's questions out.
meadowlark convert medical_flashcards --hub --wording published --out "$OUT/raw/medical_flashcards"
meadowlark convert wikidoc --hub --wording published --out "$OUT/raw/wikidoc"
meadowlark convert wikidoc_patient_information --hub --out "$OUT/raw/wikidoc_patient_information"
meadowlark convert stackexchange --hub --answers voted --out "$OUT/raw/stackexchange"
meadowlark convert mediqa --hub --out "$OUT/raw/mediqa"
meadowlark convert cord19 --hub --wording published --out "$OUT/raw/cord19"
meadowlark convert mmlu_medical --hub --out "$OUT/raw/mmlu_medical"
meadowlark convert health_advice --hub --out "$OUT/raw/health_advice"
meadowlark convert pubmed_causal --hub --wording published --out "$OUT/raw/pubmed_causal"
meadowlark convert chatdoctor --hub --out "$OUT/raw/chatdoctor"
meadowlark convert oasst --hub --out "$OUT/raw/oasst"
for folder in "$OUT"/raw/*; do
    meadowlark clean "$folder" --against "$STEPS" --data "$DATA" --out "$OUT/clean/$(basename "$folder")"
done

# The paper's sub-samples, whole where no number stands; a tenth held out by seed 42.
CLEAN=$OUT/clean
meadowlark mix "$CLEAN/medical_flashcards" "$CLEAN/wikidoc=10000" \
    "$CLEAN/wikidoc_patient_information" "$CLEAN/stackexchange" "$CLEAN/mediqa" \
    "$CLEAN/cord19=50000" "$CLEAN/mmlu_medical" "$CLEAN/health_advice" "$CLEAN/pubmed_causal" \
    "$CLEAN/chatdoctor=10000" "$CLEAN/oasst" --val 0.1 --seed 42 --out "$OUT/mixed"
meadowlark stats "$OUT/mixed" --out "$OUT/stats"

# Before GPU hours are spent: are the data right, does the run fit, how long will it take?
meadowlark check "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" \
    --against "$STEPS" --exams "$DATA"
meadowlark plan "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" --launch "$GPUS"

meadowlark train "$CONFIG" --data "$OUT/mixed" --set "model.base=$BASE" --launch "$GPUS" \
    --out "$OUT/model"
meadowlark package "$OUT/model" --out "$OUT/packaged"

# The paper's way: sampled, an answer of the accepted form in five tries; and once without its faults.
meadowlark exam "hf:$OUT/packaged" --tasks "$STEPS" --data "$DATA" --protocol medalpaca-faithful \
    --name medAlpaca --out "$OUT/usmle-faithful"
meadowlark exam "hf:$OUT/packaged" --tasks "$STEPS" --data "$DATA" --protocol medalpaca-fixed \
    --name medAlpaca --out "$OUT/usmle-fixed"

# By likelihood, no form in the way; and the base, so that the gain has an interval.
meadowlark exam "hf:$OUT/packaged" --tasks "$STEPS" --data "$DATA" --training "$OUT/mixed" \
    --name medAlpaca --out "$OUT/exam"
meadowlark exam "hf:$BASE" --tasks "$STEPS" --data "$DATA" --template medalpaca \
    --name base --out "$OUT/exam-base"
meadowlark score "$OUT/exam" "$OUT/exam-base" --out "$OUT/exam-difference"

meadowlark report "$OUT" --title "medAlpaca, made again" --out "$OUT/report"
