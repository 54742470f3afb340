#!/usr/bin/env bash
# The shipped student of `ldm`, in three stages, each from the one before:
#   1. gpu.sh halves the teacher's steps from 16 to one (133 seconds of an H200);
#   2. HALVED=that run: the teacher's eight steps are halved once more from the teacher itself (66 minutes of two cores without
#      bf16, 294 updates), and the two averaged;
#   3. distribution matching in four steps (39 minutes of two cores with bf16, after two to prepare), and .6 of it averaged with where it began.
# Without HALVED it goes on from INIT (ldm-fast). Where the teacher was trained further since, THEN=its earlier file first
# carries INIT over to what it has learnt. PRESET=gpu on a GPU.
set -euo pipefail
data=${1:-data/ldm} teacher=${TEACHER:-ldm} preset=${PRESET:-cpu} run=${RUN:-runs/ldm-fast} begin=${INIT:-ldm-fast}
here=$(dirname "$0")
lesson=(genctl distill --model "$teacher" --trust --data "$data" --preset "$preset" --steps 4 --set data.flip=false
  --set data.jitter=0 --set train.compile=true)
if [ -n "${HALVED:-}" ]; then
  "${lesson[@]}" --method progressive --set distill.teacher_steps=8 --set train.batch="${BATCH:-32}" --set train.warmup=20 \
    --minutes "${HALVING:-66}" -o "$run-four"
  begin=$run-mean
  python "$here/average.py" "$HALVED" "$run-four" --share "${SHARE:-0.5}" -o "$begin"
elif [ -n "${THEN:-}" ]; then
  python "$here/rebase.py" "$begin" --then "$THEN" --now "$teacher" -o "$run-rebased"
  begin=$run-rebased
fi
"${lesson[@]}" --method dmd --init "$begin" --set train.batch="${BATCH:-48}" --set train.warmup=15 \
  --set train.learning_rate="${RATE:-2e-4}" --minutes "${MINUTES:-41}" -o "$run-dmd"
python "$here/average.py" "$begin" "$run-dmd" --share "${KEPT:-0.6}" -o "$run"
genctl eval "$run" "${JUDGED:-data/emoji}" --json --retrieval --distance --memorised --limit 240 | tee "$run/figures.json"
python "$here/publish.py" "$run" ldm-fast --title "Emoji in one to four steps" \
  --licence "Apache-2.0; drawings it learnt from: MIT, Apache-2.0, CC-BY-4.0, public domain" --figures "$run/figures.json"
