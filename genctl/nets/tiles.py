"""Convolutional networks over large pictures, a tile at a time: the same numbers up to rounding, in little memory.

A tile is taken with a margin as wide as the network sees, and only its middle is kept; at the picture's own edges
there is no margin, so that the network's padding is where it would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor


def tiled(net: Callable[[Tensor], Tensor], x: Tensor, tile: int, margin: int, ratio: float) -> Tensor:
    """net(x) for x [1, C, H, W], by tiles of `tile` rows and columns, which with `margin` are multiples of what the
    network divides by. The result [1, D, H r, W r] has `ratio` r of the rows and columns."""
    height, width = x.shape[-2:]
    made: Tensor | None = None
    for top, bottom in spans(height, tile):
        for left, right in spans(width, tile):
            above, before = min(margin, top), min(margin, left)
            part = net(x[..., top - above : bottom + margin, left - before : right + margin])
            rows, columns = (round(ratio * size) for size in (bottom - top, right - left))
            y, x_ = round(ratio * above), round(ratio * before)
            if made is None:
                made = part.new_empty(1, part.shape[1], round(ratio * height), round(ratio * width))
            place = made[..., round(ratio * top) :, round(ratio * left) :]
            place[..., :rows, :columns] = part[..., y : y + rows, x_ : x_ + columns]
    assert made is not None
    return made


def spans(size: int, tile: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the tiles of a side."""
    for start in range(0, size, tile):
        yield start, min(start + tile, size)
