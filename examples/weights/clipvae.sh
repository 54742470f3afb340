#!/usr/bin/env bash
# The codec of clips, from the picture codec; PRESET=gpu on a GPU. The data: clips, and the stills of `ldm` among them:
#     python examples/emoji-motion/build.py data/motion && python examples/join.py data/moving data/motion data/nine
set -euo pipefail
data=${1:-data/moving} preset=${PRESET:-cpu} run=${RUN:-runs/clipvae}
genctl train --model clipvae "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-60}" --set data.flip=true --init "${INIT:-vae}"
genctl eval "$run" "${JUDGED:-data/motion}" --json --limit 36 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" clipvae --title "Codec of clips, f8 t4, 24 channels" \
  --licence "Apache-2.0; clips and drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
