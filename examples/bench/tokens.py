"""Drawing tokens beside transformers' `generate`: GPT-2's network of the same width, depth and heads, random weights.

    pip install 'genctl[peer]'
    python examples/bench/tokens.py [--threads 2] [--rounds 7] [--tokens 64]

One picture and sixteen, guidance as a batch of two, sixteen text slots before the picture; alternating rounds in one
process, medians of the paired ratios. The peer draws its rows independently (its own guidance runs the two halves one
after the other, which would be slower); both sample. Then our three orders, seconds a picture: raster is the 64 tokens
of one grid, masked the same in 12 passes, scale the grids 1, 2, 4, 8 in four.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from genctl.families.tokens.orders import Masked, Order, Raster, Scale
from genctl.families.tokens.sample import draw
from genctl.families.tokens.settings import TokenOptions
from genctl.nets.gpt import GPT, GPTConfig
from genctl.nets.gpt_sample import pack

WIDTH, DEPTH, HEADS, CODES, SLOTS = 384, 12, 6, 1024, 16
Run = Callable[[], object]
SETTLED = replace(TokenOptions(), cfg=3.0, temperature=1.0, top_k=0, top_p=1.0, passes=12)


def ours(order: Order, pictures: int, dtype: torch.dtype) -> Run:
    features = 8 if isinstance(order, Scale) else 0
    net = GPT(GPTConfig(WIDTH, DEPTH, HEADS, text_slots=SLOTS), CODES, order.places(), features).eval()
    packed, rows = pack(net, dtype), 2 * pictures
    conditions = torch.randn(rows, SLOTS, 384), torch.ones(rows, SLOTS, dtype=torch.bool), torch.randn(rows, 384)
    numbers, side = torch.randn(pictures, order.count), order.grids[-1][0]
    vectors = torch.randn(pictures, features, side, side)  # the quantiser's part, in the order by scale, is not timed

    def run() -> object:
        return [*draw(net, packed, order, SETTLED, conditions, numbers, lambda *_: vectors)][-1]

    return run


def theirs(tokens: int, pictures: int, dtype: torch.dtype) -> Run:
    config = GPT2Config(
        vocab_size=CODES, n_positions=tokens + SLOTS, n_embd=WIDTH, n_layer=DEPTH, n_head=HEADS, bos_token_id=0,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    net = GPT2LMHeadModel(config).eval().to(dtype)
    prompt = torch.randint(CODES, (2 * pictures, SLOTS))
    return lambda: net.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, do_sample=True, top_k=0
    )


@torch.inference_mode()
def seconds(run: Run) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64, help="a square number")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    dtype, side = {"fp32": torch.float32, "bf16": torch.bfloat16}[given.dtype], round(given.tokens**0.5)
    grids = [(2**level, 2**level) for level in range(side.bit_length())]
    orders = {"raster": Raster([(side, side)]), "masked": Masked([(side, side)]), "scale": Scale(grids)}
    print(f"{given.tokens} tokens, {given.dtype}, {given.threads} threads\n")
    heads = ("pictures", "transformers, s", "raster", "times as fast", "masked, 12 passes", "by scale")
    print(f"| {' | '.join(heads)} |\n" + "| --- " * len(heads) + "|")
    for pictures in (1, 16):
        runs = {"theirs": theirs(given.tokens, pictures, dtype)}
        runs |= {name: ours(order, pictures, dtype) for name, order in orders.items()}
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for round_ in range(given.rounds + 1):
            for name, run in runs.items():
                found = seconds(run)
                if round_:  # the first warms up
                    taken[name].append(found)
        ratio = statistics.median(a / b for a, b in zip(taken["theirs"], taken["raster"], strict=True))
        middle = {name: statistics.median(times) for name, times in taken.items()}
        print(
            f"| {pictures} | {middle['theirs']:.3f} | {middle['raster']:.3f} | {ratio:.2f}x | {middle['masked']:.3f} | "
            f"{middle['scale']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
