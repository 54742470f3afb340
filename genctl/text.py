"""Text from bytes, strictly: lines that end at \\n or \\r\\n alone, in UTF-8 (with a byte order mark or without) or in
UTF-16 that has one; and JSON of a bounded depth. Without torch.

What is no text is an InputError that names the file and the line, counted from 1, blank ones too. Nothing that comes
out holds a lone surrogate or a NUL, and no line is longer than 1 MiB.
"""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from genctl.errors import InputError

MOST_LINE = 1 << 20  # bytes
MOST_TEXT = 1 << 28  # bytes of a file
MOST_DEPTH = 32  # of JSON
JOINERS = "\u200c\u200d"  # invisible, within words of some scripts and within an emoji of several
PIECE = 1 << 16  # bytes that are read at once, at most
MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60


class Lines:
    """(number, text) of each line of a binary stream as soon as it has arrived, without its end. Errors of one line
    leave the iterator where the next line can be asked for.

    Raises InputError, naming `name`, for a line that is not text or too long, and where the stream cannot be read.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.read = getattr(stream, "read1", stream.read)  # what a live pipe has, without waiting for more
        self.name, self.number = name, 0
        self.held, self.ended = bytearray(), False
        self.encoding = ""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        if not self.encoding:
            self._begin()
        while (end := self._end_of_line()) < 0 and not self.ended and len(self.held) <= MOST_LINE:
            self._more()
        if end < 0 and self.ended and not self.held:
            raise StopIteration
        self.number += 1
        if end > MOST_LINE or (end < 0 and len(self.held) > MOST_LINE):
            self._skip()
            raise InputError(f"{self.where}: longer than {MOST_LINE:,} bytes; a line of text ends at a newline")
        return self.number, self._decoded(self._taken(end))

    @property
    def where(self) -> str:
        return f"{self.name}: line {self.number}"

    def _begin(self) -> None:
        """Find the encoding and drop its mark."""
        while not self.ended and any(mark.startswith(bytes(self.held)) for mark in MARKS if len(self.held) < len(mark)):
            self._more()
        mark = next((mark for mark in MARKS if self.held.startswith(mark)), b"")
        del self.held[: len(mark)]
        self.encoding = MARKS.get(mark, "utf-8")

    def _more(self) -> None:
        try:
            piece = self.read(PIECE)
        except OSError as error:
            self.ended = True
            raise InputError(f"{self.name}: cannot be read ({error.strerror})") from None
        self.held += piece
        self.ended = not piece

    def _end_of_line(self) -> int:
        """Where the first newline in hand begins, or -1."""
        newline = "\n".encode(self.encoding)
        place = self.held.find(newline)
        while place % len(newline) == 1 and place >= 0:  # half of one and half of the next character of UTF-16
            place = self.held.find(newline, place + 1)
        return place

    def _taken(self, end: int) -> bytes:
        """The line that ends there, removed from what is in hand; -1: all of it."""
        raw = bytes(self.held if end < 0 else self.held[:end])
        del self.held[: len(raw) + len("\n".encode(self.encoding))]
        return raw

    def _skip(self) -> None:
        """Drop the line in hand, without holding more of it than a piece."""
        while (end := self._end_of_line()) < 0 and not self.ended:
            del self.held[: len(self.held) // 2 * 2]
            self._more()
        self._taken(end)

    def _decoded(self, raw: bytes) -> str:
        try:
            text = raw.decode(self.encoding).removesuffix("\r").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            kind = self.encoding[:6].upper().rstrip("-")
            byte = f"byte 0x{raw[error.start]:02x} at {error.start + 1}"
            raise InputError(f"{self.where}: not {kind} text ({byte}); save it as UTF-8") from None
        if "\0" in text:
            raise InputError(f"{self.where}: holds a NUL character, so it is no text; save it as UTF-8")
        return text


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each line of a file of at most 256 MiB. Raises InputError that names the file and the line."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_TEXT:
                raise InputError(f"{path}: {size >> 20:,} MiB of text; at most {MOST_TEXT >> 20} MiB are read")
            yield from Lines(file, shown(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{shown(path)}: cannot be read ({reason})") from None


def parse_json(text: str, where: str) -> Any:
    """The value of one JSON document, nested at most 32 deep, each key once. Raises InputError that begins with
    `where`."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise InputError(f"{where} is JSON that is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error})") from None
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise InputError(f"{where} is JSON that is nested more than {MOST_DEPTH} deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{short(twice)} is given twice")
    return made


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def short(value: Any) -> str:
    """A value for an error line, cut where it is long."""
    return SHORT.repr(value)


def cut(text: str, most: int = 500) -> str:
    """An error line that repeats what a file says, at a length that can be read."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def clean(text: str) -> str:
    """Text that can be written: lone surrogates, as JSON's escapes and arguments that are no UTF-8 make them, become
    "?", and NULs go."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def lenient(data: bytes) -> str:
    """Text that is recorded and not worked with: UTF-8 or marked UTF-16, and what is neither is taken as Latin-1."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return clean(data[len(mark) :].decode(encoding, "replace"))
    with contextlib.suppress(UnicodeDecodeError):
        return clean(data.decode())
    return clean(data.decode("latin-1"))


def shown(path: Path | str) -> str:
    """A path as text: a name whose bytes are no UTF-8 is read as Latin-1."""
    return os.sep.join(_shown(part) for part in str(path).split(os.sep))


def _shown(part: str) -> str:
    try:
        part.encode()
        return part
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeEncodeError):
            return lenient(os.fsencode(part))
        return clean(part)


def printable(text: str, most: int | None = None) -> str:
    """Text of a file without what a terminal would obey, at most so many characters of it."""
    return "".join(mark if mark.isprintable() or mark in JOINERS else "?" for mark in text[:most])
