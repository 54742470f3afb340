#!/usr/bin/env bash
# DC-GAN by class on Fashion-MNIST at 32 px (Debian's dataset-fashion-mnist).
set -euo pipefail
data=${1:-/usr/share/datasets/fashion-mnist} run=${RUN:-runs/dcgan}
genctl train --model gan "$data" -o "$run" --preset dcgan --minutes "${MINUTES:-35}" --set train.save_minutes=4 \
  --init "${INIT:-none}"
genctl eval "$run" "$data" --json --distance --memorised --most 500 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" dcgan --title "DC-GAN on Fashion-MNIST, by class" \
  --licence "Apache-2.0; pictures it learnt from: Fashion-MNIST, MIT" --figures "$run/figures.json"
