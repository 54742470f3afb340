#!/usr/bin/env bash
# The decoder of the shipped codec further, its codes as they are; the codec itself is by gpu.sh. One CPU core: 45 minutes.
# A flow on these codes stays valid: publish it again, so that its file names the new codec.
set -euo pipefail
data=${1:-data/codec} run=${RUN:-runs/vae}
genctl train --model vae "$data" -o "$run" --preset "${PRESET:-cpu}" --minutes "${MINUTES:-45}" --init "${INIT:-vae}" \
  --set model.loss.train_encoder=false --set model.loss.equivariance=0 --set train.learning_rate=4e-4
genctl eval "$run" "${JUDGED:-data/emoji}" --json | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" vae --title "Picture codec, f8, 6 channels" \
  --licence "Apache-2.0; pictures it learnt from: MIT, Apache-2.0, CC-BY-4.0, CC-BY-2.0, CC0, public domain" --figures "$run/figures.json"
