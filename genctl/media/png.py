"""PNG framing: the parts of one PNG out of a stream, each checked by its CRC, without reading a byte beyond IEND.

Pillow takes a PNG without its last bytes for whole, and on a pipe swallows everything that follows the first picture.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from typing import IO

from genctl.errors import InputError

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
MOST_TEXT = 4 << 20  # bytes of one of its texts that are read
MOST_BYTES = 1 << 28  # of one PNG (256 MiB); a stream that claims more would fill the memory


def png_chunks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The raw parts of one PNG, signature first and IEND last. Nothing at the end of the stream.

    An ancillary part with a wrong checksum (text, a profile, a date) is left out: it is not the picture. Raises
    InputError, naming `name`, for anything but a whole picture.
    """
    start = read_exactly(stream, 8)
    if not start:
        return
    if start != PNG_START:
        if PNG_START.startswith(start):
            raise InputError(f"{name}: cut off within the PNG")
        raise InputError(f"{name}: not a PNG ({first_bytes(start)}); a picture stream is PNG after PNG")
    yield start
    kind, total = b"", len(start)
    while kind != b"IEND":
        head = read_exactly(stream, 8)
        if len(head) < 8:
            raise InputError(f"{name}: cut off within the PNG")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        total += length + 12
        if total > MOST_BYTES:
            raise InputError(f"{name}: a PNG of more than {MOST_BYTES >> 20} MiB, or a damaged one")
        body = read_exactly(stream, length + 4)
        if len(body) < length + 4:
            raise InputError(f"{name}: cut off within the PNG")
        if zlib.crc32(body[:-4], zlib.crc32(kind)) != int.from_bytes(body[-4:], "big"):
            if ancillary(kind):
                continue
            raise InputError(f"{name}: a damaged PNG (wrong checksum in its {kind.decode('ascii', 'replace')!r} part)")
        yield head + body


def ancillary(kind: bytes) -> bool:
    """Whether a part may be left out of a PNG (its name begins with a small letter), transparency not among them."""
    return kind[:1].islower() and kind.isalpha() and kind != b"tRNS"


def png_texts(data: bytes) -> dict[str, str]:
    """The texts of a PNG by their keys, those that can be read and have at most MOST_TEXT bytes. Raises InputError."""
    found: dict[str, str] = {}
    for part in png_chunks(io.BytesIO(data), "PNG"):
        key, _, rest = part[8:-4].partition(b"\0")
        if part[4:8] in TEXT_READERS:
            with contextlib.suppress(ValueError, IndexError, zlib.error):
                found.setdefault(key.decode("latin-1"), TEXT_READERS[part[4:8]](rest))
    return found


def _plain_text(rest: bytes) -> str:
    return _short(rest).decode("latin-1")


def _packed_text(rest: bytes) -> str:
    return _unpacked(rest[1:]).decode("latin-1")


def _international_text(rest: bytes) -> str:
    body = rest[2:].split(b"\0", 2)[2]
    return (_unpacked(body) if rest[0] else _short(body)).decode()


TEXT_READERS = {b"tEXt": _plain_text, b"zTXt": _packed_text, b"iTXt": _international_text}


def _short(text: bytes) -> bytes:
    if len(text) > MOST_TEXT:
        raise ValueError
    return text


def _unpacked(body: bytes) -> bytes:
    return _short(zlib.decompressobj().decompress(body, MOST_TEXT + 1))


def read_exactly(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes, or fewer at the end of the stream; never asks for more, so a live pipe can be followed."""
    parts = bytearray()
    while len(parts) < count:
        part = stream.read(min(count - len(parts), 1 << 20))  # a claimed length alone allocates nothing
        if not part:
            break
        parts += part
    return bytes(parts)


def first_bytes(data: bytes) -> str:
    """How a file begins, for an error line: `first bytes 'hell...'`."""
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data[:4])
    return f"first bytes '{text}...'"
