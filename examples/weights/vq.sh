#!/usr/bin/env bash
# The codec of integers, from the continuous one; the shipped one took MINUTES=32. PRESET=gpu (128 px) on a GPU.
set -euo pipefail
data=${1:-data/nine} preset=${PRESET:-cpu} run=${RUN:-runs/vq}
genctl train --model vq "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-60}" --set data.flip=true --init "${INIT:-vae}"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --limit 400 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" vq --title "Picture codec of integers" \
  --licence "Apache-2.0; pictures it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
