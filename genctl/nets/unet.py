"""A U-Net for flows in pixel space (arXiv:2006.11239, 2105.05233, 2206.00364), with class, text or no condition.

    patches -> [blocks, down] a level -> blocks -> [up, blocks with skips] a level -> patches
    block   : x += conv(silu(norm(conv(silu(norm x))) (1 + scale) + shift))     scale, shift from t and the condition
    attention at coarse levels, over the level's cells and the condition's slots (joint attention, as in nets/dit.py)

Cutting the picture into patches of p x p first saves the full resolution, where convolutions cost most and say least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import below, within
from genctl.nets import fast
from genctl.nets.conditions import Scalar, ScalarEmbedding, embedded, filled, slotted, time_features
from genctl.nets.heads import head_norm, hidden, merge


@dataclass(frozen=True)
class UNetConfig:
    channels: Annotated[tuple[int, ...], within(1, 1 << 16)] = (64, 128, 256)  # one a level; each level halves the side
    blocks: Annotated[int, within(1, 256)] = 2  # a level, on the way down; one more on the way up
    attention: tuple[bool, ...] = (False, False, True)
    head: Annotated[int, within(1, 1 << 16)] = 64  # channels of an attention head
    patch: Annotated[int, within(1, 1024)] = 2
    text: Literal["joint", "none"] = "joint"  # whether there is a condition: text, or a class in one slot
    text_width: Annotated[int, within(1, 1 << 16)] = 384
    text_slots: Annotated[int, within(1, 4096)] = 16
    dropout: Annotated[float, below(1)] = 0.0
    scalars: tuple[Scalar, ...] = ()  # as of DiTConfig


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // 16), channels, eps=1e-5)


class Residual(nn.Module):
    """x [B, C, H, W] and c [B, E] -> [B, D, H, W]."""

    def __init__(self, inner: int, outer: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(inner), group_norm(outer)
        self.first = nn.Conv2d(inner, outer, 3, padding=1)
        self.second = nn.Conv2d(outer, outer, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outer)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        for kernel in (self.first, self.second):
            kernel.stacked = 1  # type: ignore[assignment]  # as of `hidden`: a matrix to optimisers that look at whole ones
        for parameter in (*self.second.parameters(), *self.modulation.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.modulation(c)[:, :, None, None].chunk(2, 1)
        h = self.first(F.silu(self.norm1(x)))
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.second(self.dropout(h))


class Attention(nn.Module):
    """Every cell of [B, C, H, W] looks at all cells and, where there is one, at the condition's slots [B, L, T]."""

    def __init__(self, channels: int, head: int, text_width: int | None) -> None:
        super().__init__()
        self.heads = max(1, channels // head)
        self.norm = group_norm(channels)
        self.qkv = hidden(channels, channels, 3)
        self.text_kv = hidden(text_width, channels, 2) if text_width else None
        self.qk_scale = nn.Parameter(torch.ones(2, channels // self.heads))
        self.out = hidden(channels, channels)
        nn.init.zeros_(self.out.weight)

    def split(self, tokens: Tensor, parts: int) -> Tensor:
        """[B, N, parts C] -> [parts, B, heads, N, C / heads]."""
        batch, count, _ = tokens.shape
        return tokens.view(batch, count, parts, self.heads, -1).permute(2, 0, 3, 1, 4).contiguous()

    def forward(self, x: Tensor, text: Tensor | None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]
        q, k, v = self.split(self.qkv(tokens), 3)
        if text is not None and self.text_kv is not None:
            text_k, text_v = self.split(self.text_kv(text), 2)
            k, v = torch.cat([text_k, k], 2), torch.cat([text_v, v], 2)
        scale = self.qk_scale.to(q.dtype)
        out = self.out(merge(fast.attention(head_norm(q) * scale[0], head_norm(k) * scale[1], v)))
        return x + out.transpose(1, 2).reshape(x.shape)


class Level(nn.Module):
    """A residual block, and attention after it where the level has any."""

    def __init__(self, inner: int, outer: int, embedding: int, attends: bool, config: UNetConfig) -> None:
        super().__init__()
        self.residual = Residual(inner, outer, embedding, config.dropout)
        width = config.text_width if config.text != "none" else None
        self.attention = Attention(outer, config.head, width) if attends else None

    def forward(self, x: Tensor, c: Tensor, text: Tensor | None) -> Tensor:
        x = self.residual(x, c)
        return x if self.attention is None else self.attention(x, text)


class UNet(nn.Module):
    """x_t [B, 3, H, W], t [B], states [B, L, T], present [B, L], pooled [B, T] -> like x_t; see DiT for the last three.

    H and W are multiples of patch * 2^(levels - 1). Raises ValueError for a configuration that fits nothing.
    """

    def __init__(self, config: UNetConfig, channels: int = 3) -> None:
        super().__init__()
        if not len(config.channels) == len(config.attention) > 0:
            raise ValueError("net.channels and net.attention want one entry a level each")
        if any(width % 16 for width in config.channels):
            raise ValueError(f"net.channels are {list(config.channels)}; they want multiples of 16")
        attending = [width for width, attends in zip(config.channels, config.attention, strict=True) if attends]
        attending.append(config.channels[-1])  # the middle attends too
        if config.head < 1 or any(width % max(1, width // config.head) for width in attending):
            raise ValueError(f"net.head is {config.head}; it wants to divide the channels {attending} that attend")
        self.config = config
        base, embedding = config.channels[0], 4 * config.channels[0]
        numbers = channels * config.patch**2
        self.time = nn.Sequential(nn.Linear(256, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.scalars = nn.ModuleList(ScalarEmbedding(embedding) for _ in config.scalars)
        if config.text != "none":
            self.pooled_in = nn.Linear(config.text_width, embedding)
            self.empty_slot = nn.Parameter(torch.empty(config.text_slots, config.text_width))
            nn.init.normal_(self.empty_slot, std=0.02)
            self.empty_pooled = nn.Parameter(torch.zeros(config.text_width))
        self.first = nn.Conv2d(numbers, base, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths, width = [base], base  # of what the way down leaves for the way up
        for level, (outer, attends) in enumerate(zip(config.channels, config.attention, strict=True)):
            for _ in range(config.blocks):
                self.down.append(Level(width, outer, embedding, attends, config))
                width = outer
                widths.append(width)
            if level < len(config.channels) - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                widths.append(width)
        self.middle = nn.ModuleList(Level(width, width, embedding, attends, config) for attends in (True, False))
        for level, outer in reversed(list(enumerate(config.channels))):
            for _ in range(config.blocks + 1):
                self.up.append(Level(width + widths.pop(), outer, embedding, config.attention[level], config))
                width = outer
            if level:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))
        self.last_norm = group_norm(width)
        self.last = nn.Conv2d(width, numbers, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def inner(self) -> list[tuple[nn.Module, int]]:
        """Layers whose output [B, D, H, W] serves as features, and D: the last of each level on the way down, and the
        middle."""
        levels = [layer for layer in self.down if isinstance(layer, Level)][
            self.config.blocks - 1 :: self.config.blocks
        ]
        return [*zip(levels, self.config.channels, strict=True), (self.middle[-1], self.config.channels[-1])]

    def condition(
        self, t: Tensor, pooled: Tensor | None, present: Tensor | None, scalars: Tensor | None = None
    ) -> Tensor:
        """t [B], the condition's vector [B, T] and scalars [B, S] -> c [B, E]; a row without any condition gets the
        learned empty one."""
        c = self.time(time_features(t).to(self.last.weight.dtype)) + embedded(self.scalars, scalars)
        return F.silu(c if pooled is None or present is None else c + self.pooled_in(filled(pooled, present, self)))

    def forward(
        self, x: Tensor, t: Tensor, states: Tensor | None = None, present: Tensor | None = None,
        pooled: Tensor | None = None, scalars: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        c, text = self.condition(t, pooled, present, scalars), None
        if states is not None and present is not None:
            text = slotted(states, present, self)
        x = self.first(F.pixel_unshuffle(x, self.config.patch))
        kept = [x]
        for layer in self.down:
            x = layer(x, c, text) if isinstance(layer, Level) else layer(x)
            kept.append(x)
        for layer in self.middle:
            x = layer(x, c, text)
        for layer in self.up:
            if isinstance(layer, Level):
                x = layer(torch.cat([x, kept.pop()], 1), c, text)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.last(F.silu(self.last_norm(x))), self.config.patch)
