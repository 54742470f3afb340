#!/usr/bin/env bash
# The fast student of `ldm`, one to four steps: halving down to one step, the average velocity at every step, then
# consistency of long leaps, which smooths what one step draws; at last the mean of these two. PRESET=gpu on a GPU.
set -euo pipefail
data=${1:-data/emoji} preset=${PRESET:-cpu} run=${RUN:-runs/ldm-fast}
distill() { genctl distill --model ldm --data "$data" --preset "$preset" --set train.compile=true "$@"; }
distill --method progressive --steps 1 --minutes "${FIRST:-36}" --set train.learning_rate=5e-4 -o "$run-halved"
distill --method meanflow --steps 4 --minutes "${SECOND:-28}" --set train.learning_rate=4e-4 --init "$run-halved" -o "$run-leaping"
distill --method consistency --steps 4 --minutes "${THIRD:-21}" --set train.learning_rate=2e-4 --set train.warmup=20 \
  --set distill.stages=2 --init "$run-leaping" -o "$run-smooth"
python "$(dirname "$0")/average.py" "$run-leaping" "$run-smooth" --share 0.45 -o "$run"  # of one and of four steps the better
genctl eval "$run" "$data" --json --retrieval --distance --memorised --most 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ldm-fast --title "Emoji in one to four steps" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
