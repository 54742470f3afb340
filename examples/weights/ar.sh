#!/usr/bin/env bash
# Text to image over the integers of `vq`; PRESET=gpu on a GPU. The shipped one: MINUTES=80, then
# INIT=ar RUN=runs/ar2 MINUTES=110 RATE=1.5e-3 DECAY=0.5, both on data/nine.
set -euo pipefail
data=${1:-data/nine} preset=${PRESET:-cpu} run=${RUN:-runs/ar}
genctl train --model ar "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set data.flip=true \
  --set data.jitter=3 --set data.views=4 --init "${INIT:-none}" \
  ${RATE:+--set train.learning_rate=$RATE} ${DECAY:+--set train.decay=$DECAY}
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --bpd --limit 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ar --title "Emoji by a transformer over tokens, text to image" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
