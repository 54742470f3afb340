#!/usr/bin/env bash
# The shipped codec: data/emoji by examples/emoji/build.py, then this. Two CPU cores: 24 minutes; PRESET=gpu on a GPU.
# The shipped file took AdamW (--set train.optimiser=adamw), which the preset had then; it has Muon now.
set -euo pipefail
data=${1:-data/emoji} preset=${PRESET:-cpu} run=${RUN:-runs/vae}
genctl train --model vae "$data" -o "$run" --preset "$preset" --minutes "${MINUTES:-24}" \
  --set model.loss.adversarial_from=0.8 --init none
genctl eval "$run" "$data" --json | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" vae --title "Emoji codec, f8, 6 channels" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0" --figures "$run/figures.json"
