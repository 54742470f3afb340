"""A codec's networks over clips: the picture codec's (nets/autoencoder.py) with a look into the past, and Wan 2.1's.

    encoder   frames [B, 1 + 4 n, 3, H, W]  ->  codes [B, 1 + n, d, H/8, W/8]       the decoder goes the other way

Causal: what a frame becomes depends on itself and on earlier frames alone, and the first one stands for itself, so that
a picture is a clip of one frame (arXiv:2310.05737, 2503.20314). A kernel over three frames is kept as its slice of the
present, which is a picture codec's own kernel, and its slices of the past, zero at the start and 3 x 3 or 1 x 1: as
long as only the latter are trained, a first frame has the picture codec's codes.

Every layer that looks back keeps its last frames in a `Memory`, so a clip may come in parts of any lengths that the
halving of time allows (1 frame, then multiples of 4): memory does not grow with the clip, and the result is the same.
Frames are rows of a batch for all that is done in space. Within this module a clip is [B, T, C, H, W].

Or every frame goes through the picture codec alone, and only the codes are put together, `fold` frames at a time: a
code of their mean, and further numbers for how they move. Nothing is lost to begin with but what those leave out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.nets.fold import Fold, Unfold
from genctl.nets.frames import KERNEL, Memory, each_frame, with_past


@dataclass(frozen=True)
class Kind:
    """How blocks are made."""

    norms: bool  # RMS norms over channels before activations
    activation: Callable[[Tensor], Tensor]
    shuffle: int  # factor of pixel (un)shuffling at the picture's end
    middle: bool  # two blocks with attention within a frame between, at the codes' end
    both_ends: bool  # whether a strided convolution sees zeros around the frame, else only right and below
    keeps: bool  # whether halving keeps the channels and blocks change them (else the other way round); doubling halves


KINDS = {
    "plain": Kind(False, F.relu, 2, False, True, False),
    "wan": Kind(True, F.silu, 1, True, False, True),
}
KindName = Literal["plain", "wan"]


class Conv(nn.Conv2d):
    """A convolution over the frame and, with a side of the `past`, over so much of the two frames before it."""

    def __init__(self, before: int, after: int, side: int = 3, past: int = 0) -> None:
        super().__init__(before, after, side, padding=side // 2)
        self.stacked = 1  # whole matrices to optimisers that look at such
        self.past = nn.Parameter(torch.zeros(KERNEL - 1, after, before, past, past)) if past else None

    def forward(self, x: Tensor, memory: Memory) -> Tensor:  # type: ignore[override]
        if self.past is None:
            return each_frame(super().forward, x)
        alone = self not in memory and x.shape[1] == 1
        long = with_past(x, self, memory)
        if alone:  # nothing to look back at: a picture, to the last bit
            return each_frame(super().forward, x)
        parts = [long[:, place : place + x.shape[1]] for place in range(KERNEL)]
        if self.past.shape[-1] == self.kernel_size[0]:
            kernel = torch.cat([*self.past, self.weight], 1)
            seen = torch.cat(parts, 2)
            return each_frame(lambda frames: F.conv2d(frames, kernel, self.bias, padding=self.padding), seen)
        kernel, seen = torch.cat([*self.past], 1), torch.cat(parts[:-1], 2)
        return each_frame(super().forward, x) + each_frame(lambda frames: F.conv2d(frames, kernel), seen)


class Norm(nn.Module):
    """RMS norm over channels, times a learned gain a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[-3]
        return F.normalize(x.float(), dim=-3).to(x.dtype) * channels**0.5 * self.gain[:, None, None]


class Block(nn.Module):
    """x + conv(f(conv(f(x)))), f being norm and activation; a 1 x 1 convolution of x where the channels change."""

    def __init__(self, before: int, after: int, kind: Kind, past: int) -> None:
        super().__init__()
        self.activation = kind.activation
        self.first, self.second = Conv(before, after, 3, past), Conv(after, after, 3, past)
        self.norms = nn.ModuleList(Norm(channels) for channels in ((before, after) if kind.norms else ()))
        self.shortcut = Conv(before, after, 1) if before != after else None

    def _prepared(self, x: Tensor, place: int) -> Tensor:
        return self.activation(self.norms[place](x) if len(self.norms) else x)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        kept = x if self.shortcut is None else self.shortcut(x, memory)
        x = self.first(self._prepared(x, 0), memory)
        return kept + self.second(self._prepared(x, 1), memory)


class Attention(nn.Module):
    """Of a frame's places to each other, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return x + each_frame(self._attended, self.norm(x))

    def _attended(self, frames: Tensor) -> Tensor:
        q, k, v = self.qkv(frames).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(frames.shape))


@torch.no_grad()
def _begin(time: nn.Conv2d, last: Tensor) -> None:
    """Of a layer over three frames: what it makes of the last one [C', C], and nothing of the others."""
    nn.init.zeros_(time.weight)
    nn.init.zeros_(time.bias)  # type: ignore[arg-type]
    time.stacked = 1  # type: ignore[assignment]
    time.weight[:, -last.shape[1] :, 0, 0] += last


class Halved(nn.Module):
    """Half the side, by a strided convolution; with `time` half as many frames as well: the first one, then one of
    every two, made of three (these and the one before)."""

    def __init__(self, before: int, after: int, kind: Kind, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv2d(before, after, 3, stride=2, padding=int(kind.both_ends))
        self.space.stacked = 1  # type: ignore[assignment]
        self.pads = (0, 0, 0, 0) if kind.both_ends else (0, 1, 0, 1)
        self.time = nn.Conv2d(KERNEL * after, after, 1) if time else None
        if self.time is not None:  # at the start the last of the three
            _begin(self.time, torch.eye(after))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        x = each_frame(lambda frames: self.space(F.pad(frames, self.pads) if any(self.pads) else frames), x)
        if self.time is None:
            return x
        first = self not in memory
        head, rest = (x[:, :1], x[:, 1:]) if first else (x[:, :0], x)
        long = torch.cat([head if first else memory[self], rest], 1)
        memory[self] = x[:, -1:]
        if not rest.shape[1]:
            return head
        three = torch.cat([long[:, :-2:2], long[:, 1:-1:2], long[:, 2::2]], 2)
        return torch.cat([head, each_frame(self.time, three)], 1)


class Doubled(nn.Module):
    """Twice the side, by repeating and a convolution; with `time` twice as many frames as well, except the first: each
    becomes two, by a look at the two before it, of which the first frame is none."""

    def __init__(self, before: int, after: int, time: bool) -> None:
        super().__init__()
        self.space = nn.Conv2d(before, after, 3, padding=1)
        self.space.stacked = 1  # type: ignore[assignment]
        self.time = nn.Conv2d(KERNEL * before, 2 * before, 1) if time else None
        if self.time is not None:  # at the start the frame itself, twice
            _begin(self.time, torch.eye(before).repeat(2, 1))

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        if self.time is not None:
            x = self._twice(x, memory, self.time)
        return each_frame(lambda frames: self.space(F.interpolate(frames, scale_factor=2.0)), x)

    def _twice(self, x: Tensor, memory: Memory, time: nn.Conv2d) -> Tensor:
        first = self not in memory
        head, rest = (x[:, :1], x[:, 1:]) if first else (x[:, :0], x)
        if first:
            memory[self] = torch.zeros_like(x[:, :1]).repeat(1, KERNEL - 1, 1, 1, 1)
        if not rest.shape[1]:
            return head
        long = with_past(rest, self, memory)
        three = torch.cat([long[:, place : place + rest.shape[1]] for place in range(KERNEL)], 2)
        pairs = each_frame(time, three).unflatten(2, (2, -1))  # [B, T, 2, C, H, W]
        return torch.cat([head, pairs.flatten(1, 2)], 1)


class Last(nn.Module):
    """f(x), then a convolution."""

    def __init__(self, before: int, after: int, kind: Kind, past: int) -> None:
        super().__init__()
        self.activation = kind.activation
        self.norm = Norm(before) if kind.norms else None
        self.conv = Conv(before, after, 3, past)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        return self.conv(self.activation(x if self.norm is None else self.norm(x)), memory)


def middle(channels: int, shape: Shape) -> list[nn.Module]:
    kind, past = shape.kind, shape.pasts[-1]
    if not kind.middle:
        return []
    return [Block(channels, channels, kind, past), Attention(channels), Block(channels, channels, kind, past)]


@dataclass(frozen=True)
class Shape:
    """Of both networks: channels and blocks by level, the picture's end first; between two levels the side is halved,
    and where `times` says so the number of frames as well. `pasts`: the side of a level's kernels in earlier frames, 0
    where it sees none, 1 or 3. `fold`: frames whose codes are put together, into one with `further` channels more."""

    channels: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    times: tuple[bool, ...]
    pasts: tuple[int, ...]
    kind: Kind
    fold: int = 1
    further: int = 0

    @property
    def period(self) -> int:
        """Frames of a code cell, beside the first."""
        return 2 ** sum(self.times) * self.fold

    @property
    def apart(self) -> bool:
        """Whether each frame goes through the networks alone, up to its code."""
        return not any(self.times) and not any(self.pasts)


class Encoder(nn.Module):
    """Frames [B, T, 3, H, W] in [-1, 1], T being 1 + a multiple of the period at first and a multiple of it then
    -> means and log-variances, one after another, [B, t, 2 d, h, w]."""

    def __init__(self, shape: Shape, latent: int) -> None:
        super().__init__()
        kind, before = shape.kind, shape.channels[0]
        self.shuffle = kind.shuffle
        layers: list[nn.Module] = [Conv(3 * kind.shuffle**2, before, 3, shape.pasts[0])]
        for level, (width, count) in enumerate(zip(shape.channels, shape.encoder_blocks, strict=True)):
            if level:
                narrow = before if kind.keeps else width
                layers.append(Halved(before, narrow, kind, shape.times[level - 1]))
                before = narrow
            for _ in range(count):
                layers.append(Block(before, width, kind, shape.pasts[level]))
                before = width
        layers += middle(before, shape)
        past = shape.pasts[-1]
        layers.append(Last(before, 2 * latent, kind, past) if kind.norms else Conv(before, 2 * latent, 3, past))
        self.layers = nn.ModuleList(layers)
        self.mix = Conv(2 * latent, 2 * latent, 1) if kind.middle else None
        self.fold = Fold(latent, shape.further, shape.fold) if shape.fold > 1 else None

    def forward(self, clips: Tensor, memory: Memory) -> Tensor:
        x = each_frame(lambda frames: F.pixel_unshuffle(frames, self.shuffle), clips)
        for layer in self.layers:
            x = layer(x, memory)
        x = x if self.mix is None else self.mix(x, memory)
        return x if self.fold is None else self.fold(x, memory)


class Decoder(nn.Module):
    """Codes [B, t, d, h, w] -> frames [B, T, 3, H, W], not clamped."""

    def __init__(self, shape: Shape, latent: int) -> None:
        super().__init__()
        kind, before = shape.kind, shape.channels[-1]
        self.shuffle = kind.shuffle
        self.unfold = Unfold(latent, shape.further, shape.fold) if shape.fold > 1 else None
        self.mix = Conv(latent, latent, 1) if kind.middle else None
        layers: list[nn.Module] = [Conv(latent, before, 3, shape.pasts[-1]), *middle(before, shape)]
        for level in reversed(range(len(shape.channels))):
            for _ in range(shape.decoder_blocks[level]):
                layers.append(Block(before, shape.channels[level], kind, shape.pasts[level]))
                before = shape.channels[level]
            if level:
                after = before // 2 if kind.keeps else shape.channels[level - 1]
                layers.append(Doubled(before, after, shape.times[level - 1]))
                before = after
        self.layers = nn.ModuleList([*layers, Last(before, 3 * kind.shuffle**2, kind, shape.pasts[0])])

    def forward(self, codes: Tensor, memory: Memory, chosen: slice = slice(None)) -> Tensor:
        """Of all frames or, where each is decoded alone (`Shape.apart`), of those chosen."""
        x = (codes if self.unfold is None else self.unfold(codes, memory))[:, chosen]
        x = x if self.mix is None else self.mix(x, memory)
        for layer in self.layers:
            x = layer(x, memory)
        return each_frame(lambda frames: F.pixel_shuffle(frames, self.shuffle), x)
