"""A diffusion transformer for latents (DiT, arXiv:2212.09748) with text.

    tokens = patches of x_t -> width                              shapes: B rows, N image tokens, L text slots, D width
    c      = silu(embed(t) + embed(pooled text))                  one vector a row
    block  : x += gate * attention(norm(x) * scale + shift; text) adaLN: one projection of c shared by all blocks, plus
             x += gate * swiglu(norm(x) * scale + shift)          a learned table a block (PixArt's adaLN-single)
    out    = linear(norm(x) * scale + shift)

With `skips` a block of the second half also gets what its mirror in the first half got (U-ViT, arXiv:2209.12152).
Above t = `coarse_from`, where noise hides all but the layout, patches may be twice as wide, with a first and last layer
of their own: a quarter of the tokens there, in training and in sampling (PPFlow, arXiv:2506.23543).

Text enters as frozen token states in a fixed number of slots; an empty slot holds a learned vector, so no mask is
needed and the unconditional input is simply all slots empty. By joint attention the image's queries look at [text
keys; image keys] at once; by cross-attention at the text in a sub-layer of its own. Queries and keys are RMS-
normalised (arXiv:2302.05442) and image ones rotated by their place (RoPE over as many axes as the grid has,
arXiv:2104.09864).

One definition, two ways to run: `forward` for reading and training, nets/dit_sample.py for sampling, where all that
depends only on text or on t is computed once for all steps and the weights are packed (nets/fast.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import above, below, within
from genctl.nets import fast
from genctl.nets.conditions import Scalar, ScalarEmbedding, embedded, filled, slotted, time_features
from genctl.nets.heads import Heads, by_frame, head_norm, hidden, merge, norm, together
from genctl.nets.rotary import rotary, rotate

COARSE = 2  # how many patches wide a coarse one is


@dataclass(frozen=True)
class DiTConfig:
    width: Annotated[int, within(1, 1 << 16)] = 256
    depth: Annotated[int, within(1, 1024)] = 8
    heads: Annotated[int, within(1, 4096)] = 4
    patch: Annotated[int, within(1, 1024)] = 2
    coarse_from: Annotated[float, within(0, 1)] = 1.0  # t above which a patch is twice as wide; 1 = never
    mlp_ratio: Annotated[float, above(0, 64)] = 8 / 3  # of SwiGLU's hidden width, rounded up to a multiple of 64
    text: Literal["joint", "cross", "none"] = "joint"
    text_width: Annotated[int, within(1, 1 << 16)] = 384
    text_slots: Annotated[int, within(1, 4096)] = 16
    dropout: Annotated[float, below(1)] = 0.0  # within SwiGLU
    attention: Literal["full", "factorised"] = "full"  # of clips: between all places, or within frames and then in time
    skips: bool = False  # from each block of the first half to its mirror in the second, zero at the start
    scalars: tuple[Scalar, ...] = ()  # what the network is conditioned on beside t, for few steps

    @property
    def coarsest(self) -> int:
        """Cells of the widest patch's side."""
        return self.patch * (COARSE if self.coarse_from < 1 else 1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift, in one pass."""
    return torch.addcmul(shift, norm(x), 1 + scale)


class Block(Heads):
    """One transformer block over image tokens, with text keys and values."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, inner = config.width, inner_width(config)
        self.heads, self.text = config.heads, config.text
        self.qkv = hidden(width, width, 3)
        self.out = hidden(width, width)
        self.qk_scale = nn.Parameter(torch.ones(2, width // config.heads))  # of normalised queries and keys
        self.gate_up = hidden(width, inner, 2)
        self.down = hidden(inner, width)
        self.dropout = nn.Dropout(config.dropout)
        self.table = nn.Parameter(torch.zeros(6, width))  # added to the shared modulation
        if config.text != "none":
            self.text_kv = hidden(width, width, 2)
        if config.text == "cross":
            self.cross_q = hidden(width, width)
            self.cross_out = hidden(width, width)
        self.factorised = config.attention == "factorised"
        if self.factorised:
            self.time_qkv, self.time_out = hidden(width, width, 3), hidden(width, width)

    def forward(
        self, x: Tensor, modulation: Tensor, text: Tensor | None, table: Tensor, frames: int = 1
    ) -> Tensor:  # fmt: skip
        """x [B, N, D] frame by frame, modulation [B, 6, D], text [B, L, D], rotary table [2, N, d] -> [B, N, D]."""
        rows = (modulation + self.table).to(x.dtype)[:, :, None]  # [B, 6, 1, D]
        shift1, scale1, gate1, shift2, scale2, gate2 = rows.unbind(1)
        q, k, v = self.split(self.qkv(modulate(x, shift1, scale1)), 3)
        scale = self.qk_scale.to(q.dtype)
        q = rotate(head_norm(q) * scale[0], table)
        k = rotate(head_norm(k) * scale[1], table)
        if self.factorised:
            q, k, v = (by_frame(part, frames) for part in (q, k, v))
        if text is not None and self.text == "joint":
            text_k, text_v = (part.repeat_interleave(len(k) // len(part), 0) for part in self.text_keys(text))
            k, v = torch.cat([text_k, k], 2), torch.cat([text_v, v], 2)
        attended = fast.attention(q, k, v)
        x = x + gate1 * self.out(merge(together(attended, frames) if self.factorised else attended))
        if self.factorised:
            x = x + self.in_time(x, table, frames, self.time_qkv, self.time_out)
        if text is not None and self.text == "cross":
            (q,) = self.split(self.cross_q(norm(x)), 1)
            x = x + self.cross_out(merge(fast.attention(head_norm(q) * scale[0], *self.text_keys(text))))
        gate, up = self.gate_up(modulate(x, shift2, scale2)).chunk(2, -1)
        return x + gate2 * self.down(self.dropout(F.silu(gate) * up))


def inner_width(config: DiTConfig) -> int:
    return math.ceil(config.mlp_ratio * config.width / 64) * 64


class Cut(NamedTuple):
    """How x is cut into tokens and put together: patches of `patch` cells a side, which is `step` times the finest."""

    patch: int
    step: int
    embed: nn.Linear
    last: nn.Linear


class DiT(nn.Module):
    """x_t [B, C, *grid], t [B], text states [B, L, T], whether a slot holds text [B, L], pooled [B, T] -> like x_t."""

    def __init__(self, config: DiTConfig, channels: int, axes: int = 2) -> None:
        super().__init__()
        width, self.axes = config.width, axes
        if width % config.heads or (width // config.heads) % 2:
            raise ValueError(f"net.width {width} does not divide into {config.heads} heads of even width")
        self.config, self.channels = config, channels
        numbers = channels * config.patch**2
        self.embed = nn.Linear(numbers, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.skips = nn.ModuleList(hidden(width, width) for _ in range(config.depth // 2 if config.skips else 0))
        self.last_table = nn.Parameter(torch.zeros(2, width))
        self.last = nn.Linear(width, numbers)
        if config.coarse_from < 1:
            self.coarse_embed = nn.Linear(COARSE**2 * numbers, width)
            self.coarse_last = nn.Linear(width, COARSE**2 * numbers)
        self.scalars = nn.ModuleList(ScalarEmbedding(width) for _ in config.scalars)
        if config.text != "none":
            self.text_in = nn.Linear(config.text_width, width)
            self.pooled_in = nn.Linear(config.text_width, width)
            self.empty_slot = nn.Parameter(torch.empty(config.text_slots, config.text_width))
            nn.init.normal_(self.empty_slot, std=0.02)
            self.empty_pooled = nn.Parameter(torch.zeros(config.text_width))
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for all matrices; blocks start as the identity and the output at zero (adaLN-zero)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in (self.modulation, *self.skips, *(self.cut(coarse).last for coarse in self.cuts())):
            nn.init.zeros_(layer.weight)
        for block in self.blocks:
            if isinstance(block, Block) and block.text == "cross":
                nn.init.zeros_(block.cross_out.weight)
            if isinstance(block, Block) and block.factorised:
                nn.init.zeros_(block.time_out.weight)
        for module in self.modules():
            if isinstance(module, ScalarEmbedding):
                nn.init.zeros_(module.last.weight)

    # patches ---------------------------------------------------------------------------------------------------------
    def cuts(self) -> tuple[bool, ...]:
        """The ways to cut x: fine, and coarse where there is that."""
        return (False, True) if self.config.coarse_from < 1 else (False,)

    def cut(self, coarse: bool = False) -> Cut:
        if coarse:
            return Cut(COARSE * self.config.patch, COARSE, self.coarse_embed, self.coarse_last)
        return Cut(self.config.patch, 1, self.embed, self.last)

    def grid(self, x: Tensor, patch: int | None = None) -> tuple[int, ...]:
        """Tokens along each axis; only the last two are cut into patches."""
        patch = patch or self.config.patch
        return (*x.shape[2:-2], x.shape[-2] // patch, x.shape[-1] // patch)

    def patchify(self, x: Tensor, patch: int | None = None) -> Tensor:
        """[B, C, H, W] (or [B, C, T, H, W]) -> [B, N, patch^2 C]."""
        patch = patch or self.config.patch
        rows, columns = self.grid(x, patch)[-2:]
        x = x.reshape(*x.shape[:-2], rows, patch, columns, patch)  # B C (T) h p w p
        order = (0, *range(2, self.axes), self.axes, self.axes + 2, self.axes + 1, self.axes + 3, 1)
        return x.permute(order).reshape(x.shape[0], -1, patch * patch * self.channels)

    def unpatchify(self, tokens: Tensor, grid: tuple[int, ...], patch: int | None = None) -> Tensor:
        """The inverse of `patchify`."""
        patch, extra, batch = patch or self.config.patch, len(grid) - 2, tokens.shape[0]
        x = tokens.reshape(batch, *grid, patch, patch, self.channels)  # B (T) h w p p C
        last = 1 + extra
        x = x.permute(0, last + 4, *range(1, last), last, last + 2, last + 1, last + 3)
        return x.reshape(batch, self.channels, *grid[:-2], grid[-2] * patch, grid[-1] * patch)

    def inner(self) -> list[tuple[nn.Module, int]]:
        """Layers whose output [B, N, D] serves as features, and D: after a quarter, half, three quarters and all."""
        places = sorted({max(0, math.ceil(len(self.blocks) * part / 4) - 1) for part in (1, 2, 3, 4)})
        return [(self.blocks[place], self.config.width) for place in places]

    # conditions ------------------------------------------------------------------------------------------------------
    def text_tokens(self, states: Tensor, present: Tensor) -> Tensor:
        """States [B, L, T] and which slots hold text [B, L] -> tokens [B, L, D]; the others get learned vectors."""
        return norm(self.text_in(slotted(states, present, self)))

    def condition(
        self, t: Tensor, pooled: Tensor | None, present: Tensor | None, scalars: Tensor | None = None
    ) -> Tensor:
        """t [B], pooled text [B, T] and scalars [B, S] -> c [B, D]; a row without any text gets the learned empty
        vector."""
        c = self.time(time_features(t).to(self.embed.weight.dtype)) + embedded(self.scalars, scalars)
        return F.silu(c if pooled is None or present is None else c + self.pooled_in(filled(pooled, present, self)))

    def forward(
        self, x: Tensor, t: Tensor, states: Tensor | None = None, present: Tensor | None = None,
        pooled: Tensor | None = None, scalars: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        given = (x, t, states, present, pooled, scalars)
        coarse = t > self.config.coarse_from
        if self.config.coarse_from == 1 or not coarse.any():
            return self._of_cut(self.cut(), *given)
        if coarse.all():
            return self._of_cut(self.cut(coarse=True), *given)
        rows = [(~coarse).nonzero()[:, 0], coarse.nonzero()[:, 0]]
        parts = [
            self._of_cut(self.cut(kind), *(None if one is None else one[where] for one in given))  # type: ignore[arg-type]
            for kind, where in zip(self.cuts(), rows, strict=True)
        ]
        return torch.cat(parts)[torch.cat(rows).argsort()]

    def _of_cut(
        self, cut: Cut, x: Tensor, t: Tensor, states: Tensor | None, present: Tensor | None, pooled: Tensor | None,
        scalars: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """`forward` of rows whose x is cut alike."""
        grid, depth = self.grid(x, cut.patch), self.config.width // self.config.heads
        frames = grid[0] if self.axes == 3 else 1
        tokens = cut.embed(self.patchify(x, cut.patch))  # [B, N, D]
        c = self.condition(t, pooled, present, scalars)  # [B, D]
        modulation = self.modulation(c).view(-1, 6, self.config.width)  # [B, 6, D]
        text = self.text_tokens(states, present) if states is not None and present is not None else None
        table = rotary(grid, depth, x.device, step=cut.step).to(tokens.dtype)
        kept: list[Tensor] = []
        for place, block in enumerate(self.blocks):
            if place < len(self.skips):
                kept.append(tokens)
            elif place >= len(self.blocks) - len(self.skips):
                tokens = tokens + self.skips[len(kept) - 1](norm(kept.pop()))
            tokens = block(tokens, modulation, text, table, frames)
        shift, scale = (self.last_table.to(tokens.dtype) + c[:, None].to(tokens.dtype)).chunk(2, 1)
        return self.unpatchify(cut.last(modulate(tokens, shift, scale)), grid, cut.patch)
