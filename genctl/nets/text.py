"""A small frozen text encoder: all-MiniLM-L6-v2, a 6-layer BERT of width 384 (arXiv:2002.10957, 1908.10084).

Gives one state a token, for attention, and their mean as one unit vector, for modulation. Its matrices are stored as
int8 with one scale a row (a quarter of the size; what that costs is in weights/minilm.md) and used in float32; of the
words only those of a text are taken from int8. The tokeniser's JSON travels in the header of the same file, under
`tokenizer`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.errors import ModelError

WIDTH, HEADS, LAYERS, HIDDEN, POSITIONS, VOCABULARY = 384, 12, 6, 1536, 512, 30522
EPSILON = 1e-12  # of the layer norms
SCALE = ".scale"  # ending of the name that holds a quantised matrix' row scales
WORDS = "words.weight"
SMALLEST_SCALE = 2.0**-24  # the least positive fp16


class Layer(nn.Module):
    """Post-norm transformer layer, x [B, L, 384]: x = norm(x + attention(x)); x = norm(x + mlp(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, count, _ = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, HEADS, -1).permute(2, 0, 3, 1, 4)  # each [B, H, L, 32]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # [B, H, L, 32]
        x = self.norm1(x + self.out(mixed.transpose(1, 2).flatten(2)))  # [B, L, 384]
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Rows(nn.Module):
    """A table whose rows stay int8 [N, K] with one fp16 scale each: of the vocabulary a text needs few, and all of them
    in float32 would be half of the encoder's memory. ids [...] -> rows [..., K] float32."""

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.codes, self.scale = nn.Buffer(codes, persistent=False), nn.Buffer(scale, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.codes[ids].float() * self.scale[ids].float()[..., None]


class TextEncoder(nn.Module):
    """ids [B, L] int64, mask [B, L] bool (True = a token), L <= 512 -> states [B, L, 384], pooled [B, 384].

    `pooled` is the mean over a text's tokens, of unit length: its dot products are cosines. States of padding are
    meaningless. The model was trained on at most 256 tokens; 64 hold any caption.
    """

    def __init__(self) -> None:
        super().__init__()
        # from zeros: drawing 12 million random numbers that loading replaces would take longer than loading
        self.words = nn.Embedding.from_pretrained(torch.zeros(VOCABULARY, WIDTH), freeze=False)
        self.positions = nn.Embedding(POSITIONS, WIDTH)  # the single token type's vector is added to it
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        words = self.words(ids).to(self.positions.weight.dtype)
        x = self.norm(words + self.positions.weight[: ids.shape[1]])  # [B, L, 384]
        for layer in self.layers:
            x = layer(x, mask)
        weights = mask[..., None].to(x.dtype)
        mean = (x * weights).sum(1) / weights.sum(1).clamp(min=1)
        return x, F.normalize(mean, dim=-1)


class Tokenizer:
    """WordPiece (lower case, accents stripped) by the `tokenizers` library, from its JSON text. Raises ModelError."""

    def __init__(self, document: str) -> None:
        from tokenizers import Tokenizer as Fast

        try:
            self.fast = Fast.from_str(document)
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"the tokeniser in the text encoder's file cannot be read ({error})") from None
        self.fast.no_padding()
        self.fast.no_truncation()

    def encode(self, texts: list[str], max_tokens: int = 64) -> tuple[Tensor, Tensor, list[bool]]:
        """ids [B, L] int64, mask [B, L] bool padded to the longest text, and which texts were cut to `max_tokens`.

        `max_tokens` counts the two end marks. Any text is taken: what has no word piece becomes [UNK]; lone surrogates
        (as from a badly encoded command line) become "?".
        """
        if not 2 <= max_tokens <= POSITIONS:
            raise ValueError(f"max_tokens is {max_tokens}; it must be 2 to {POSITIONS}")
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        rows = [encoding.ids for encoding in self.fast.encode_batch(clean)]
        cut = [len(row) > max_tokens for row in rows]
        rows = [row[: max_tokens - 1] + row[-1:] if long else row for row, long in zip(rows, cut, strict=True)]
        longest = max(map(len, rows), default=0)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long)
        mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows], dtype=torch.bool)
        return ids.view(len(texts), longest), mask.view(len(texts), longest), cut


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix [N, K] as int8 [N, K] and one fp16 scale a row [N]; each weight is within half a scale of int8 * scale.

    That holds for rows whose largest weight is above 0.008; for less, the scale is no longer exact to 11 bits in fp16.
    A row of zeros stays zero.
    """
    scale = (weight.abs().amax(1) / 127).clamp(min=SMALLEST_SCALE).half()
    return (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def dequantise(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors of a stored file: int8 matrices times their row scales; the others as they are."""
    dense = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        dense[name] = tensor.float() if scale is None else tensor.float() * scale.float()[:, None]
    return dense


def load_text_encoder(tensors: dict[str, Tensor]) -> TextEncoder:
    """The encoder from a file's tensors (see examples/weights/minilm.py), in float32, frozen. Raises ModelError."""
    encoder = TextEncoder()
    if WORDS + SCALE in tensors:
        tensors = dict(tensors)
        encoder.words = Rows(tensors.pop(WORDS), tensors.pop(WORDS + SCALE))
    try:
        encoder.load_state_dict(dequantise(tensors), assign=True)
    except (RuntimeError, KeyError) as error:
        raise ModelError(f"these are not the text encoder's tensors: {error}") from None
    return encoder.requires_grad_(False).eval()
