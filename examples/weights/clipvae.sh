#!/usr/bin/env bash
# The codec of clips, from the picture codec; PRESET=gpu on a GPU.
set -euo pipefail
data=${1:-data/motion} preset=${PRESET:-cpu} run=${RUN:-runs/clipvae}
genctl train --model clipvae "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-60}" --set data.flip=true --init "${INIT:-vae}"
genctl eval "$run" "$data" --json --most 36 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" clipvae --title "Codec of clips, f8 t4, 12 channels" \
  --licence "Apache-2.0; clips it learnt from: MIT" --figures "$run/figures.json"
