"""The same minutes, data and size given to diffusers' UNet2DModel with its DDPM training, and to `train --model rf`.

python examples/bench/unet.py /usr/share/datasets/fashion-mnist --minutes 10 --pixels 28        (needs the extra `peer`)

The peer is trained as in diffusers' example train_unconditional.py: predicted noise, 1,000 linear betas, AdamW at 1e-4
(and at genctl's rate), cosine schedule with warm-up, EMA; under bf16 autocast like genctl. It samples by DDIM with as
many evaluations as ours. Frechet and kernel distance of each by the same extractor, against the same pictures; the
weights that it trains stay in the run folder, for `genctl eval RUN pictures/ --bpd`.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor

from genctl.data.pictures import DataConfig, Pictures, load
from genctl.families.flow.options import FlowOptions
from genctl.families.saved import load as load_model
from genctl.metrics.samples import distances, draw_like

WIDTHS = {28: (64, 128), 32: (64, 128), 64: (64, 96, 160)}
BATCH = 64


def peer(pixels: int) -> UNet2DModel:
    widths = WIDTHS[pixels]
    down = ["DownBlock2D"] * (len(widths) - 1) + ["AttnDownBlock2D"]
    return UNet2DModel(
        sample_size=pixels, block_out_channels=widths, layers_per_block=1, norm_num_groups=16,
        down_block_types=down, up_block_types=["AttnUpBlock2D"] + ["UpBlock2D"] * (len(widths) - 1),
    )  # fmt: skip


def train_peer(net: UNet2DModel, pictures: Pictures, minutes: float, rate: float) -> UNet2DModel:
    """diffusers' recipe until the time is over; returns the averaged network."""
    pixels, scheduler = pictures.pixels, DDPMScheduler(num_train_timesteps=1000)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.95, 0.999), weight_decay=1e-6, fused=True)
    average, step, start, per_step = copy.deepcopy(net), 0, time.monotonic(), 0.0
    schedule = None
    while (spent := time.monotonic() - start) < 60 * minutes:
        if step == 20:  # now the number of steps that the time allows is known
            per_step = spent / step
            total = int(60 * minutes / per_step)
            schedule = get_cosine_schedule_with_warmup(optimiser, min(500, total // 10), total)
        x = pixels[torch.randint(len(pixels), (BATCH,))].float() / 127.5 - 1
        z, t = torch.randn_like(x), torch.randint(0, 1000, (BATCH,))
        with torch.autocast("cpu", torch.bfloat16):
            loss = (net(scheduler.add_noise(x, z, t), t).sample.float() - z).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if schedule:
            schedule.step()
        step += 1
        decay = min(0.9999, (1 + step) / (10 + step))
        with torch.no_grad():
            for a, p in zip(average.parameters(), net.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        if step % 50 == 0:
            print(f"peer step {step}, loss {float(loss):.4f}, {BATCH * step / spent:.0f} images/s", file=sys.stderr)
    return average.eval()


@torch.inference_mode()
def sample_peer(net: UNet2DModel, count: int, pixels: int, steps: int) -> Tensor:
    scheduler = DDIMScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(steps)
    parts = []
    for start in range(0, count, BATCH):
        x = torch.randn(min(BATCH, count - start), 3, pixels, pixels)
        for t in scheduler.timesteps:
            with torch.autocast("cpu", torch.bfloat16):
                noise = net(x, t).sample.float()
            x = scheduler.step(noise, t, x).prev_sample
        parts.append(x.clamp(-1, 1))
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--pixels", type=int, default=32, choices=WIDTHS)
    parser.add_argument("--count", type=int, default=1000, help="pictures to draw")
    parser.add_argument("--against", type=int, default=8000, help="real pictures to compare with, at most")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1e-3])
    parser.add_argument("--run", type=Path, default=Path("runs/bench-rf"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pictures = load(arguments.data, arguments.pixels, DataConfig())
    training, compared = pictures.split(False), pictures.spread(arguments.against)
    preset = "cpu" if arguments.pixels == 64 else "cpu32"
    command = [
        sys.executable,
        "-m",
        "genctl",
        "train",
        "--model",
        "rf",
        str(arguments.data),
        "--preset",
        preset,
        "--init",
        "none",
    ]
    command += [
        "--set",
        f"model.pixels={arguments.pixels}",
        "--set",
        "model.condition=none",
        "--minutes",
        str(arguments.minutes),
        "-o",
        str(arguments.run),
    ]
    subprocess.run(command, check=True)
    ours = load_model(str(arguments.run))
    options = FlowOptions(steps=arguments.steps, solver="euler")
    made = draw_like(ours, training, arguments.count, options, lambda done, total: None)
    rows = {"genctl rf": (sum(p.numel() for p in ours.net.parameters()), distances(ours, made, compared))}
    for rate in arguments.rates:
        net = peer(arguments.pixels)
        trained = train_peer(net, training, arguments.minutes, rate)
        made = sample_peer(trained, arguments.count, arguments.pixels, arguments.steps)
        size = sum(p.numel() for p in net.parameters())
        rows[f"diffusers UNet2DModel, {rate:g}"] = (size, distances(ours, made, compared))
    for name, (size, found) in rows.items():
        print(json.dumps({"model": name, "parameters": size} | found))


if __name__ == "__main__":
    main()
