#!/usr/bin/env bash
# Text to clips, from text to image, on the data of clipvae.sh; PRESET=gpu on a GPU. Two cores: four hours, in parts (INIT=video).
set -euo pipefail
data=${1:-data/moving} preset=${PRESET:-cpu} run=${RUN:-runs/video}
genctl train --model video "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-120}" --set data.flip=true --init "${INIT:-ldm}"
genctl eval "$run" "${JUDGED:-data/motion}" --json --limit 36 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" video --title "Emoji that move, text to clips" --set codec=clipvae \
  --licence "Apache-2.0; clips and drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
