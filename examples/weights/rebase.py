"""Carry a student over to the weights that its teacher has learnt since: student + (teacher now - teacher then), for
every tensor that both have (Ilharco et al. 2023, task arithmetic). A beginning for `genctl distill --init`, not an end.

    python examples/weights/rebase.py ldm-fast --then old/ldm.safetensors --now runs/ldm -o runs/rebased

The header is the student's, with the new teacher's hash and, under `training.rebased`, the earlier one's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from average import save

from genctl import files, hub


def rebase(student: str, then: str, now: str, out: Path) -> None:
    """Write the student, tensor by tensor in float32 and stored as it was, as a model file in the folder `out`."""
    weights, header = files.load_tensors(hub.resolve(student))
    (before, _), (after, _) = (files.load_tensors(hub.resolve(name)) for name in (then, now))
    teacher = header.document.get("teacher", {})
    if teacher.get("sha256") != files.tensors_sha256(before):
        raise SystemExit(f"{student} is no student of {then}")
    if {key: tensor.shape for key, tensor in before.items()} != {key: tensor.shape for key, tensor in after.items()}:
        raise SystemExit(f"{then} and {now} have different networks")
    moved = {
        key: (tensor.float() + after[key].float() - before[key].float()).to(tensor.dtype) if key in before else tensor
        for key, tensor in weights.items()
    }
    document = header.document | {"figures": {}}
    document["training"] = document.get("training", {}) | {"rebased": {"from": teacher["sha256"]}}
    document["teacher"] = teacher | {"sha256": files.tensors_sha256(after)}
    save(out, moved, header, document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", help="run folder, model file or name")
    parser.add_argument("--then", required=True, help="the teacher that it was made from")
    parser.add_argument("--now", required=True, help="the same teacher, trained further")
    parser.add_argument("-o", "--out", type=Path, required=True, help="run folder")
    options = parser.parse_args()
    rebase(options.student, options.then, options.now, options.out)


if __name__ == "__main__":
    main()
