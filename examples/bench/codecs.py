"""Picture codecs side by side, at the bits that their codes take: what comes back, and how the codes are used.

    python examples/bench/codecs.py data/emoji runs/fsq runs/vq vae:3 vae --pixels 64

MODEL, or MODEL:LEVELS for a continuous codec whose numbers are rounded to so many levels, evenly spaced as suits a
normal distribution (Max, 1960), which is what its bits are counted of. Figures are means over `--limit` held-out
pictures; the Frechet distance is that of the pictures to themselves as they come back. Use and perplexity: of the codes
of as many training pictures, all of them and not a batch.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from genctl.data.pictures import DataConfig, Pictures, load
from genctl.families.base import Family
from genctl.families.eyes import lpips
from genctl.families.saved import load as load_model
from genctl.metrics.distance import frechet
from genctl.metrics.features import extractor, features_of
from genctl.nets.lpips import psnr
from genctl.nets.quantise import perplexity
from genctl.sizes import Size

STEPS = {2: 1.596, 3: 1.224, 4: 0.9957, 5: 0.843, 6: 0.7334, 7: 0.6508, 8: 0.586, 16: 0.3352}  # of a unit normal


def rounded(codes: Tensor, levels: int) -> Tensor:
    """Normalised codes at the nearest of `levels` evenly spaced values around 0."""
    step, middle = STEPS[levels], (levels - 1) / 2
    return ((codes / step + middle).round().clamp(0, levels - 1) - middle) * step


def floats(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


@torch.inference_mode()
def row(model: Family, levels: str, held: Tensor, trained: Tensor) -> str:
    made, bits, use = [], math.nan, "| "
    for chunk in held.split(16):
        codes = model.encode(floats(chunk))
        if codes.is_floating_point():
            cells = codes[0].numel()
            bits = cells * math.log2(int(levels)) if levels else math.inf
            codes = rounded(codes, int(levels)) if levels else codes
        else:
            bits = codes[0].numel() * math.log2(model.config.quantiser.count)  # type: ignore[attr-defined]
        made.append(model.decode(codes).cpu())
    if not codes.is_floating_point():
        count = model.config.quantiser.count  # type: ignore[attr-defined]
        every = torch.cat([model.encode(floats(chunk)).flatten() for chunk in trained.split(16)])
        use = f"{100 * len(every.unique()) / count:.1f} | {float(perplexity(every.long(), count)):.0f}"
    out, real, eyes, net = torch.cat(made), floats(held), lpips(), extractor(model.device)
    out = ((out + 1) * 127.5).round() / 127.5 - 1
    far = sum(float(eyes(a, b).sum()) for a, b in zip(out.split(16), real.split(16), strict=True)) / len(real)
    distance = frechet(features_of(net, out), features_of(net, real))
    return f"{bits:.0f} | {float(psnr(out, real).mean()):.2f} | {far:.4f} | {distance:.1f} | {use}"


def shuffled(pictures: Pictures, most: int) -> Tensor:
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    return pictures.pixels[order[:most]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", help="MODEL or MODEL:LEVELS")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pictures = load(given.data, Size(given.pixels, given.pixels), DataConfig())
    held, trained = shuffled(pictures.split(True), given.limit), shuffled(pictures.split(False), 4 * given.limit)
    print("| codec | bits a picture | PSNR, dB | LPIPS | Frechet | codes used, % | perplexity |\n" + "| --- " * 7 + "|")
    for name in given.models:
        path, _, levels = name.partition(":")
        print(f"| {name} | {row(load_model(path), levels, held, trained)} |", flush=True)


if __name__ == "__main__":
    main()
