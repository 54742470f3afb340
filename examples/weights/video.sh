#!/usr/bin/env bash
# Text to clips, from text to image; PRESET=gpu on a GPU. Not run to its end yet.
set -euo pipefail
data=${1:-data/motion} preset=${PRESET:-cpu} run=${RUN:-runs/video}
genctl train --model video "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set data.flip=true --init "${INIT:-ldm}"
genctl eval "$run" "$data" --json --most 36 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" video --title "Emoji that move, text to clips" \
  --licence "Apache-2.0; clips it learnt from: MIT" --figures "$run/figures.json"
