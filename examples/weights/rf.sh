#!/usr/bin/env bash
# The pixel-space flow at 64 px, text to image, no codec; PRESET=gpu on a GPU. To go on from the shipped one: INIT=rf.
set -euo pipefail
data=${1:-data/emoji} preset=${PRESET:-cpu} run=${RUN:-runs/rf}
genctl train --model rf "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-60}" --set train.compile=true \
  --init "${INIT:-none}"
genctl eval "$run" "$data" --json --retrieval --distance --memorised | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" rf --title "Emoji in pixel space, 64 px" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
