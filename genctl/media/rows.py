"""Whether a PNG holds all its rows: Pillow takes one whose data end early for whole, the rest black."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from genctl.errors import InputError

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PIECE = 1 << 20
MOST = 1 << 30


def check_rows(chunks: Iterable[bytes], name: str) -> None:
    """Go through the raw parts of a PNG (as `png_chunks` gives them) and raise InputError, naming `name`, where its
    data unpack to fewer rows than its header claims. Nothing is held but a piece of 1 MiB."""
    wanted, got = 0, 0
    unpacker = zlib.decompressobj()
    for chunk in chunks:
        if chunk[4:8] == b"IHDR" and not wanted:
            wanted = bytes_of(chunk[8:-4])
        elif chunk[4:8] == b"IDAT" and got < wanted and not unpacker.eof:
            try:
                got += _unpacked(unpacker, chunk[8:-4], wanted - got)
            except zlib.error:
                wanted = 0  # the decoder says it better
    if got < wanted:
        raise InputError(f"{name}: a damaged picture (its data hold {got:,} of {wanted:,} bytes of its rows)")


def _unpacked(unpacker: Any, data: bytes, most: int) -> int:
    """How many bytes a part of the data unpacks to, or `most` or a little more."""
    got = 0
    while data and got < most:
        got += len(unpacker.decompress(data, PIECE))
        data = unpacker.unconsumed_tail
    return got


def bytes_of(header: bytes) -> int:
    """How many bytes the rows of a PNG unpack to, by its IHDR; 0 for one that makes no sense, or is too large to be
    read anyway."""
    if len(header) != 13 or header[9] not in CHANNELS or header[12] > 1:
        return 0
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = CHANNELS[header[9]] * header[8]
    passes = ADAM7 if header[12] else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes]
    total = sum(tall * (1 + (wide * bits + 7) // 8) for wide, tall in sides if wide > 0 and tall > 0)
    return total if total <= MOST else 0
