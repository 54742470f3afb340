#!/usr/bin/env bash
# The shipped text-to-image model further, on the shipped codec: what gpu.sh made in five minutes of a GPU, then this for
# 54 minutes, after six to prepare, of two CPU cores with bf16 (25 pictures a second; without bf16 a fifth of that).
# data/ldm has the rougher sets less often: README.md beside this. PRESET=gpu on a GPU, where a minute is worth ten hours. Compiling takes a C++ compiler.
set -euo pipefail
data=${1:-data/ldm} preset=${PRESET:-cpu} run=${RUN:-runs/ldm}
genctl train --model ldm "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-60}" --init "${INIT:-ldm}" \
  --set train.compile=true --set train.batch="${BATCH:-128}" --set train.learning_rate="${RATE:-2e-4}" \
  --set train.warmup=30 --set train.decay=0.6 --set data.flip=true --set data.jitter=6 --set data.views="${VIEWS:-2}"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --limit 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ldm --title "Emoji text to image, 13 M" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0, public domain" --figures "$run/figures.json"
