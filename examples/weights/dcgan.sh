#!/usr/bin/env bash
# DC-GAN by class on Fashion-MNIST at 32 px (Debian's dataset-fashion-mnist). Its figures are those of the run's best save; the
# shipped file was made by MINUTES=12 and then 35, and published by hand.
set -euo pipefail
data=${1:-/usr/share/datasets/fashion-mnist} run=${RUN:-runs/dcgan}
genctl train --model gan "$data" -o "$run" --preset dcgan --minutes "${MINUTES:-35}" --set train.save_minutes=4 \
  --init "${INIT:-none}"
python "$(dirname "$0")/publish.py" "$run" dcgan --title "DC-GAN on Fashion-MNIST, by class" \
  --licence "Apache-2.0; pictures it learnt from: Fashion-MNIST, MIT"
