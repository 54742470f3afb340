#!/usr/bin/env bash
# The shipped text-to-image model, on the shipped codec; PRESET=gpu on a GPU. The shipped file took 86 minutes of two CPU
# cores with AdamW, then INIT=ldm MINUTES=106 with Muon.
# To go on from the shipped weights on a later day: INIT=ldm. Compiling takes a minute and a C++ compiler, gains 40 %.
set -euo pipefail
data=${1:-data/emoji} preset=${PRESET:-cpu} run=${RUN:-runs/ldm}
genctl train --model ldm "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set train.compile=true \
  --init "${INIT:-none}"
genctl eval "$run" "$data" --json | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ldm --title "Emoji text to image, 8 M" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
