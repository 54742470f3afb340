#!/usr/bin/env bash
# Text to image over the integers of `vq`; PRESET=gpu on a GPU. Not run to its end yet.
set -euo pipefail
data=${1:-data/ldm} preset=${PRESET:-cpu} run=${RUN:-runs/ar}
genctl train --model ar "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set data.flip=true \
  --set data.jitter=3 --set data.views=4 --init "${INIT:-none}"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --bpd --limit 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ar --title "Emoji by a transformer over tokens, text to image" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0, public domain" --figures "$run/figures.json"
