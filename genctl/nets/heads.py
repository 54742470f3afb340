"""What transformer blocks share: norms, how rows fall into heads, and clips into frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.nets import fast
from genctl.nets.rotary import rotate


def norm(x: Tensor) -> Tensor:
    """RMS norm without a weight (with one, bf16 leaves the fast kernel)."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


def head_norm(x: Tensor) -> Tensor:
    """RMS norm over a head's few numbers. By hand: for such short rows F.rms_norm is 8 times slower in bf16 on CPUs."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x * torch.rsqrt(length.square() / x.shape[-1] + 1e-6).to(x.dtype)


def hidden(width: int, out: int, stacked: int = 1) -> nn.Linear:
    """A matrix within a block, or several of the same input stacked to run as one product; it says so (`stacked`) to
    optimisers that look at whole matrices."""
    layer = nn.Linear(width, stacked * out, bias=False)
    layer.stacked = stacked  # type: ignore[assignment]
    return layer


class Heads(nn.Module):
    """What transformer blocks share: how rows fall into heads, and what they make of a text."""

    heads: int
    text_kv: nn.Linear
    qk_scale: nn.Parameter

    def split(self, x: Tensor, parts: int) -> Tensor:
        """[B, N, parts D] -> [parts, B, heads, N, D / heads], contiguous (strided queries are slow to normalise)."""
        batch, count, _ = x.shape
        return x.view(batch, count, parts, self.heads, -1).permute(2, 0, 3, 1, 4).contiguous()

    def text_keys(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Text [B, L, D] -> keys (normalised, scaled) and values [B, heads, L, d]."""
        k, v = self.split(self.text_kv(text), 2)
        return head_norm(k) * self.qk_scale[1].to(k.dtype), v

    def in_time(
        self, x: Tensor, table: Tensor, frames: int, qkv: Callable[[Tensor], Tensor], out: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """What each place learns of itself in other frames, [B, N, D], by these matrices."""
        q, k, v = self.split(qkv(norm(x)), 3)
        scale = self.qk_scale.to(q.dtype)
        q, k = rotate(head_norm(q) * scale[0], table), rotate(head_norm(k) * scale[1], table)
        attended = fast.attention(*(by_place(part, frames) for part in (q, k, v)))
        places = x.shape[1] // frames
        return out(merge(attended.unflatten(0, (-1, places)).permute(0, 2, 3, 1, 4).flatten(2, 3)))


def by_frame(x: Tensor, frames: int) -> Tensor:
    """[B, heads, T S, d] -> [B T, heads, S, d]."""
    return x.unflatten(2, (frames, -1)).transpose(1, 2).flatten(0, 1)


def together(x: Tensor, frames: int) -> Tensor:
    """The inverse of `by_frame`."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2).flatten(2, 3)


def by_place(x: Tensor, frames: int) -> Tensor:
    """[B, heads, T S, d] -> [B S, heads, T, d]."""
    return x.unflatten(2, (frames, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)


def merge(x: Tensor) -> Tensor:
    """[B, heads, N, d] -> [B, N, heads d]."""
    return x.transpose(1, 2).flatten(2)
