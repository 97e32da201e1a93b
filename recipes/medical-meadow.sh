#!/usr/bin/env bash
# Medical Meadow again, from the original files: every source that is in RAW, cleaned, mixed in the
# sizes that medAlpaca trained on, and counted beside the published table.
#
#   RAW=~/meadow recipes/medical-meadow.sh runs/medical-meadow
#
# RAW is a folder of raw files under the names below; what is not there is said and left out. LIMIT
# reads so many rows of each, for a first try. TEACHER, a model, has flashcards and WikiDoc headings
# rewritten, as medAlpaca's authors had. `meadowlark sources NAME` says where the files come from.
set -euo pipefail
RAW=${RAW:?"set RAW to the folder of raw files"}
OUT=${1:-runs/medical-meadow}
LIMIT=${LIMIT:+--limit $LIMIT}
PARTS=()

# add NAME FILE SOURCE USED [OPTION...]: FILE of RAW to rows, clean, USED of them for training (all
# if 0), under NAME.
add() {
    local name=$1 file=$2 source=$3 used=$4
    shift 4
    if [ ! -e "$RAW/$file" ]; then
        echo "medical-meadow: no $RAW/$file: $name is left out"
        return
    fi
    # shellcheck disable=SC2086  # LIMIT is an option and its value
    meadowlark convert "$source" --raw "$RAW/$file" $LIMIT --out "$OUT/raw/$name" "$@"
    local rows=$OUT/raw/$name style=${REPHRASE:-}
    if [ -n "$style" ] && [ -n "${TEACHER:-}" ]; then
        meadowlark rephrase "$rows" --style "$style" --teacher "$TEACHER" --out "$OUT/rephrased/$name"
        rows=$OUT/rephrased/$name
    fi
    meadowlark clean "$rows" --out "$OUT/clean/$name"
    if [ "$used" = 0 ]; then PARTS+=("$OUT/clean/$name"); else PARTS+=("$OUT/clean/$name=$used"); fi
}

# The collection's table, row by row, with the number of rows that were used for training.
REPHRASE=flashcard add flashcards flashcards.apkg medical_flashcards 33955
REPHRASE=heading add wikidoc wikidoc.xml wikidoc 10000
add patient_information wikidoc_patient_information.json wikidoc_patient_information 5942
add academia academia.stackexchange.com.7z stackexchange 40865
add biology biology.stackexchange.com.7z stackexchange 27887
add fitness fitness.stackexchange.com.7z stackexchange 9833
add health health.stackexchange.com.7z stackexchange 7721
add bioinformatics bioinformatics.stackexchange.com.7z stackexchange 5407
add mediqa mediqa.json mediqa 2208
add cord19 metadata.csv cord19 50000
add mmlu mmlu mmlu_medical 3787
add health_advice health_advice health_advice 10178
add causal pubmed_causal_language_use.csv pubmed_causal 2446
add chatdoctor chatdoctor.json chatdoctor 10000
add openassistant oasst_trees.jsonl oasst 9209
# MedQA is on the collection's data card only. The USMLE self-assessment is for examining models.
add medqa medqa.jsonl medqa 10178
if [ -d "$RAW/usmle" ]; then
    meadowlark convert usmle_self_assessment --raw "$RAW/usmle" --out "$OUT/test-only/usmle"
else
    echo "medical-meadow: no $RAW/usmle: the USMLE self-assessment is left out"
fi

if [ ${#PARTS[@]} = 0 ]; then
    echo "medical-meadow: $RAW holds none of the sources" >&2
    exit 2
fi
# One tenth for validation, as medAlpaca trained; the licences of all rows are summed up.
meadowlark mix "${PARTS[@]}" --val 0.1 --seed 42 --out "$OUT/mixed"
meadowlark stats "$OUT"/raw/* "$OUT/mixed" --out "$OUT/stats"
