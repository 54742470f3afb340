"""The denoising loop beside diffusers': DiTTransformer2DModel of the same width, depth and tokens, random weights.

    pip install 'genctl[peer]'
    python examples/bench/loop.py [--threads 2] [--rounds 9]

20 Euler steps with guidance as one batch of two; alternating rounds in one process; medians of the paired ratios. Ours
has SwiGLU (2/3 x 4 wide: as many products as a GELU MLP of 4), rotary embedding, QK-norm and 16 text slots beside the
image tokens (which the peer, conditioned on a class, does not have).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DiTTransformer2DModel, FlowMatchEulerDiscreteScheduler

from genctl.diffusion import guide
from genctl.diffusion.path import PATHS
from genctl.diffusion.solve import SOLVERS
from genctl.diffusion.target import solve
from genctl.diffusion.time import grid
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.dit_sample import Loop, pack

WIDTH, DEPTH, HEADS, STEPS, CHANNELS = 384, 12, 6, 20, 4


def ours(side: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    net = DiT(DiTConfig(WIDTH, DEPTH, HEADS, patch=1), CHANNELS).eval()
    packed = pack(net, dtype)
    states, present, pooled = torch.randn(2, 16, 384), torch.ones(2, 16, dtype=torch.bool), torch.randn(2, 384)
    path, solver, times = PATHS["linear"], SOLVERS["euler"], grid(STEPS)
    evaluations = solver.evaluations(times, path)
    noise = torch.randn(1, CHANNELS, side, side)

    def run() -> torch.Tensor:
        loop = Loop(net, packed, dtype, noise.shape, evaluations, states, present, pooled)
        t = evaluations.float()

        def guesses(x_t: torch.Tensor, k: int, every: bool) -> list[torch.Tensor]:
            return [solve("velocity", path, x_t, part, t[k])[0] for part in loop(x_t, k, every).chunk(2)]

        denoise = guide.guided(guesses, guide.Guidance(4.0), path, t)
        *_, (x, _) = solver.run(denoise, noise, times, path, torch.Tensor)
        return x

    return run


def theirs(side: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    net = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=CHANNELS, out_channels=CHANNELS,
        num_layers=DEPTH, sample_size=side, patch_size=1,
    ).eval().to(dtype)  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler()
    noise = torch.randn(1, CHANNELS, side, side, dtype=dtype)
    labels = torch.tensor([1, 1000])

    def run() -> torch.Tensor:
        scheduler.set_timesteps(STEPS)
        x = noise
        for t in scheduler.timesteps:
            cond, uncond = net(torch.cat([x, x]), t.expand(2), labels).sample.chunk(2)
            x = scheduler.step(uncond + 4.0 * (cond - uncond), t, x).prev_sample
        return x

    return run


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    print("| tokens | diffusers fp32 | diffusers bf16 | genctl fp32 | genctl bf16 | bf16 against diffusers bf16 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side in (8, 16):
        torch.manual_seed(0)
        runs = [make(side, dtype) for make in (theirs, ours) for dtype in (torch.float32, torch.bfloat16)]
        for run in runs:
            run()
        rounds = []
        for _ in range(options.rounds):
            times = []
            for run in runs:
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            rounds.append(times)
        base = statistics.median(times[0] for times in rounds)
        ratios = [statistics.median(times[0] / times[index] for times in rounds) for index in range(1, 4)]
        both = statistics.median(times[1] / times[3] for times in rounds)
        shown = " | ".join(f"{ratio:.2f}x" for ratio in ratios)
        print(f"| {side * side} | {base:.2f} s, 1x | {shown} | {both:.2f}x |")


if __name__ == "__main__":
    main()
