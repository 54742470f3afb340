"""A transformer over a picture's tokens, in whatever order they are drawn.

    An element of its sequence knows something (a token, nothing, or features) and is asked for the token of one place.
    Elements come in blocks, and see their own block and those before it:

    raster   blocks of one element, which knows the token before            (GPT; LlamaGen, arXiv:2406.06525)
    masked   one block of all, which know their own token or nothing        (MaskGIT, arXiv:2202.04200)
    scale    a block a grid, which knows what the coarser grids draw        (VAR, arXiv:2404.02905)

    x     = what it knows + place asked for + pooled text                   shapes: B rows, M elements, L text slots
    block : x += attention(norm(x)), with RoPE by the place asked for       [x += attention(norm(x); text)]
            x += swiglu(norm(x))
    logits = linear(norm(x))                                                [B, M, V]

Text stands before the sequence as a block of its own, seen by all (prefix), or is met by cross-attention. RMS norms,
queries and keys normalised, as in nets/dit.py. For sampling with a cache see nets/gpt_sample.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import above, below, within
from genctl.nets.conditions import filled, slotted
from genctl.nets.heads import Heads, head_norm, hidden, merge, norm
from genctl.nets.rotary import rotate, turns

INIT = 0.02  # deviation of embeddings


@dataclass(frozen=True)
class GPTConfig:
    width: Annotated[int, within(1, 1 << 16)] = 256
    depth: Annotated[int, within(1, 1024)] = 8
    heads: Annotated[int, within(1, 4096)] = 4
    mlp_ratio: Annotated[float, above(0, 64)] = 8 / 3  # of SwiGLU's hidden width, rounded up to a multiple of 64
    text: Literal["prefix", "cross", "none"] = "prefix"
    text_width: Annotated[int, within(1, 1 << 16)] = 384
    text_slots: Annotated[int, within(1, 4096)] = 16
    dropout: Annotated[float, below(1)] = 0.1  # of what attention and SwiGLU add

    @property
    def prefix(self) -> int:
        """Elements that stand before the sequence."""
        return self.text_slots if self.text == "prefix" else 0


class Block(Heads):
    """One transformer block; `text` of cross-attention is [B, L, D]."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        inner = math.ceil(config.mlp_ratio * width / 64) * 64
        self.heads, self.text = config.heads, config.text
        self.qkv, self.out = hidden(width, width, 3), hidden(width, width)
        self.qk_scale = nn.Parameter(torch.ones(2, width // config.heads))  # of normalised queries and keys
        self.gate_up, self.down = hidden(width, inner, 2), hidden(inner, width)
        self.dropout = nn.Dropout(config.dropout)
        if config.text == "cross":
            self.cross_q, self.cross_out = hidden(width, width), hidden(width, width)
            self.text_kv = hidden(width, width, 2)

    def forward(self, x: Tensor, table: Tensor, sees: Tensor | None, text: Tensor | None) -> Tensor:
        """x [B, M, D], table of RoPE [2, B or 1, 1, M, d], which element sees which [M, M] -> [B, M, D]."""
        q, k, v = self.split(self.qkv(norm(x)), 3)
        scale = self.qk_scale.to(q.dtype)
        q, k = rotate(head_norm(q) * scale[0], table), rotate(head_norm(k) * scale[1], table)
        x = x + self.dropout(self.out(merge(F.scaled_dot_product_attention(q, k, v, sees))))
        if text is not None:
            (q,) = self.split(self.cross_q(norm(x)), 1)
            attended = F.scaled_dot_product_attention(head_norm(q) * scale[0], *self.text_keys(text))
            x = x + self.dropout(self.cross_out(merge(attended)))
        gate, up = self.gate_up(norm(x)).chunk(2, -1)
        return x + self.dropout(self.down(F.silu(gate) * up))


class GPT(nn.Module):
    """Elements [B, M, D], the places that they are asked for, their blocks, and a condition -> logits [B, M, V]."""

    places: Tensor

    def __init__(self, config: GPTConfig, codes: int, places: Tensor, features: int = 0) -> None:
        """codes: V; places: coordinates [N, 2] of all tokens, in cells; features: numbers of what an element of the
        order by scale knows (0: it knows a token)."""
        super().__init__()
        width = config.width
        if width % config.heads or (width // config.heads) % 4:
            raise ValueError(f"net.width {width} does not divide into {config.heads} heads of a multiple of 4 numbers")
        self.config, self.codes, self.count = config, codes, len(places)
        self.register_buffer("places", places.float(), persistent=False)
        self.embed = nn.Embedding(codes + 1, width)  # the last: nothing
        self.known_in = nn.Linear(features, width) if features else None
        self.known_at = nn.Embedding(self.count, width)  # where a known token is, which need not be where one is asked
        self.asked_at = nn.Embedding(self.count, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.last = nn.Linear(width, codes)
        if config.text != "none":
            self.text_in, self.pooled_in = (nn.Linear(config.text_width, width) for _ in range(2))
            self.empty_slot = nn.Parameter(torch.randn(config.text_slots, config.text_width) * INIT)
            self.empty_pooled = nn.Parameter(torch.zeros(config.text_width))
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for matrices, those that add to the stream less the deeper the net is; logits begin at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=INIT)
        with torch.no_grad():
            for block in self.blocks:
                for layer in (block.out, block.down, *([block.cross_out] if block.text == "cross" else [])):
                    layer.weight.mul_((2 * len(self.blocks)) ** -0.5)  # type: ignore[union-attr, operator]
        nn.init.zeros_(self.last.weight)

    # what elements know ----------------------------------------------------------------------------------------------
    def nothing(self, batch: int, count: int = 1) -> Tensor:
        return self.embed.weight[self.codes].expand(batch, count, -1)

    def token_known(self, tokens: Tensor, at: Tensor | None = None) -> Tensor:
        """Tokens [B, M], V for none, and the places [B, M] that they have where these are not those asked for."""
        return self.embed(tokens) if at is None else self.embed(tokens) + self.known_at(at)

    # conditions ------------------------------------------------------------------------------------------------------
    def text_tokens(self, states: Tensor, present: Tensor) -> Tensor:
        """States [B, L, T] and which slots hold text [B, L] -> [B, L, D]; the others get learned vectors."""
        return norm(self.text_in(slotted(states, present, self)))

    def whole(self, present: Tensor, pooled: Tensor) -> Tensor:
        """What the text says to every element [B, 1, D]."""
        return self.pooled_in(filled(pooled, present, self))[:, None]

    def table(self, at: Tensor, before: int) -> Tensor:
        """RoPE's table [2, B or 1, 1, before + M, d] of elements asked for places [B or 1, M], after some that are not
        turned."""
        depth = self.config.width // self.config.heads
        every = turns([*self.places.T], depth)  # [2, N, d]
        still = torch.stack([torch.ones(before, depth), torch.zeros(before, depth)]).to(every)
        return torch.cat([still[:, None].expand(-1, len(at), -1, -1), every[:, at]], 2)[:, :, None]

    def forward(
        self, known: Tensor, at: Tensor, blocks: Tensor, states: Tensor | None = None, present: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """known [B, M, D], places asked for [B or 1, M], blocks [M] that never fall -> logits [B, M, V]."""
        x, text, before = known + self.asked_at(at), None, 0
        if states is not None and present is not None and pooled is not None:
            x, text = x + self.whole(present, pooled), self.text_tokens(states, present)
            before = self.config.prefix and text.shape[1]
        if before:
            x, text = torch.cat([text, x], 1), None  # type: ignore[list-item]
            blocks = torch.cat([blocks.new_full((before,), int(blocks[0]) - 1), blocks])
        table = self.table(at, before).to(x.dtype)
        sees = blocks[:, None] >= blocks
        for block in self.blocks:
            x = block(x, table, None if bool(sees.all()) else sees, text)
        return self.last(norm(x[:, before:]))
