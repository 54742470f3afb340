"""Average the weights of two models of one training line: between a model and what a further method made of it lie
models that keep the better half of each (Wortsman et al. 2022, robust fine-tuning by interpolated weights).

    python examples/weights/average.py runs/leaping runs/smooth --share 0.45 -o runs/both

The header is the second's, with the first's hash and the second's share under `training.averaged`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from genctl import files, hub


def average(first: str, second: str, share: float, out: Path) -> None:
    """(1 - share) first + share second, tensor by tensor in float32, stored as the second is."""
    ours, one = files.load_tensors(hub.resolve(first))
    theirs, two = files.load_tensors(hub.resolve(second))
    if {key: tensor.shape for key, tensor in ours.items()} != {key: tensor.shape for key, tensor in theirs.items()}:
        raise SystemExit(f"{first} and {second} have different networks")
    if one.document.get("teacher", {}).get("sha256") != two.document.get("teacher", {}).get("sha256"):
        raise SystemExit(f"{first} and {second} have different teachers")
    if one.document["config"]["net"].get("scalars") != two.document["config"]["net"].get("scalars"):
        raise SystemExit(f"{first} and {second} are conditioned on different things")
    mean = {key: ours[key].float().lerp(tensor.float(), share).to(tensor.dtype) for key, tensor in theirs.items()}
    document = two.document | {"figures": {}}
    document["training"] = document.get("training", {}) | {
        "averaged": {"with": hub.plain_name(first), "sha256": files.tensors_sha256(ours), "share": share}
    }
    save(out, mean, two, document)


def save(out: Path, tensors: dict[str, Tensor], header: files.Header, document: dict[str, Any]) -> None:
    """A run folder with only a model file, whose header is `header` but for its document."""
    metadata = header.metadata | {
        "genctl": json.dumps(document, sort_keys=True, ensure_ascii=False),
        "modelspec.hash_sha256": "0x" + files.tensors_sha256(tensors),
    }
    out.mkdir(parents=True, exist_ok=True)
    files.save_tensors(out / "model.safetensors", tensors, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="run folder, model file or name")
    parser.add_argument("second", help="the same, of the same network and teacher")
    parser.add_argument("--share", type=float, default=0.5, help="how much of the second, 0 to 1")
    parser.add_argument("-o", "--out", type=Path, required=True, help="run folder")
    options = parser.parse_args()
    average(options.first, options.second, options.share, options.out)


if __name__ == "__main__":
    main()
