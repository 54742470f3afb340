"""The DiT as a step function for sampling: the same mathematics as `DiT.forward`, arranged for one denoising loop.

Computed once for all loops: packed weights, and for each grid of patches rotary tables with the query and key scales
and 1 / sqrt(d) folded in. Once for a loop: text keys and values of every block, the modulation rows of every evaluation
time. What is left in a step: two norms, five matrix products and one attention a block. A test holds it against the
plain forward.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.nets import fast
from genctl.nets.dit import Block, DiT
from genctl.nets.heads import by_frame, head_norm, merge, norm, together
from genctl.nets.rotary import rotary


@dataclass
class PackedBlock:
    """One block's weights, packed, in the sampling dtype."""

    block: Any
    qkv: fast.Linear
    out: fast.Linear
    gate: fast.Linear
    up: Callable[[Tensor, Tensor], Tensor]  # (x, gate) -> up(x) * gate
    down: fast.Linear
    cross_q: fast.Linear | None
    cross_out: fast.Linear | None
    time_qkv: fast.Linear | None = None
    time_out: fast.Linear | None = None


def pack_block(block: Any, dtype: torch.dtype) -> PackedBlock:
    """Of a block with the layers qkv, out, gate_up and down, and for cross-attention cross_q and cross_out."""

    def of(layer: torch.nn.Linear) -> fast.Linear:
        return fast.linear(layer.weight.detach().to(dtype))

    gate, up = block.gate_up.weight.detach().to(dtype).chunk(2)
    gated = fast.linear(gate.contiguous(), activation="swish"), fast.linear_times(up.contiguous())
    cross = (of(block.cross_q), of(block.cross_out)) if block.text == "cross" else (None, None)
    time = (of(block.time_qkv), of(block.time_out)) if getattr(block, "factorised", False) else (None, None)
    return PackedBlock(block, of(block.qkv), of(block.out), *gated, of(block.down), *cross, *time)


@dataclass
class Packed:
    """What all loops of a process share."""

    blocks: list[PackedBlock]
    modulation: Tensor  # the blocks' own, [blocks, 6, D]
    text_kv: fast.Linear | None  # text -> keys and values of all blocks, D -> blocks * 2 D
    text_scale: Tensor  # of text keys, [blocks, 1, 1, 1, d]
    skips: list[fast.Linear]
    tables: dict[tuple[Any, ...], list[Tensor]] = field(default_factory=dict)  # of each grid that was drawn: by block
    plain_tables: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)  # RoPE's own


def pack(net: DiT, dtype: torch.dtype) -> Packed:
    """Pack every block's matrices for inference in `dtype`."""
    blocks = [block for block in net.blocks if isinstance(block, Block)]
    packed = [pack_block(block, dtype) for block in blocks]
    text_kv = None
    if net.config.text != "none":
        text_kv = fast.linear(torch.cat([block.text_kv.weight.detach() for block in blocks]).to(dtype))
    text_scale = torch.stack([block.qk_scale[1].detach() for block in blocks])[:, None, None, None].to(dtype)
    skips = [fast.linear(layer.weight.detach().to(dtype)) for layer in net.skips if isinstance(layer, torch.nn.Linear)]
    return Packed(packed, torch.stack([block.table.detach() for block in blocks]), text_kv, text_scale, skips)


def by_row(function: Callable[..., Any], *arguments: Tensor) -> Any:
    """`function` of each row alone, results joined: the rounding of a row must not depend on the batch it came in."""
    made = [function(*(argument[[row]] for argument in arguments)) for row in range(len(arguments[0]))]
    if isinstance(made[0], tuple):
        return tuple(torch.cat(parts) for parts in zip(*made, strict=True))
    return torch.cat(made)


class Loop:
    """One denoising loop over B pictures: conditions and evaluation times are known, x_t comes at each step.

    states [R, L, T], present [R, L], pooled [R, T] are the conditions of R = B rows, or of R = 2 B (the conditional
    ones, then the unconditional ones); None for a net without text. times: [K] evaluation times, scalars: [K, S] what
    the net is conditioned on at each; trained: the shape of one x that it was trained on; coarse: whether the times are
    those of coarse patches.
    """

    def __init__(
        self, net: DiT, packed: Packed, dtype: torch.dtype, shape: tuple[int, ...], times: Tensor,
        states: Tensor | None = None, present: Tensor | None = None, pooled: Tensor | None = None,
        scalars: Tensor | None = None, trained: tuple[int, ...] | None = None, coarse: bool = False,
    ) -> None:  # fmt: skip
        config, self.cut = net.config, net.cut(coarse)
        self.net, self.packed, self.dtype = net, packed, dtype
        self.rows = shape[0] if states is None else len(states)
        self.shape, self.pictures = shape, shape[0]
        self.grid = net.grid(torch.empty(shape, device="meta"), self.cut.patch)
        self.frames = self.grid[0] if config.attention == "factorised" and net.axes == 3 else 1  # apart from each other
        device = net.embed.weight.device
        given = None if scalars is None else scalars.to(device, torch.float32)
        self.modulations = self._modulations(times.to(device), pooled, present, given)
        if (self.grid, coarse) not in packed.tables:
            known = None if trained is None else net.grid(torch.empty(1, *trained, device="meta"), self.cut.patch)
            table = rotary(self.grid, config.width // config.heads, device, known, self.cut.step)  # [2, N, d]
            packed.tables[self.grid, coarse] = [self._fold(p.block, table) for p in packed.blocks]
            packed.plain_tables[self.grid, coarse] = table.to(dtype)
        self.tables, self.plain_table = packed.tables[self.grid, coarse], packed.plain_tables[self.grid, coarse]
        self.keys = None if states is None or present is None else self._text_buffers(states, present)
        self.embed, self.last = (
            (layer.weight.to(dtype), layer.bias.to(dtype)) for layer in (self.cut.embed, self.cut.last)
        )

    def _modulations(
        self, times: Tensor, pooled: Tensor | None, present: Tensor | None, scalars: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """[K, blocks, 6, R, 1, D] and the last layer's [K, 2, R, 1, D], scales as 1 + scale, in the sampling dtype."""
        net, rows, count = self.net, self.rows, len(times)
        t = times.float()
        if pooled is None or present is None:
            c = net.condition(t, None, None, scalars)[:, None].expand(-1, rows, -1)  # [K, R, D]
        else:
            pooled = pooled.to(net.pooled_in.weight.dtype)
            c = torch.stack(
                [net.condition(t, pooled[[row]], present[[row]], scalars) for row in range(rows)], 1
            )  # each row alone: a product's rounding may depend on how many rows it has
        shared = torch.stack([net.modulation(c[:, row]) for row in range(rows)], 1)  # [K, R, 6 D]
        shared = shared.view(count, 1, rows, 6, -1).transpose(2, 3)  # [K, 1, 6, R, D]
        every = shared + self.packed.modulation[None, :, :, None]
        every[:, :, [1, 4]] += 1
        last = net.last_table[None, :, None] + c.view(count, 1, rows, -1)  # [K, 2, R, D]
        last[:, 1] += 1
        return every[..., None, :].to(self.dtype), last[..., None, :].to(self.dtype)

    def _fold(self, block: Block, table: Tensor) -> Tensor:
        """(first, second) [2, 2, 1, 1, N, d], of (q, k): rotate(n * scale) = n * first + roll(n, d / 2) * second."""
        cos, sin = table
        scale = block.qk_scale.float() * torch.tensor([[self._root(block)], [1.0]], device=table.device)
        half = scale.shape[-1] // 2
        swapped = torch.cat([-scale[:, half:], scale[:, :half]], -1)
        both = torch.stack([scale[:, None] * cos, swapped[:, None] * sin])  # [2, 2, N, d]
        return both[:, :, None, None].to(self.dtype)

    def _root(self, block: Block) -> float:
        """1 / sqrt(d), folded into the queries where attention is two plain products."""
        return (self.net.config.width // block.heads) ** -0.5 if self.products else 1.0

    @property
    def products(self) -> bool:
        """Whether attention is two plain products (bf16 on a CPU, few tokens); see nets/fast.py."""
        few = math.prod(self.grid) // self.frames + self.net.config.text_slots <= fast.SCORES_MOST
        return few and self.dtype == torch.bfloat16 and self.net.embed.weight.device.type == "cpu"

    def _text_buffers(self, states: Tensor, present: Tensor) -> Tensor:
        """Every block's keys and values [blocks, 2, R, H, L + N, d]: joint attention, with the text's in place; for
        cross-attention the text's alone [blocks, 2, R, H, L, d]."""
        net, packed, (rows, slots) = self.net, self.packed, present.shape
        assert packed.text_kv is not None
        text = by_row(net.text_tokens, states.to(net.text_in.weight.dtype), present).to(self.dtype)  # [R, L, D]
        made = by_row(packed.text_kv, text)
        made = (
            made.view(rows, slots, len(packed.blocks), 2, net.config.heads, -1).permute(2, 3, 0, 4, 1, 5).contiguous()
        )
        room = 0 if net.config.text == "cross" else math.prod(self.grid) // self.frames
        buffers = made.new_zeros(*made.shape[:4], slots + room, made.shape[-1])
        buffers[:, 0, :, :, :slots] = head_norm(made[:, 0]) * packed.text_scale
        buffers[:, 1, :, :, :slots] = made[:, 1]
        return buffers

    def __call__(self, x_t: Tensor, k: int, both: bool) -> Tensor:
        """x_t [B, C, *grid] at the k-th time -> prediction [B, ...], or for `both` halves [2 B, ...]."""
        return self.step(x_t, *self.rows_of(k, both))

    def alone(self, picture: int) -> Loop:
        """The same loop over one of its pictures."""
        rows = torch.arange(picture, self.rows, self.pictures)
        every, last = self.modulations
        made = copy.copy(self)
        made.rows, made.pictures = len(rows), 1
        made.modulations = every[:, :, :, rows].contiguous(), last[:, :, rows].contiguous()
        made.keys = None if self.keys is None else self.keys[:, :, rows].contiguous()
        return made

    def rounds_alike(self) -> bool:
        """Whether this machine's kernels round a picture among these as they would alone: tried on the first block and
        on the last layer, at their real shapes. Products in bf16 often don't: their tiles depend on the number of rows
        (AMX)."""
        probe = copy.copy(self)
        probe.packed = replace(self.packed, blocks=self.packed.blocks[:1], skips=[])
        x_t = torch.randn(self.shape, generator=torch.Generator().manual_seed(0))
        for both in {False, self.rows > self.pictures}:
            together = probe(x_t, 0, both)
            for picture in {0, self.pictures - 1}:
                one = probe.alone(picture)(x_t[[picture]], 0, both)
                if not torch.equal(together[picture :: self.pictures], one):
                    return False
        return True

    def rows_of(self, k: int, both: bool) -> tuple[Tensor, Tensor]:
        """Modulation at the k-th time: of every block [blocks, 6, R, 1, D] and of the last layer [2, R, 1, D]."""
        rows = self.rows if both else self.pictures
        every, last = self.modulations
        return every[k, :, :, :rows], last[k, :, :rows]

    def step(self, x_t: Tensor, every: Tensor, last: Tensor) -> Tensor:
        """The prediction from x_t and the rows of its time; with fewer pictures than rows, they are repeated."""
        rows = every.shape[2]
        tokens = F.linear(self.net.patchify(x_t.to(self.dtype), self.cut.patch), *self.embed)
        if rows != len(tokens):
            tokens = tokens.repeat(rows // len(tokens), 1, 1)
        skips, kept = self.packed.skips, list[Tensor]()
        for index, packed in enumerate(self.packed.blocks):
            if index < len(skips):
                kept.append(tokens)
            elif index >= len(self.packed.blocks) - len(skips):
                tokens = tokens + skips[len(kept) - 1](norm(kept.pop()))
            text = None if self.keys is None else self.keys[index, :, :rows]
            tokens = self._block(packed, tokens, every[index], text, self.tables[index])
        shift, scale = last
        out = F.linear(torch.addcmul(shift, norm(tokens), scale), *self.last)
        return self.net.unpatchify(out.float(), self.grid, self.cut.patch)

    def _block(self, packed: PackedBlock, x: Tensor, modulation: Tensor, text: Tensor | None, table: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        block = packed.block
        qkv = block.split(packed.qkv(torch.addcmul(shift1, norm(x), scale1)), 3)  # [3, R, H, N, d]
        first, second = table
        turned = head_norm(qkv[:2])
        q, k = torch.addcmul(turned * first, turned.roll(turned.shape[-1] // 2, -1), second)
        v, frames = qkv[2], self.frames
        if frames > 1:
            q, k, v = (by_frame(part, frames) for part in (q, k, v))
        if text is not None and block.text == "joint":
            slots = text.shape[3] - k.shape[2]
            text = text if frames == 1 else text.repeat_interleave(frames, 1)
            text[0, :, :, slots:], text[1, :, :, slots:] = k, v
            k, v = text
        attended = self._attend(q, k, v)
        x = torch.addcmul(x, gate1, packed.out(merge(attended if frames == 1 else together(attended, frames))))
        if packed.time_qkv is not None and packed.time_out is not None:
            x = x + block.in_time(x, self.plain_table, frames, packed.time_qkv, packed.time_out)
        if text is not None and packed.cross_q is not None and packed.cross_out is not None:
            (q,) = block.split(packed.cross_q(norm(x)), 1)
            q = head_norm(q) * block.qk_scale[0].to(self.dtype) * self._root(block)
            x = x + packed.cross_out(merge(self._attend(q, *text)))
        normed = torch.addcmul(shift2, norm(x), scale2)
        return torch.addcmul(x, gate2, packed.down(packed.up(normed, packed.gate(normed))))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not self.products:
            return F.scaled_dot_product_attention(q, k, v)
        scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))  # 1 / sqrt(d) is in q
        return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view(q.shape)


class TwoLoops:
    """One loop whose times want fine patches here and coarse ones there: called and probed as either of the two."""

    def __init__(self, make: Callable[[Tensor, bool], Any], coarse: Tensor) -> None:
        """`make` gives the loop of some of the K times, by their places and whether they are coarse; coarse: [K]."""
        self.loops = {kind: make((coarse == kind).nonzero()[:, 0], kind) for kind in (False, True)}
        self.kinds = coarse.tolist()
        self.places = [self.kinds[:k].count(kind) for k, kind in enumerate(self.kinds)]  # among those of its kind

    def __call__(self, x_t: Tensor, k: int, both: bool) -> Tensor:
        return self.loops[self.kinds[k]](x_t, self.places[k], both)

    def rounds_alike(self) -> bool:
        return all(loop.rounds_alike() for loop in self.loops.values())
