"""The token transformer as a step function for sampling: the same mathematics as `GPT.forward`, with a cache of keys
and values that lies still, packed weights, and conditions computed once. A test holds it against the plain forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.nets import fast, heads
from genctl.nets.dit_sample import PackedBlock, by_row, pack_block
from genctl.nets.gpt import GPT, Block
from genctl.nets.heads import merge

EPS = torch.tensor(1e-6)


@dataclass
class Turned:
    """A packed block, and RoPE of its normalised queries and keys with their scales and 1 / sqrt(d) folded in."""

    weights: PackedBlock
    turn: Tensor  # [2, 2, N, 1, d]
    still: Tensor  # of what is not turned: text [2, 2, 1, 1, d]


@dataclass
class Packed:
    """What all pictures of a process share."""

    blocks: list[Turned]
    last: fast.Linear
    dtype: torch.dtype


def pack(net: GPT, dtype: torch.dtype) -> Packed:
    """Pack every block's matrices for inference in `dtype`."""
    table = net.table(torch.arange(net.count, device=net.places.device)[None], 1)[:, 0, 0]  # [2, 1 + N, d]
    blocks = []
    for block in net.blocks:
        assert isinstance(block, Block)
        turn = folded(block, table).to(dtype)
        blocks.append(Turned(pack_block(block, dtype), turn[:, :, 1:], turn[:, :, :1]))
    return Packed(blocks, fast.linear(net.last.weight.detach().to(dtype), net.last.bias.detach().to(dtype)), dtype)


def folded(block: Block, table: Tensor) -> Tensor:
    """RoPE's table [2, N, d] -> (first, second) [2, 2, N, 1, d], of (queries, keys): what turns a normalised n is
    n * first + roll(n, d / 2) * second."""
    depth = table.shape[-1]
    scale = block.qk_scale.detach() * torch.tensor([[depth**-0.5], [1.0]], device=table.device)  # [2, d]
    swapped = torch.cat([-scale[:, depth // 2 :], scale[:, : depth // 2]], -1)
    return torch.stack([scale[:, None] * table[0], swapped[:, None] * table[1]])[:, :, :, None]


class Cached:
    """One drawing of B pictures. states [R, L, T], present [R, L], pooled [R, T] are the conditions of R = B rows, or
    of R = 2 B (the conditional ones, then the unconditional ones); None for a net without text."""

    def __init__(
        self, net: GPT, packed: Packed, rows: int, states: Tensor | None = None, present: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.net, self.packed, self.rows, self.filled = net, packed, rows, 0
        heads, dtype = net.config.heads, packed.dtype
        room = net.config.prefix + net.count
        self.keys = torch.zeros(
            len(packed.blocks), 2, rows, heads, room, net.config.width // heads, dtype=dtype, device=net.places.device
        )
        self.asked = net.asked_at.weight.detach().to(dtype)
        self.whole: Tensor | float = 0.0
        self.text: list[tuple[Tensor, Tensor]] | None = None
        if states is None or present is None or pooled is None:
            return
        wide = net.pooled_in.weight.dtype
        self.whole = by_row(net.whole, present, pooled.to(wide)).to(dtype)  # [R, 1, D]
        text = by_row(net.text_tokens, states.to(wide), present)
        if net.config.text == "cross":
            made = (by_row(one.weights.block.text_keys, text) for one in packed.blocks)
            self.text = [(k.to(dtype), v.to(dtype)) for k, v in made]
            return
        self._through(text.to(dtype), None)
        self.filled = text.shape[1]

    def __call__(self, known: Tensor, at: Tensor, keep: bool = True) -> Tensor:
        """Elements [B, m, D] that form one block, asked for places [m] -> logits [R, m, V]. With `keep` later blocks
        see them, else they are forgotten."""
        known = known.to(self.packed.dtype)
        if len(known) != self.rows:
            known = known.repeat(self.rows // len(known), 1, 1)
        x = self._through(known + self.asked[at] + self.whole, at)
        if keep:
            self.filled += len(at)
        return self.packed.last(norm(x)).float()

    def _through(self, x: Tensor, at: Tensor | None) -> Tensor:
        """x [R, m, D], asked for places [m] (None: text), through all blocks; its keys and values lie behind those that
        are kept."""
        rows, count, _ = x.shape
        start, stop = self.filled, self.filled + count
        for index, turned in enumerate(self.packed.blocks):
            packed = turned.weights
            qkv = packed.qkv(norm(x)).view(rows, count, 3, packed.block.heads, -1).permute(2, 0, 1, 3, 4)
            first, second = turned.still if at is None else turned.turn[:, :, at]  # [2, m, 1, d] each
            normed = head_norm(qkv[:2])  # [2, R, m, H, d]
            q, k = torch.addcmul(normed * first[:, None], normed.roll(normed.shape[-1] // 2, -1), second[:, None])
            cache = self.keys[index]
            cache[0, :, :, start:stop], cache[1, :, :, start:stop] = k.transpose(1, 2), qkv[2].transpose(1, 2)
            seen = attend(q.transpose(1, 2), cache[0, :, :, :stop], cache[1, :, :, :stop])
            x = x + packed.out(merge(seen))
            if self.text is not None and packed.cross_q is not None and packed.cross_out is not None:
                (q,) = packed.block.split(packed.cross_q(norm(x)), 1)
                q = head_norm(q) * (packed.block.qk_scale[0] * q.shape[-1] ** -0.5).to(q.dtype)
                x = x + packed.cross_out(merge(attend(q, *self.text[index])))
            normed = norm(x)
            x = x + packed.down(packed.up(normed, packed.gate(normed)))
        return x


def norm(x: Tensor) -> Tensor:
    """nets/heads.py's, in fp32 on a CPU by hand: of a few rows F.rms_norm takes longer than the product after it."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return heads.norm(x)
    return x * torch.add(EPS, x.square().sum(-1, keepdim=True), alpha=1 / x.shape[-1]).rsqrt_()


def head_norm(x: Tensor) -> Tensor:
    return norm(x) if x.dtype == torch.float32 else heads.head_norm(x)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v; 1 / sqrt(d) is in q [R, H, m, d]. Keys are a part of the cache, so two plain products beat the
    fused kernel, which wants them apart."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(q.shape)
