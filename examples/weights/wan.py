"""Wan 2.1's video codec as a genctl model file (Apache-2.0; its weights are not shipped).

hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers vae/diffusion_pytorch_model.safetensors --local-dir wan
python examples/weights/wan.py wan/vae/diffusion_pytorch_model.safetensors wan.safetensors
genctl encode clip.mp4 --model ./wan.safetensors -o - | genctl decode - --model ./wan.safetensors -o back.mp4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from genctl import files
from genctl.families.clipvae import ClipNetConfig, ClipVAE, ClipVAEConfig
from genctl.families.saved import kept, save
from genctl.nets.wan import MEAN, SHAPE, STD, from_wan


def converted(source: Path) -> ClipVAE:
    """The codec of a published file."""
    theirs, _ = files.load_tensors(source)
    model = ClipVAE(ClipVAEConfig(480, frames=81, fps=16.0, net=ClipNetConfig(**SHAPE)))
    made = from_wan(model.encoder, model.decoder, theirs)
    for name in ("code", "later"):
        made |= {f"{name}_mean": torch.tensor(MEAN)[:, None, None], f"{name}_std": torch.tensor(STD)[:, None, None]}
    wanted = kept(model, model.state_dict())
    model.load_state_dict({key: made[key].reshape(value.shape).float() for key, value in wanted.items()}, strict=False)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    model = converted(given.source)
    tensors = {key: value.half() for key, value in kept(model, model.state_dict()).items()}
    save(model, given.out, tensors, {"title": "Wan 2.1's video codec", "licence": "Apache-2.0"})


if __name__ == "__main__":
    main()
