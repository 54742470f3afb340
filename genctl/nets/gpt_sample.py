"""The token transformer as a step function for sampling: the same mathematics as `GPT.forward`, with a cache of keys
and values that lies still, packed weights, and conditions computed once. A test holds it against the plain forward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.nets import fast
from genctl.nets.dit import head_norm, merge, norm
from genctl.nets.dit_sample import by_row
from genctl.nets.gpt import GPT, Block


@dataclass
class PackedBlock:
    """One block's weights, packed, in the sampling dtype."""

    block: Block
    qkv: fast.Linear
    out: fast.Linear
    gate: fast.Linear
    up: Callable[[Tensor, Tensor], Tensor]  # (x, gate) -> up(x) * gate
    down: fast.Linear
    cross_q: fast.Linear | None
    cross_out: fast.Linear | None
    scale: Tensor  # [2, 1, 1, 1, d] of normalised queries, with 1 / sqrt(d), and keys


@dataclass
class Packed:
    """What all pictures of a process share."""

    blocks: list[PackedBlock]
    last: fast.Linear
    table: Tensor  # RoPE of all places [2, N, d]
    dtype: torch.dtype


def pack(net: GPT, dtype: torch.dtype) -> Packed:
    """Pack every block's matrices for inference in `dtype`."""

    def of(weight: Tensor, activation: str = "none") -> fast.Linear:
        return fast.linear(weight.detach().to(dtype), activation=activation)

    packed = []
    for block in net.blocks:
        assert isinstance(block, Block)
        gate, up = block.gate_up.weight.detach().to(dtype).chunk(2)
        cross, depth = block.text == "cross", net.config.width // block.heads
        scale = block.qk_scale.detach() * torch.tensor([[depth**-0.5], [1.0]], device=block.qk_scale.device)
        packed.append(
            PackedBlock(
                block, of(block.qkv.weight), of(block.out.weight), of(gate.contiguous(), "swish"),
                fast.linear_times(up.contiguous()), of(block.down.weight),
                of(block.cross_q.weight) if cross else None, of(block.cross_out.weight) if cross else None,
                scale[:, None, None, None].to(dtype),
            )
        )  # fmt: skip
    last = fast.linear(net.last.weight.detach().to(dtype), net.last.bias.detach().to(dtype))
    every = torch.arange(net.count, device=net.places.device)[None]
    return Packed(packed, last, net.table(every, 0)[:, 0, 0].to(dtype), dtype)


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
        text = by_row(net.text_tokens, states.to(wide), present).to(dtype)
        if net.config.text == "cross":
            self.text = [by_row(one.block.text_keys, text) for one in packed.blocks]
            return
        still = packed.table.new_zeros(2, text.shape[1], packed.table.shape[-1])
        still[0] = 1
        self._through(text, still)
        self.filled = text.shape[1]

    def __call__(self, known: Tensor, at: Tensor, keep: bool = True) -> Tensor:
        """Elements [B, m, D] that form one block, asked for places [m] -> logits [R, m, V]. With `keep` later blocks
        see them, else they are forgotten."""
        known = known.to(self.packed.dtype)
        if len(known) != self.rows:
            known = known.repeat(self.rows // len(known), 1, 1)
        x = self._through(known + self.asked[at] + self.whole, self.packed.table[:, at])
        if keep:
            self.filled += len(at)
        return self.packed.last(norm(x)).float()

    def _through(self, x: Tensor, table: Tensor) -> Tensor:
        """x [R, m, D] through all blocks; its keys and values lie behind those that are kept."""
        stop = self.filled + x.shape[1]
        for index, packed in enumerate(self.packed.blocks):
            q, k, v = packed.block.split(packed.qkv(norm(x)), 3)
            qk = head_norm(torch.stack([q, k])) * packed.scale
            q, k = qk * table[0] + halves_turned(qk) * table[1]
            cache = self.keys[index]
            cache[0, :, :, self.filled : stop], cache[1, :, :, self.filled : stop] = k, v
            x = x + packed.out(merge(attend(q, cache[0, :, :, :stop], cache[1, :, :, :stop])))
            if self.text is not None and packed.cross_q is not None and packed.cross_out is not None:
                (q,) = packed.block.split(packed.cross_q(norm(x)), 1)
                x = x + packed.cross_out(merge(attend(head_norm(q) * packed.scale[0], *self.text[index])))
            normed = norm(x)
            x = x + packed.down(packed.up(normed, packed.gate(normed)))
        return x


def halves_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v; 1 / sqrt(d) is in q [R, H, m, d]. Keys are a part of the cache, so two plain products beat the
    fused kernel, which wants them apart."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(q.shape)
