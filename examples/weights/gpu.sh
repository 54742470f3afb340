#!/usr/bin/env bash
# Codec, flow and fast student in one go on a GPU, by the commands that made the shipped `vae` (its encoder), `ldm` and
# `ldm-fast` in 117, 288 and 133 seconds of an H200; there the student was a command of its own, and INIT a short CPU run.
#
#     gpu.sh DATA_CODEC DATA OUT        DATA: drawings with captions; DATA_CODEC: these and photographs (examples/join.py)
#
# CODEC, FLOW and FAST are minutes. What the flow needs whatever the codec (decoded pictures, text, compiled blocks) is
# made while the codec trains. An interrupted run goes on where it was. OUT gets three model files, in parts that
# `cat` joins.
set -euo pipefail
codec_data=$1 data=$2 out=$3 runs=${RUNS:-runs/gpu}
flow=(--preset gpu --init none --set data.flip=true --set data.jitter=6 --set train.early=0)
mkdir -p "$out"
genctl train --model ldm "$data" -o "$runs/warm" "${flow[@]}" --set data.views=1 --steps 4 --set train.minutes=9 \
  > "$out/warm.log" 2>&1 &
genctl train --model vae "$codec_data" -o "$runs/vae" --preset gpu --minutes "${CODEC:-1.95}" --init "${INIT:-none}" \
  --set train.decay=0.5 > "$out/vae.log" 2>&1
wait
genctl train --model ldm "$data" -o "$runs/ldm" "${flow[@]}" --set model.codec="$runs/vae" --set data.views=8 \
  --minutes "${FLOW:-5.2}" > "$out/ldm.log" 2>&1
genctl distill --model "$runs/ldm" --trust --data "$data" -o "$runs/fast" --preset gpu --method progressive --steps 1 \
  --set train.learning_rate=5e-4 --set train.warmup=50 --minutes "${FAST:-2.23}" > "$out/fast.log" 2>&1
for name in vae ldm fast; do
  split -b 15000000 -d "$runs/$name/model.safetensors" "$out/$name.part"
  cp "$runs/$name/metrics.jsonl" "$out/$name.jsonl"
done
