#!/usr/bin/env bash
# Text to image by a GAN on the shipped codec's codes; PRESET=gpu on a GPU. To go on from an earlier one: INIT=gan. The data:
# python examples/emoji/build.py data/nine --captions (nine styles, without pairs).
set -euo pipefail
data=${1:-data/nine} preset=${PRESET:-cpu} run=${RUN:-runs/gan}
genctl train --model gan "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-95}" --init "${INIT:-none}"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --limit 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" gan --title "Emoji by a GAN, text to image, 64 px" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
