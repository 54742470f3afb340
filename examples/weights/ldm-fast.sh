#!/usr/bin/env bash
# The shipped student of `ldm`: gpu.sh halves its steps from 16 to one (HALVED, 133 seconds of an H200), which leaves little for
# two and four steps; here the teacher's eight steps are halved once more from the teacher itself (66 minutes of two cores,
# 294 updates), and the two averaged: better at two and four steps than either alone. PRESET=gpu on a GPU. HALVED must be a
# student of TEACHER: after gpu.sh, TEACHER=runs/gpu/ldm, or publish that as `ldm` first.
set -euo pipefail
data=${1:-data/emoji9} teacher=${TEACHER:-ldm} preset=${PRESET:-cpu} run=${RUN:-runs/ldm-fast}
genctl distill --model "$teacher" --trust --data "$data" --preset "$preset" --method progressive --steps 4 --minutes "${MINUTES:-66}" \
  --set distill.teacher_steps=8 --set data.flip=false --set data.jitter=0 --set train.batch="${BATCH:-32}" \
  --set train.warmup=20 --set train.compile=true -o "$run-four"
python "$(dirname "$0")/average.py" "${HALVED:-runs/gpu/fast}" "$run-four" --share "${SHARE:-0.5}" -o "$run"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --limit 240 | tee "$run/figures.json"
python "$(dirname "$0")/publish.py" "$run" ldm-fast --title "Emoji in one to four steps" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0, public domain" --figures "$run/figures.json"
