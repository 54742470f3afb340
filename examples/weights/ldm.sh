#!/usr/bin/env bash
# The shipped text-to-image model further, on the shipped codec (its first minutes are by gpu.sh); PRESET=gpu on a GPU,
# where a minute is worth days of two CPU cores. Compiling takes a minute and a C++ compiler.
set -euo pipefail
data=${1:-data/ldm} preset=${PRESET:-cpu} run=${RUN:-runs/ldm}
genctl train --model ldm "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set train.compile=true \
  --set data.flip=true --set data.jitter=6 --init "${INIT:-ldm}"
genctl eval "$run" "${JUDGED:-data/emoji}" --json | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ldm --title "Emoji text to image, 13 M" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0, public domain" --figures "$run/figures.json"
